"""Where a command reads from and writes to. Sinks take bytes at once and send them when drained or before a wait."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

PIPE_BYTES_MAX: Final = 64 * 1024
CHANNEL_BYTES_MAX: Final = 32 * 1024
CAPTURE_BYTES_MAX: Final = 1024 * 1024
INPUT_BYTES_MAX: Final = 64 * 1024 * 1024
"""What a tool that needs its whole input may hold (`sort`, `base64`, `md5sum` of a pipe)."""


class PipeClosed(Exception):
    """Nobody reads what a command writes: it ends as by SIGPIPE."""


class InputTooLong(Exception):
    """A tool was given more input than a virtual phone holds for it."""


class Sink(Protocol):
    """Takes output."""

    @property
    def full(self) -> bool:
        """Whether it should be drained before more is written."""
        ...

    def write(self, data: bytes) -> None:
        """Queues bytes."""
        ...

    async def drain(self) -> None:
        """Sends what is queued; waits until there is room again."""
        ...


class Null:
    """/dev/null: swallows output, has no input."""

    full = False

    def write(self, data: bytes) -> None:
        """Forgets it."""

    async def drain(self) -> None:
        """Nothing to send."""


class Capture:
    """Keeps output for `$(…)`, up to a limit; what is beyond it is dropped, as an argument list that is too long."""

    full = False

    def __init__(self, limit: int = CAPTURE_BYTES_MAX) -> None:
        self._chunks: list[bytes] = []
        self._room = limit

    def write(self, data: bytes) -> None:
        """Keeps as much as there is room for."""
        self._chunks.append(data[: self._room])
        self._room -= len(self._chunks[-1])

    async def drain(self) -> None:
        """Nothing to send."""

    def value(self) -> bytes:
        """All that was written."""
        return b"".join(self._chunks)


class FileSink:
    """Writes to a file through `store`, which appends and may raise FileError."""

    def __init__(self, store: Callable[[bytes], None]) -> None:
        self._store = store
        self._chunks: list[bytes] = []

    @property
    def full(self) -> bool:
        """A file is written as the output comes, so that a command that is ended leaves what it had."""
        return bool(self._chunks)

    def write(self, data: bytes) -> None:
        """Queues bytes."""
        self._chunks.append(data)

    async def drain(self) -> None:
        """Appends to the file what is queued. Raises FileError."""
        if self._chunks:
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._store(data)


class Channel:
    """Frames output with `frame` and sends it to the host in as few writes as the waits between allow."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._chunks: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Queues framed bytes."""
        self._chunks.append(data)
        self._size += len(data)

    @property
    def size(self) -> int:
        """Bytes that are queued."""
        return self._size

    async def flush(self) -> None:
        """Sends all; waits for the host to acknowledge."""
        if self._chunks:
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._size = 0
            await self._send(data)


class ChannelSink:
    """One of the outputs that share a channel, so that their order is kept."""

    def __init__(self, channel: Channel, frame: Callable[[bytes], bytes]) -> None:
        self._channel = channel
        self._frame = frame

    @property
    def full(self) -> bool:
        """Whether enough has come together for a write of its own."""
        return self._channel.size >= CHANNEL_BYTES_MAX

    def write(self, data: bytes) -> None:
        """Frames and queues."""
        if data:
            self._channel.add(self._frame(data))

    async def drain(self) -> None:
        """Sends what the channel holds."""
        await self._channel.flush()


class Source:
    """Input in chunks from `read_chunk` (b"" at its end), with lines and the whole of it on top."""

    def __init__(self, read_chunk: Callable[[], Awaitable[bytes]] | None = None, buffered: bytes = b"") -> None:
        self._read_chunk = read_chunk
        self._buffer = buffered

    async def read(self) -> bytes:
        """The next chunk; b"" at the end."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        return await self._read_chunk() if self._read_chunk is not None else b""

    async def line(self) -> bytes:
        """The next line with its newline; the last one may have none; b"" at the end."""
        while b"\n" not in self._buffer:
            chunk = await self._read_chunk() if self._read_chunk is not None else b""
            if not chunk:
                data, self._buffer = self._buffer, b""
                return data
            self._buffer += chunk
            if len(self._buffer) > INPUT_BYTES_MAX:
                raise InputTooLong
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"

    async def all(self) -> bytes:
        """Everything up to the end. Raises InputTooLong."""
        chunks: list[bytes] = []
        size = 0
        while chunk := await self.read():
            chunks.append(chunk)
            size += len(chunk)
            if size > INPUT_BYTES_MAX:
                raise InputTooLong
        return b"".join(chunks)


class Pipe:
    """`a | b`: bounded; the writer waits while it is full and gets PipeClosed when the reader has ended."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._pending: list[bytes] = []
        self._changed = asyncio.Event()
        self._writer_gone = self._reader_gone = False

    @property
    def full(self) -> bool:
        """The reader wants what there is; and when it is gone, the writer has to know."""
        return bool(self._pending) or self._reader_gone

    def write(self, data: bytes) -> None:
        """Queues bytes on the writer's side."""
        if self._reader_gone:
            raise PipeClosed
        if data:
            self._pending.append(data)

    async def drain(self) -> None:
        """Hands over what is queued; waits for room. Raises PipeClosed."""
        while self._pending:
            if self._reader_gone:
                raise PipeClosed
            if self._size >= PIPE_BYTES_MAX:
                await self._wait()
                continue
            self._size += len(self._pending[0])
            self._chunks.append(self._pending.pop(0))
            self._changed.set()

    async def read(self) -> bytes:
        """The reader's next chunk; b"" when the writer has ended."""
        while not self._chunks:
            if self._writer_gone:
                return b""
            await self._wait()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        self._changed.set()
        return chunk

    def close_writer(self) -> None:
        """The writing command has ended."""
        self._writer_gone = True
        self._changed.set()

    def close_reader(self) -> None:
        """The reading command has ended."""
        self._reader_gone = True
        self._chunks.clear()
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


@dataclass(frozen=True, slots=True)
class Streams:
    """A command's input and outputs. `terminal` is where /dev/tty leads, None without one."""

    stdin: Source
    stdout: Sink
    stderr: Sink
    terminal: Sink | None = None

    async def relieve(self) -> None:
        """Sends what an output holds if it wants to be rid of it."""
        if self.stdout.full:
            await self.stdout.drain()
        if self.stderr.full:
            await self.stderr.drain()

    async def drain(self) -> None:
        """Sends what both outputs hold."""
        await self.stdout.drain()
        if self.stderr is not self.stdout:
            await self.stderr.drain()
