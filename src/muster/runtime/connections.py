"""The connections of an asyncio server: each is served by a task, and closed when that ends, however it ends."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


class Connections:
    """Give `accept` to `asyncio.start_server`; `close` it when the server listens no more.

    A task that is cancelled before its first step comes to none of its own `finally`, and asyncio may hand over a
    connection when its server is closed already: so what closes connections is here, not in what serves them.
    """

    def __init__(self, serve: Serve, *, at_once_max: int | None = None) -> None:
        self._serve = serve
        self._at_once_max = at_once_max
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        """Those that are served."""
        return len(self._tasks)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begins to serve it; hangs up at once on one too many, or too late."""
        if self._is_closed or (self._at_once_max is not None and len(self._tasks) >= self._at_once_max):
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="connection")
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, writer))

    async def idle(self) -> None:
        """Waits until none is served."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Ends those that are served, and waits for that."""
        self._is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        writer.close()
