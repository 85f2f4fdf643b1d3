"""Files to and from a phone over `sync:`, one connection each, with a limit on size and on silence."""

import asyncio
import functools
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final, Literal

from muster.adb.client import AdbClient
from muster.adb.connection import Connection
from muster.adb.errors import (
    AdbConnectionLost,
    AdbDeviceUnresponsive,
    AdbFileError,
    AdbProtocolError,
    AdbTooLarge,
)
from muster.adb.sync_protocol import (
    Chunk,
    End,
    Failed,
    RemoteEntry,
    RemoteStat,
    SyncDecoder,
    SyncEvent,
    data_messages,
    done_message,
    path_request,
    send_request,
)

SILENCE_TIMEOUT_SEC: Final = 30.0
"""A phone's flash may stall for seconds; longer without one byte either way is a hung phone."""
FILE_BYTES_MAX: Final = 2 * 1024 * 1024 * 1024
PULL_BYTES_MAX_DEFAULT: Final = 64 * 1024 * 1024
LIST_ENTRIES_MAX: Final = 100_000
PART_PATTERN: Final = ".*.part"
"""Of the files that `pull_to` is writing. A name of its own: a whole file may end in `.part` too."""
_READ_BYTES: Final = 512 * 1024


class AdbSync:
    """The file service of the phone `serial`. Every call raises AdbError; AdbFileError is the phone's own no."""

    def __init__(self, client: AdbClient, serial: str, *, silence_timeout_sec: float = SILENCE_TIMEOUT_SEC) -> None:
        self._client = client
        self._serial = serial
        self._silence_timeout_sec = silence_timeout_sec

    async def stat(self, remote: str) -> RemoteStat | None:
        """Mode, size and time of a file or folder; None when there is none (or it may not be seen)."""
        async with self._session(path_request(b"STAT", remote)) as session:
            event = await session.event()
        if not isinstance(event, RemoteStat):
            raise AdbProtocolError(f"an answer to STAT that is none: {event!r:.100}")
        return event if event.exists else None

    async def list(self, remote: str) -> tuple[RemoteEntry, ...]:
        """What lies in a folder, without `.` and `..`; empty for one that does not exist, as the protocol has it."""
        entries: list[RemoteEntry] = []
        async with self._session(path_request(b"LIST", remote), listing=True) as session:
            while isinstance(event := await session.event(), RemoteEntry):
                if len(entries) >= LIST_ENTRIES_MAX:
                    raise AdbTooLarge(f"{remote} holds more than {LIST_ENTRIES_MAX} names")
                if event.name not in (".", ".."):
                    entries.append(event)
            _expect_end(event)
        return tuple(entries)

    async def pull(self, remote: str, *, bytes_max: int = PULL_BYTES_MAX_DEFAULT) -> bytes:
        """A file's bytes, whole or not at all."""
        data = bytearray()
        async with self._session(path_request(b"RECV", remote)) as session:
            while isinstance(event := await session.event(), Chunk):
                data += event.data
                if len(data) > bytes_max:
                    raise AdbTooLarge(f"{remote} is larger than {bytes_max} bytes")
            _expect_end(event)
        return bytes(data)

    async def pull_to(self, remote: str, target: Path, *, bytes_max: int = PULL_BYTES_MAX_DEFAULT) -> int:
        """A file straight to `target` on this PC, whole or not at all; its size. Raises OSError for this PC's disk."""
        part = target.with_name(f".{target.name}.part")
        try:
            size = 0
            with await _opened(part, "wb") as file:
                async with self._session(path_request(b"RECV", remote)) as session:
                    while isinstance(event := await session.event(), Chunk):
                        size += len(event.data)
                        if size > bytes_max:
                            raise AdbTooLarge(f"{remote} is larger than {bytes_max} bytes")
                        await asyncio.to_thread(file.write, event.data)
                    _expect_end(event)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return size

    async def push(self, source: bytes | Path, remote: str, *, mode: int = 0o644, mtime_sec: int = 0) -> None:
        """Writes bytes or a file of this PC to `remote`, whose parent folders the phone makes. Reports success only
        after the phone has said so; cancelled or failed, a part of the file may be left on the phone."""
        request = send_request(remote, mode)
        file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else await _opened(source, "rb")
        with file:
            async with self._session(request) as session, session.watched_answer() as answer:
                sent = 0
                while not answer.done() and (piece := await asyncio.to_thread(file.read, _READ_BYTES)):
                    sent += len(piece)
                    if sent > FILE_BYTES_MAX:
                        raise AdbTooLarge(f"a pushed file is at most {FILE_BYTES_MAX} bytes")
                    await session.send(data_messages(piece))
                await session.send(done_message(mtime_sec))

    @asynccontextmanager
    async def _session(self, request: bytes, *, listing: bool = False) -> AsyncIterator["_Session"]:
        async with self._client.open(self._serial, "sync:") as stream:
            session = _Session(stream, SyncDecoder(listing=listing), self._silence_timeout_sec)
            await session.send(request)
            yield session


async def _opened(path: Path, mode: Literal["rb", "wb"]) -> BinaryIO:
    """The file, opened in a thread. Cancelled meanwhile, it is closed once it is open; one that is begun here goes."""
    opening = asyncio.get_running_loop().run_in_executor(None, path.open, mode)
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(functools.partial(_drop, path if mode == "wb" else None))
        raise


def _drop(begun: Path | None, opening: "asyncio.Future[BinaryIO]") -> None:
    if opening.cancelled() or opening.exception() is not None:
        return
    opening.result().close()
    if begun is not None:
        begun.unlink(missing_ok=True)


def _expect_end(event: SyncEvent) -> None:
    if not isinstance(event, End):
        raise AdbProtocolError(f"expected the end of a transfer, got {type(event).__name__}")


class _Session:
    """One file operation on one open stream."""

    def __init__(self, stream: Connection, decoder: SyncDecoder, silence_timeout_sec: float) -> None:
        self._stream = stream
        self._decoder = decoder
        self._silence_timeout_sec = silence_timeout_sec

    async def event(self) -> SyncEvent:
        """The next event, within the limit of silence. Raises AdbFileError for the phone's FAIL."""
        async with self._limit():
            return await self._event()

    async def send(self, data: bytes) -> None:
        """Sends bytes as fast as the phone takes them, within the limit of silence."""
        async with self._limit():
            await self._stream.write(data)

    @asynccontextmanager
    async def watched_answer(self) -> AsyncIterator["asyncio.Task[SyncEvent]"]:
        """Listens while the block sends, because a phone may refuse in the middle; the block's end waits for its yes.

        A phone that has said no also hangs up at last: then its reason counts, not the broken connection.
        """
        answer = asyncio.create_task(self._event(), name="answer to a push")
        try:
            try:
                yield answer
            except AdbConnectionLost:
                await answer
                raise
            async with self._limit():
                _expect_end(await answer)
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _event(self) -> SyncEvent:
        event = self._decoder.next_event()
        while event is None:
            data = await self._stream.read()
            if not data:
                raise AdbConnectionLost("the phone's file service hung up in the middle")
            self._decoder.feed(data)
            event = self._decoder.next_event()
        if isinstance(event, Failed):
            raise AdbFileError(event.message)
        return event

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._silence_timeout_sec):
                yield
        except TimeoutError:
            raise AdbDeviceUnresponsive(
                f"the phone's file service was silent for {self._silence_timeout_sec:g} s"
            ) from None
