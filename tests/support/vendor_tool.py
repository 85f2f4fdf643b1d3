"""A vendor tool that can be made to misbehave, behind a real WebSocket server."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

Behaviour = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


class FakeVendorTool:
    """Answers requests through `behaviour`; remembers them, and how many connections were opened and are open."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.requests: list[dict[str, Any]] = []
        self.opened = 0
        self.open: set[ServerConnection] = set()
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        """One connection, request after request."""
        self.opened += 1
        self.open.add(connection)
        try:
            async for text in connection:
                request = json.loads(text)
                self.requests.append(request)
                await self.behaviour(connection, request)
        except ConnectionClosed:
            return
        finally:
            self.open.discard(connection)

    async def all_hung_up(self) -> None:
        """Waits until no connection is open."""
        for connection in tuple(self.open):
            await connection.wait_closed()


@asynccontextmanager
async def vendor_tool(behaviour: Behaviour) -> AsyncIterator[FakeVendorTool]:
    """A running tool on a free port."""
    tool = FakeVendorTool(behaviour)
    async with serve(tool.handle, "127.0.0.1", 0, compression=None, close_timeout=1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        tool.url = f"ws://127.0.0.1:{port}/"
        yield tool


def answer(data: object = None, *, code: int = 10000, message: str = "SUCCESS") -> str:
    """The text of an answer."""
    return json.dumps({"code": code, "message": message, "data": data}, ensure_ascii=False)


async def echo(connection: ServerConnection, request: dict[str, Any]) -> None:
    """A healthy tool whose answer's data is the request itself."""
    await connection.send(answer(request))


async def never(connection: ServerConnection, request: dict[str, Any]) -> None:
    """Accepts and never answers."""
