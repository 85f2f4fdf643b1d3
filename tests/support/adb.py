"""An adb server whose every answer is scripted, and what the tests of the real one need."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from muster.adb.client import AdbClient
from muster.runtime.connections import Connections

Script = Callable[["Peer"], Awaitable[object]]


class Peer:
    """The server's end of one connection. The connection is closed when the script returns."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def request(self) -> str:
        """The next length-prefixed request."""
        length = int(await self._reader.readexactly(4), 16)
        return (await self._reader.readexactly(length)).decode()

    async def expect(self, service: str, answer: bytes = b"OKAY") -> None:
        """Takes one request, which has to be this one, and answers it."""
        assert await self.request() == service
        self.send(answer)

    async def read(self, count: int) -> bytes:
        """Exactly `count` bytes of what follows the requests."""
        return await self._reader.readexactly(count)

    def send(self, data: bytes) -> None:
        """Answers."""
        self._writer.write(data)

    async def send_in_pieces(self, data: bytes, size: int = 1) -> None:
        """Answers so that the client sees `size` bytes at a time, as far as one process can arrange it."""
        for at in range(0, len(data), size):
            self._writer.write(data[at : at + size])
            await asyncio.sleep(0)

    async def send_all(self, data: bytes) -> None:
        """Answers, and waits while the client does not take more."""
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Hangs up rudely: a TCP reset, not an end of file."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self._writer.transport.abort()

    async def hangup(self) -> int:
        """Waits until the client is gone; gives how many bytes it still sent."""
        taken = 0
        while data := await self._reader.read(65536):
            taken += len(data)
        return taken


class ScriptedServer:
    """Listens on a free port; what a script's failed assertion said is raised when the server is left."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._server: asyncio.Server | None = None
        self._connections = Connections(self._run)
        self._errors: list[BaseException] = []
        self.port = 0
        self.connections = 0

    async def start(self) -> None:
        """Begins to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends scripts that still run; raises the first failed assertion of those that ran."""
        assert self._server is not None
        self._server.close()
        await self._connections.close()
        await self._server.wait_closed()
        if self._errors:
            raise self._errors[0]

    @property
    def open_count(self) -> int:
        """Connections whose script has not ended."""
        return len(self._connections)

    async def idle(self) -> None:
        """Waits until every connection's script has ended."""
        await self._connections.idle()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._connections.accept(reader, writer)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._script(Peer(reader, writer))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client hung up: what it made of that is asserted there
        except AssertionError as error:
            self._errors.append(error)


@asynccontextmanager
async def scripted_server(script: Script) -> AsyncIterator[ScriptedServer]:
    """A running scripted server."""
    server = ScriptedServer(script)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def scripted_client(script: Script) -> AsyncIterator[AdbClient]:
    """A client, with short limits, of a scripted server."""
    async with scripted_server(script) as server:
        yield AdbClient("127.0.0.1", server.port, reply_timeout_sec=5, open_timeout_sec=5)


@contextmanager
def dead_port() -> Iterator[int]:
    """A port of this machine on which nothing listens, kept from others meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that swallows connection attempts without a word: its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(16)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


def shell_packet(kind: int, payload: bytes) -> bytes:
    """A packet of shell,v2: 1 stdout, 2 stderr, 3 exit."""
    return bytes([kind]) + len(payload).to_bytes(4, "little") + payload
