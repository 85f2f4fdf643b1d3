"""An HTTP peer that answers byte for byte what a test wrote, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from muster.runtime.connections import Connections


@dataclass(frozen=True)
class Asked:
    """One request as it came over the wire; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedPeer:
    """Each connection carries one exchange. `stays_open`: after the scripted bytes the peer says nothing more."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def answer(status: int, body: bytes = b"", *headers: str, content_type: str = "application/json") -> bytes:
    """A whole HTTP/1.1 answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


@asynccontextmanager
async def scripted_peer(answers: Sequence[bytes], *, stays_open: bool = False) -> AsyncIterator[ScriptedPeer]:
    """Serves `answers` in turn, the last one for ever, on a free port of 127.0.0.1."""
    peer = ScriptedPeer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer.asked.append(await _read_request(reader))
            writer.write(answers[min(len(peer.asked), len(answers)) - 1])
            await writer.drain()
            if stays_open:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    connections = Connections(serve)
    server = await asyncio.start_server(connections.accept, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        async with server:
            yield peer
    finally:
        await connections.close()


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body)
