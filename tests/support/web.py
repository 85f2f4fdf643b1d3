"""An ASGI application behind a real uvicorn on a free loopback port, in a thread of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

T = TypeVar("T")


class WebServer:
    """`with` it. Ends the application's streams before uvicorn waits for its connections, as `muster backend` does."""

    def __init__(self, app: ASGIApp, *, port: int = 0, before_shutdown: Callable[[], Awaitable[None]]) -> None:
        config = uvicorn.Config(
            app, host="127.0.0.1", port=port, log_level="error", lifespan="on", timeout_graceful_shutdown=3
        )
        self._up = threading.Event()
        self._server = _Uvicorn(config, up=self._up, before_shutdown=before_shutdown)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)

    @property
    def port(self) -> int:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "WebServer":
        self._thread.start()
        assert self._up.wait(20), "the server did not come up"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not stop"

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the server's loop and returns its result."""
        assert self._server.loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._server.loop).result(20)


class _Uvicorn(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, *, up: threading.Event, before_shutdown: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._up = up
        self._before_shutdown = before_shutdown

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.loop = asyncio.get_running_loop()
        self._up.set()

    async def shutdown(self, sockets: Any = None) -> None:
        await self._before_shutdown()
        await super().shutdown(sockets)
