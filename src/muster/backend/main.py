"""`muster backend`: the parts behind a socket, from ready to a graceful stop."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from muster.backend.api.app import create_app
from muster.backend.http_connection import BoundedHttp
from muster.backend.parts import BackendSettings, Parts, open_parts
from muster.recipe.seeds import seed_documents
from muster.runtime.logs import get_logger, masked_logs
from muster.runtime.masking import Mask

__all__ = ["BackendSettings", "serve"]

# Long polls and streams end by themselves at once; this is for a client that does not read its answer.
GRACEFUL_STOP_SEC: Final = 5
_log = get_logger()


async def serve(settings: BackendSettings, *, on_ready: Callable[[str], None]) -> None:
    """Runs until it is cancelled; then answers what is open, saves what is in memory, and ends.

    Raises OSError when the port is taken.
    """
    with masked_logs(Mask([settings.secret])), _listen(settings.host, settings.port) as listener:
        async with open_parts(settings, seeds=seed_documents()) as parts:
            ready = f"muster backend ready on {_url(settings.host, listener)}"
            server = _Server(parts, on_started=lambda: on_ready(ready))
            serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
            try:
                await asyncio.shield(serving)
            finally:
                server.should_exit = True
                await serving


class _Server(uvicorn.Server):
    """Uvicorn waits for open connections before it tells anybody that it stops: ours are told first."""

    def __init__(self, parts: Parts, on_started: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                create_app(parts),
                http=BoundedHttp,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACEFUL_STOP_SEC,
            )
        )
        self._parts = parts
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Ready means that connections are taken, not that they soon will be."""
        await super().startup(sockets)
        self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends long polls and streams, then the connections."""
        self._parts.bus.close()
        await self._parts.live.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to whoever runs us (`cli/service.py`): a stop comes as a cancellation."""
        yield


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would let two processes have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
