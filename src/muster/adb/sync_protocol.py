"""`sync:` version 1 as values, no I/O: AOSP SYNC.TXT and file_sync_protocol.h.

Every message is a four-letter id and a little-endian 32-bit number, then as many bytes as that id has. Sizes and times
are 32 bits: files up to 4 GiB, times up to 2106.
"""

import struct
from dataclasses import dataclass
from stat import S_ISDIR
from typing import Final, TypeAlias

from muster.adb.errors import AdbProtocolError, AdbRequestInvalid

CHUNK_BYTES_MAX: Final = 64 * 1024
"""SYNC_DATA_MAX: a phone closes the stream at a larger one."""
PATH_BYTES_MAX: Final = 1024

_HEADER: Final = struct.Struct("<4sI")
_STAT: Final = struct.Struct("<4sIII")
_DENT: Final = struct.Struct("<4sIIII")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next bytes of a file being pulled."""

    data: bytes


@dataclass(frozen=True, slots=True)
class End:
    """A pulled file, a listing or a push is complete."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The phone says why it will not."""

    message: str


@dataclass(frozen=True, slots=True)
class RemoteStat:
    """`mode` as in st_mode, `size` in bytes modulo 2³², `mtime_sec` epoch seconds. All zero: there is no such file."""

    mode: int
    size: int
    mtime_sec: int

    @property
    def exists(self) -> bool:
        """Version 1 has no other way to say that there is nothing."""
        return self.mode != 0

    @property
    def is_folder(self) -> bool:
        """By its mode."""
        return S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """One name of a listed folder; `.` and `..` are among them, as the phone sends them."""

    name: str
    stat: RemoteStat


SyncEvent: TypeAlias = Chunk | End | Failed | RemoteStat | RemoteEntry


def path_request(kind: bytes, path: str) -> bytes:
    """STAT, LIST or RECV of a path. Raises AdbRequestInvalid."""
    return _with_text(kind, path, PATH_BYTES_MAX)


def send_request(path: str, mode: int) -> bytes:
    """Begins a push; the file's permission bits follow the last comma, so a path may hold commas itself."""
    _with_text(b"SEND", path, PATH_BYTES_MAX)
    return _with_text(b"SEND", f"{path},{mode}", PATH_BYTES_MAX + 8)


def data_messages(data: bytes) -> bytes:
    """File bytes as DATA messages, in one buffer so that one write sends them."""
    pieces = (data[at : at + CHUNK_BYTES_MAX] for at in range(0, len(data), CHUNK_BYTES_MAX))
    return b"".join(_HEADER.pack(b"DATA", len(piece)) + piece for piece in pieces)


def done_message(mtime_sec: int) -> bytes:
    """Ends a push and gives the file its time."""
    return _HEADER.pack(b"DONE", mtime_sec & 0xFFFFFFFF)


def _with_text(kind: bytes, text: str, bytes_max: int) -> bytes:
    try:
        payload = text.encode(errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise AdbRequestInvalid(f"a path on a phone must be text: {error.reason}") from None
    if not payload or b"\0" in payload or len(payload) > bytes_max:
        raise AdbRequestInvalid(f"a path on a phone has 1 to {bytes_max} bytes and no NUL, not {text[:100]!r}")
    return _HEADER.pack(kind, len(payload)) + payload


class SyncDecoder:
    """Bytes from the phone in, events out; the same however the bytes were cut."""

    def __init__(self, *, listing: bool = False) -> None:
        self._buffer = bytearray()
        # The DONE of a listing is as long as its entries are, any other as long as a header.
        self._done_bytes = _DENT.size if listing else _HEADER.size

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        self._buffer += data

    def next_event(self) -> SyncEvent | None:
        """The next event, or None when more bytes are needed. Raises AdbProtocolError."""
        if len(self._buffer) < _HEADER.size:
            return None
        kind, number = _HEADER.unpack_from(self._buffer)
        if kind == b"STAT":
            return self._stat()
        if kind == b"DENT":
            return self._entry()
        if kind in (b"DATA", b"FAIL"):
            return self._text(kind, number)
        if kind == b"OKAY":
            del self._buffer[: _HEADER.size]
            return End()
        if kind == b"DONE":
            return self._done()
        raise AdbProtocolError(f"unknown sync message {kind!r}")

    def _stat(self) -> RemoteStat | None:
        if len(self._buffer) < _STAT.size:
            return None
        _, mode, size, mtime_sec = _STAT.unpack_from(self._buffer)
        del self._buffer[: _STAT.size]
        return RemoteStat(mode, size, mtime_sec)

    def _entry(self) -> RemoteEntry | None:
        if len(self._buffer) < _DENT.size:
            return None
        _, mode, size, mtime_sec, name_bytes = _DENT.unpack_from(self._buffer)
        name = self._payload(_DENT.size, name_bytes)
        return None if name is None else RemoteEntry(_name(name), RemoteStat(mode, size, mtime_sec))

    def _text(self, kind: bytes, length: int) -> Chunk | Failed | None:
        payload = self._payload(_HEADER.size, length)
        if payload is None:
            return None
        return Chunk(payload) if kind == b"DATA" else Failed(payload.decode(errors="replace"))

    def _done(self) -> End | None:
        if len(self._buffer) < self._done_bytes:
            return None
        del self._buffer[: self._done_bytes]
        return End()

    def _payload(self, start: int, length: int) -> bytes | None:
        if length > CHUNK_BYTES_MAX:
            raise AdbProtocolError(f"a sync message of {length} bytes")
        end = start + length
        if len(self._buffer) < end:
            return None
        payload = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return payload


def _name(name: bytes) -> str:
    """Bytes that are not UTF-8 survive a round trip through `path_request`."""
    return name.decode(errors="surrogateescape")
