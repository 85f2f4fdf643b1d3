"""`/metrics` and `/healthz` on this PC's loopback: a few lines of HTTP/1.1, bounded in every direction.

Not the backend's web framework: it would cost the agent more memory than all its metrics. One request a connection,
of which the head is all that is read. A name other than this PC's own is refused: a web page may have bound its name
to loopback.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from muster.runtime.connections import Connections
from muster.runtime.logs import get_logger

log = get_logger()
HOST: Final = "127.0.0.1"
CONNECTIONS_MAX: Final = 8
HEAD_BYTES_MAX: Final = 8 * 1024
EXCHANGE_SEC_MAX: Final = 10.0
_REASONS: Final = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    503: "Service Unavailable",
}  # fmt: skip
_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[01]\r\n")
_HOST_HEADER: Final = re.compile(rb"(?im)^host:[ \t]*([!-~]*)[ \t]*\r$")
_OWN_NAMES: Final = re.compile(rb"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Ask = Callable[[], Awaitable[Page]]


class LoopbackServer:
    """Use as `async with`. `pages`: what is answered to GET and HEAD of each path."""

    def __init__(self, port: int, pages: Mapping[str, Ask], *, exchange_sec: float = EXCHANGE_SEC_MAX) -> None:
        self._wanted = port
        self._pages = pages
        self._exchange_sec = exchange_sec
        self._server: asyncio.Server | None = None
        # Whoever holds more connections than a scraper needs is not waited for.
        self._connections = Connections(self._serve, at_once_max=CONNECTIONS_MAX)

    async def __aenter__(self) -> "LoopbackServer":
        """Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._connections.accept, HOST, self._wanted, limit=HEAD_BYTES_MAX)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None, "it was opened"
        self._server.close()
        await self._connections.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it answers."""
        assert self._server is not None, "it was opened"
        return f"http://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._exchange_sec):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_encode(await self._answer(head), with_body=not head.startswith(b"HEAD ")))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("An exchange at the metrics port did not end well", error=str(error))
        finally:
            writer.transport.abort()

    async def _answer(self, head: bytes) -> Page:
        request, host = _REQUEST.match(head), _HOST_HEADER.search(head)
        if request is None:
            return Page(400, b"this is not HTTP/1.1\n")
        if host is None or not _OWN_NAMES.fullmatch(host[1]):
            return Page(403, b"ask for this PC by 127.0.0.1 or localhost\n")
        if request[1] not in (b"GET", b"HEAD"):
            return Page(405, b"GET and HEAD only\n")
        ask = self._pages.get(request[2].partition(b"?")[0].decode("ascii"))
        if ask is None:
            return Page(404, f"there are {', '.join(self._pages)}\n".encode())
        return await ask()


def _encode(page: Page, *, with_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {page.status} {_REASONS[page.status]}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(["Allow: GET, HEAD"] if page.status == 405 else []),
    ]
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    return head + page.body if with_body else head
