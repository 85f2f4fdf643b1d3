"""One connection to the adb server. It is used for one request and aborted when its owner leaves, whatever happened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from muster.adb.errors import AdbConnectionLost, AdbProtocolError, AdbServerGone
from muster.adb.protocol import Refused, ServerReplies, refusal, request

READ_BYTES: Final = 256 * 1024
"""As much as asyncio and uvloop take from a socket at once: a screenshot comes in a few pieces, not in eighty."""


class Connection:
    """Requests and replies in turn, then the raw bytes of the service that was opened."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._replies = ServerReplies()

    async def ask(self, service: str) -> None:
        """Sends a request and waits for its OKAY; never pipelined, the server drops what comes too early (spec/10)."""
        self._writer.write(request(service))
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
            return await self._reader.read(READ_BYTES)
        except OSError as error:
            raise AdbConnectionLost(f"the connection to the adb server broke: {error}") from error

    async def write(self, data: bytes) -> None:
        """Sends bytes to the open service, as fast as it takes them. Raises AdbConnectionLost."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise AdbConnectionLost(f"the connection to the adb server broke: {error}") from error

    async def _read_or_gone(self) -> bytes:
        try:
            data = await self._reader.read(READ_BYTES)
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
            reader, writer = await asyncio.open_connection(host, port, limit=READ_BYTES)
    except TimeoutError:
        raise AdbServerGone(f"no adb server took the connection at {host}:{port} within {timeout_sec:g} s") from None
    except OSError as error:
        raise AdbServerGone(f"no adb server at {host}:{port}: {error}") from error
    try:
        yield Connection(reader, writer)
    finally:
        # Abort, not close: a graceful end would first wait for a peer that may be hung.
        writer.transport.abort()
