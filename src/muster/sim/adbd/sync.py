"""`sync:`: files between host and phone. STAT, LIST, SEND, RECV and their second versions (stat_v2, ls_v2,
sendrecv_v2 without compression). Source: `adb/file_sync_protocol.h`, `adb/daemon/file_sync_service.cpp` of AOSP.
"""

import struct
from typing import TYPE_CHECKING, Final, Protocol

from muster.sim.adbd.packets import ProtocolError
from muster.sim.files import FileError, Node, normalise
from muster.sim.shell.call import to_bytes, to_text

if TYPE_CHECKING:
    from muster.sim.phone import Phone

DATA_BYTES_MAX: Final = 64 * 1024
PATH_BYTES_MAX: Final = 1_024
FILE_BYTES_MAX: Final = 1024**3
_REQUEST: Final = struct.Struct("<4sI")
_STAT1: Final = struct.Struct("<4sIII")
_STAT2: Final = struct.Struct("<4sIQQIIIIQqqq")
_SETUP2: Final = struct.Struct("<4sII")
_ENOENT, _ENOTDIR = 2, 20
_DEVICE_NUMBER: Final = 0xFE00
_SHELL_UID: Final = 2000


class Pipe(Protocol):
    """The two directions of a stream, as `connection.Stream` has them."""

    async def read(self) -> bytes:
        """What the host sends next; b"" at its end."""
        ...

    async def write(self, data: bytes) -> None:
        """Sends to the host."""
        ...


class _End(Exception):
    """QUIT, or the host has closed."""


async def sync_service(phone: "Phone", stream: Pipe) -> None:
    """Serves requests until QUIT. A request that fails is answered with FAIL; a malformed one ends the stream."""
    session = _Session(phone, stream)
    try:
        while True:
            await session.serve_one()
    except _End:
        await session.flush()


class _Session:
    def __init__(self, phone: "Phone", stream: Pipe) -> None:
        self._phone = phone
        self._stream = stream
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0

    # ---- bytes

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self.flush()
            data = await self._stream.read()
            if not data:
                raise _End
            self._buffer += data
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return taken

    async def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes >= 4 * DATA_BYTES_MAX:
            await self.flush()

    async def flush(self) -> None:
        """Sends what has been answered so far."""
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            await self._stream.write(data)

    async def _fail(self, message: str) -> None:
        await self._put(_REQUEST.pack(b"FAIL", len(message)) + message.encode())

    # ---- requests

    async def serve_one(self) -> None:
        """Reads one request and answers it."""
        command, length = _REQUEST.unpack(await self._take(_REQUEST.size))
        if command == b"QUIT":
            raise _End
        if length > PATH_BYTES_MAX:
            await self._fail("invalid path length")
            await self.flush()
            raise ProtocolError(f"a path of {length} bytes")
        raw = await self._take(length)
        await self._phone.gate()
        match command:
            case b"STAT":
                await self._stat1(_path(raw))
            case b"STA2" | b"LST2":
                await self._stat2(command, _path(raw))
            case b"LIST" | b"LIS2":
                await self._list(_path(raw), second=command == b"LIS2")
            case b"SEND":
                path, _, mode = raw.rpartition(b",")
                await self._receive(_path(path), int(mode) if mode.isdigit() else 0o644)
            case b"SND2":
                _id, mode_bits, flags = _SETUP2.unpack(await self._take(_SETUP2.size))
                await self._receive(_path(raw), mode_bits, flags)
            case b"RECV":
                await self._send(_path(raw))
            case b"RCV2":
                _id, flags = _REQUEST.unpack(await self._take(_REQUEST.size))
                await self._send(_path(raw), flags)
            case _:
                raise ProtocolError(f"unknown sync request {command!r}")

    async def _stat1(self, path: str) -> None:
        node = self._phone.files.find(path)
        values = (node.mode, min(node.size, 0xFFFFFFFF), node.mtime) if node is not None else (0, 0, 0)
        await self._put(_STAT1.pack(b"STAT", *values))

    async def _stat2(self, command: bytes, path: str) -> None:
        node = self._phone.files.find(path)
        await self._put(_STAT2.pack(command, *(_stat2_fields(node, path) if node is not None else _no_stat2(_ENOENT))))

    async def _list(self, path: str, *, second: bool) -> None:
        node = self._phone.files.find(path)
        for name, child in sorted((node.children or {}).items()) if node is not None else ():
            encoded = to_bytes(name)
            if second:
                head = _STAT2.pack(b"DNT2", *_stat2_fields(child, f"{path}/{name}"))
            else:
                head = _STAT1.pack(b"DENT", child.mode, min(child.size, 0xFFFFFFFF), child.mtime)
            await self._put(head + struct.pack("<I", len(encoded)) + encoded)
        empty = _STAT2.pack(b"DONE", *_no_stat2(0)) if second else _STAT1.pack(b"DONE", 0, 0, 0)
        await self._put(empty + bytes(4))

    async def _receive(self, path: str, mode: int, flags: int = 0) -> None:
        """The host pushes a file. All its data is read even when it cannot be kept, then the reason is told."""
        problem = "compression was not offered" if flags & ~0x80000000 else ""
        chunks: list[bytes] = []
        size = 0
        while True:
            command, length = _REQUEST.unpack(await self._take(_REQUEST.size))
            if command == b"DONE":
                break
            if command != b"DATA" or length > DATA_BYTES_MAX:
                raise ProtocolError(f"{command!r} of {length} bytes inside a file")
            data = await self._take(length)
            size += length
            if not problem and size > min(FILE_BYTES_MAX, self._phone.files.free_bytes):
                problem = "couldn't write file: No space left on device"
                chunks.clear()
            if not problem:
                chunks.append(data)
        if not problem:
            problem = self._store(path, b"".join(chunks), mode, mtime=length)
        if problem:
            await self._fail(problem)
        else:
            await self._put(_REQUEST.pack(b"OKAY", 0))

    def _store(self, path: str, data: bytes, mode: int, *, mtime: int) -> str:
        """Writes a pushed file; returns what was wrong with it, or an empty text."""
        files = self._phone.files
        try:
            files.make_dir(path.rsplit("/", 1)[0] or "/", mtime=self._phone.now_sec(), parents=True)
            files.write(path, data, mtime=mtime, mode=mode & 0o777)
        except FileError as error:
            return f"couldn't create file: {error}"
        return ""

    async def _send(self, path: str, flags: int = 0) -> None:
        """The host pulls a file."""
        if flags & ~0x80000000:
            await self._fail("compression was not offered")
            return
        try:
            data = self._phone.files.read(path)
        except FileError as error:
            await self._fail(f"failed to open '{path}': {error}")
            return
        for start in range(0, len(data), DATA_BYTES_MAX):
            chunk = data[start : start + DATA_BYTES_MAX]
            await self._put(_REQUEST.pack(b"DATA", len(chunk)))
            await self._put(chunk)
        await self._put(_REQUEST.pack(b"DONE", 0))


def _path(raw: bytes) -> str:
    return normalise(to_text(raw).replace("\0", ""))


def _stat2_fields(node: Node, path: str) -> tuple[int, ...]:
    inode = hash(path) & 0xFFFFFFFF
    times = (node.mtime, node.mtime, node.mtime)
    return (0, _DEVICE_NUMBER, inode, node.mode, 1, _SHELL_UID, _SHELL_UID, node.size, *times)


def _no_stat2(error: int) -> tuple[int, ...]:
    return (error, *(0,) * 10)
