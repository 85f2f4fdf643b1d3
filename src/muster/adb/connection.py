"""One connection to the adb server. It is used for one request and aborted when its owner leaves, whatever happened."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from muster.adb.errors import AdbConnectionLost, AdbProtocolError, AdbServerGone
from muster.adb.protocol import Refused, ServerReplies, refusal, request

UNREAD_BYTES_MAX: Final = 1024 * 1024
"""Then the socket is left alone until its reader has caught up; one connection holds at most this and one piece."""


class _Pipe(asyncio.Protocol):
    """The two ends of a socket: pieces in, as they came and uncopied; bytes out, with the transport's flow control.

    `asyncio.StreamReader` would gather the pieces in one buffer and cut them out of it again: two copies of every
    screenshot, in fresh memory each time.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._ended = False
        self._lost = False
        self._error: Exception | None = None
        self._may_write = True
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        # By word, not by isinstance: uvloop's transports are no subclass of asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The next piece."""
        self._pieces.append(data)
        self._unread += len(data)
        if self._unread > UNREAD_BYTES_MAX >= self._unread - len(data):
            self.transport.pause_reading()
        _wake(self._arrival)

    def eof_received(self) -> bool:
        """The server says no more. Our side stays open: it is aborted by its owner."""
        self._ended = True
        _wake(self._arrival)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; what had come before can still be read."""
        self._ended, self._lost, self._error = True, True, exc
        _wake(self._arrival)
        _wake(self._room)

    def pause_writing(self) -> None:
        """The server takes no more for now."""
        self._may_write = False

    def resume_writing(self) -> None:
        """It does again."""
        self._may_write = True
        _wake(self._room)

    async def read(self) -> bytes:
        """The next piece; b"" at the end. Raises OSError when the connection broke."""
        if not self._pieces and not self._ended:
            self._arrival = self._loop.create_future()
            await self._arrival
        if not self._pieces:
            if self._error is not None:
                raise self._error
            return b""
        data, was_full = self._pieces.popleft(), self._unread > UNREAD_BYTES_MAX
        self._unread -= len(data)
        if was_full and self._unread <= UNREAD_BYTES_MAX and not self.transport.is_closing():
            self.transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Sends `data`, and waits while too much of it is on its way. Raises OSError when the connection broke."""
        self.transport.write(data)
        if not self._may_write and not self._lost:
            self._room = self._loop.create_future()
            await self._room
        if self._lost:
            raise self._error or ConnectionResetError("the other side hung up")


def _wake(waiter: "asyncio.Future[None] | None") -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class Connection:
    """Requests and replies in turn, then the raw bytes of the service that was opened."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self._replies = ServerReplies()

    async def ask(self, service: str) -> None:
        """Sends a request and waits for its OKAY; never pipelined, the server drops what comes too early (spec/10)."""
        self._pipe.transport.write(request(service))
        reply = self._replies.reply()
        while reply is None:
            self._replies.feed(await self._read_or_gone())
            reply = self._replies.reply()
        if isinstance(reply, Refused):
            raise refusal(reply.message)

    async def block(self) -> bytes:
        """The next hex-length block."""
        block = self._replies.block()
        while block is None:
            self._replies.feed(await self._read_or_gone())
            block = self._replies.block()
        return block

    async def last_block(self) -> bytes:
        """A block with nothing behind it: more means a list longer than four hex digits can tell."""
        block = await self.block()
        if len(self._replies) or await self.read():
            raise AdbProtocolError("the server's answer does not fit its length: a list above 64 KiB is cut by adb")
        return block

    async def read(self) -> bytes:
        """Bytes of the open service in pieces of any size; b"" at its end. Raises AdbConnectionLost."""
        if len(self._replies):
            return self._replies.rest()
        try:
            return await self._pipe.read()
        except OSError as error:
            raise AdbConnectionLost(f"the connection to the adb server broke: {error}") from error

    async def write(self, data: bytes) -> None:
        """Sends bytes to the open service, as fast as it takes them. Raises AdbConnectionLost."""
        try:
            await self._pipe.write(data)
        except OSError as error:
            raise AdbConnectionLost(f"the connection to the adb server broke: {error}") from error

    async def _read_or_gone(self) -> bytes:
        try:
            data = await self._pipe.read()
        except OSError as error:
            raise AdbServerGone(f"the connection to the adb server broke: {error}") from error
        if not data:
            raise AdbServerGone("the adb server hung up before it answered")
        return data


@asynccontextmanager
async def connection(host: str, port: int, timeout_sec: float) -> AsyncIterator[Connection]:
    """A fresh connection to the server. Raises AdbServerGone."""
    try:
        async with asyncio.timeout(timeout_sec):
            _, pipe = await asyncio.get_running_loop().create_connection(_Pipe, host, port)
    except TimeoutError:
        raise AdbServerGone(f"no adb server took the connection at {host}:{port} within {timeout_sec:g} s") from None
    except OSError as error:
        raise AdbServerGone(f"no adb server at {host}:{port}: {error}") from error
    try:
        yield Connection(pipe)
    finally:
        # Abort, not close: a graceful end would first wait for a peer that may be hung.
        pipe.transport.abort()
