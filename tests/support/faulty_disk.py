"""SQLite's disk with faults: its own VFS, of which any write, sync, truncation or lock can be made to fail.

SQLite's own method (sqlite.org/testing.html: I/O error and crash tests), by ctypes on the library that Python uses.
What a power cut would leave is known too: what was written since a file's last good sync is lost, and what was written
before a sync that failed is lost for good unless it is written again ("fsyncgate").
"""

import _sqlite3
import ctypes
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

OK = 0
LIBRARY = ctypes.CDLL(_sqlite3.__file__)
IS_POSSIBLE = hasattr(LIBRARY, "sqlite3_vfs_find")
POINTER_FIELDS_OF_VFS = (
    "xOpen xDelete xAccess xFullPathname xDlOpen xDlError xDlSym xDlClose xRandomness xSleep xCurrentTime xGetLastError"
    " xCurrentTimeInt64 xSetSystemCall xGetSystemCall xNextSystemCall"
)
POINTER_FIELDS_OF_IO = (
    "xClose xRead xWrite xTruncate xSync xFileSize xLock xUnlock xCheckReservedLock xFileControl xSectorSize"
    " xDeviceCharacteristics xShmMap xShmLock xShmBarrier xShmUnmap xFetch xUnfetch"
)


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in POINTER_FIELDS_OF_VFS.split()),
    ]


class _IoMethods(ctypes.Structure):
    _fields_ = [
        ("iVersion", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in POINTER_FIELDS_OF_IO.split()),
    ]


class _File(ctypes.Structure):
    _fields_ = [("pMethods", ctypes.c_void_p)]


_P, _INT, _I64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_INT, _P, _P, _P, _INT, _P)
_DELETE = ctypes.CFUNCTYPE(_INT, _P, _P, _INT)
_CLOSE = ctypes.CFUNCTYPE(_INT, _P)
_WRITE = ctypes.CFUNCTYPE(_INT, _P, _P, _INT, _I64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _P, _I64)
_SYNC = ctypes.CFUNCTYPE(_INT, _P, _INT)
_LOCK = ctypes.CFUNCTYPE(_INT, _P, _INT)
_SHM_LOCK = ctypes.CFUNCTYPE(_INT, _P, _INT, _INT, _INT)


@dataclass(frozen=True, slots=True)
class Fault:
    """What fails: operations of these kinds, with SQLite's result `code`; `is_torn`: half of a write is done."""

    name: str
    kinds: frozenset[str]
    code: int
    is_torn: bool = False


FULL = Fault("disk full", frozenset({"write"}), sqlite3.SQLITE_FULL, is_torn=True)
WRITE_ERROR = Fault("I/O error", frozenset({"write", "truncate"}), sqlite3.SQLITE_IOERR_WRITE, is_torn=True)
SYNC_ERROR = Fault("failing fsync", frozenset({"sync"}), sqlite3.SQLITE_IOERR_FSYNC)
LOCKED = Fault("locked", frozenset({"lock"}), sqlite3.SQLITE_BUSY)
FAULTS = (FULL, WRITE_ERROR, SYNC_ERROR, LOCKED)


@dataclass
class _Image:
    """What of a file would outlive a power cut, and what is still only in memory."""

    durable: bytearray
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    def synced(self) -> None:
        for offset, content in self.pending:
            if content is None:
                del self.durable[offset:]
            else:
                self.durable.extend(bytes(max(0, offset - len(self.durable))))
                self.durable[offset : offset + len(content)] = content
        self.pending.clear()


class FaultyDisk:
    """`with` it: every connection that SQLite opens below `folder` goes through it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._library = LIBRARY
        self._library.sqlite3_vfs_find.restype = ctypes.c_void_p
        self._library.sqlite3_vfs_register.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self._library.sqlite3_vfs_unregister.argtypes = [ctypes.c_void_p]
        self._names: dict[int, str] = {}
        self._images: dict[str, _Image] = {}
        self._methods: dict[int, _IoMethods] = {}
        self._kept: list[Any] = []
        self._fault: Fault | None = None
        self._first = self._last = 0
        self._is_cut = False
        self.counts: dict[str, int] = dict.fromkeys(("write", "truncate", "sync", "lock"), 0)
        self.struck = 0
        # (what happened, the file's ending): "open", "sync failed", "write", …
        self.story: list[tuple[str, str]] = []

    # ---- faults ------------------------------------------------------------------------------------------------------

    def fail(self, fault: Fault, *, after: int = 0, times: int = 1) -> None:
        """The operations that `fault` hits fail, from the one that follows the next `after`, so many times."""
        self._fault, self._first = fault, sum(self.counts[kind] for kind in fault.kinds) + after
        self._last = self._first + times

    def heal(self) -> None:
        """No more faults."""
        self._fault = None

    def done(self, fault: Fault) -> int:
        """How many operations that `fault` could hit there were."""
        return sum(self.counts[kind] for kind in fault.kinds)

    def _fails(self, kind: str, file: int) -> int:
        """The code with which this operation is to fail, 0 for none."""
        if self._is_cut:
            return int(sqlite3.SQLITE_IOERR_WRITE)
        fault = self._fault
        number = self.done(fault) if fault is not None else 0
        self.counts[kind] += 1
        if fault is None or kind not in fault.kinds or not self._first <= number < self._last:
            return OK
        self.struck += 1
        self._tell(f"{kind} failed", file)
        return fault.code

    def _tell(self, what: str, file: int) -> None:
        self.story.append((what, self._names.get(file, "").rpartition("/")[2]))

    # ---- a power cut -------------------------------------------------------------------------------------------------

    def cut_power(self) -> None:
        """From now on nothing is written."""
        self._is_cut = True

    def put_what_survived(self, folder: Path) -> None:
        """The files as they are found after the power cut."""
        for name, image in self._images.items():
            (folder / Path(name).name).write_bytes(image.durable)

    # ---- SQLite's side -----------------------------------------------------------------------------------------------

    def __enter__(self) -> "FaultyDisk":
        real = _Vfs.from_address(self._library.sqlite3_vfs_find(None))
        self._shim = _Vfs.from_buffer_copy(real)
        self._shim.pNext, self._shim.zName = None, b"faulty"
        self._real_open, self._real_delete = _OPEN(real.xOpen), _DELETE(real.xDelete)
        self._shim.xOpen = self._keep(_OPEN(self._open))
        self._shim.xDelete = self._keep(_DELETE(self._delete))
        assert self._library.sqlite3_vfs_register(ctypes.addressof(self._shim), 1) == OK
        return self

    def __exit__(self, *_: object) -> None:
        assert self._library.sqlite3_vfs_unregister(ctypes.addressof(self._shim)) == OK
        assert not self._names, f"still open: {sorted(self._names.values())}"

    def _keep(self, callback: Any) -> int | None:
        self._kept.append(callback)
        return ctypes.cast(callback, ctypes.c_void_p).value

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out_flags: int | None) -> int:
        result: int = self._real_open(vfs, name, file, flags, out_flags)
        path = ctypes.string_at(name).decode() if name else ""
        if result == OK and path.startswith(self._folder):
            self._names[file] = path
            self._tell("open", file)
            if path not in self._images:
                self._images[path] = _Image(bytearray(Path(path).read_bytes()))
            header = _File.from_address(file)
            header.pMethods = ctypes.addressof(self._shimmed(header.pMethods))
        return result

    def _delete(self, vfs: int, name: int, sync_folder: int) -> int:
        if self._is_cut:
            return int(sqlite3.SQLITE_IOERR_DELETE)
        self._images.pop(ctypes.string_at(name).decode(), None)
        result: int = self._real_delete(vfs, name, sync_folder)
        return result

    def _shimmed(self, address: int) -> _IoMethods:
        """The real methods with ours in front."""
        if address in self._methods:
            return self._methods[address]
        real = _IoMethods.from_address(address)
        ours = self._methods[address] = _IoMethods.from_buffer_copy(real)
        ours.xClose = self._keep(_CLOSE(self._closing(_CLOSE(real.xClose))))
        ours.xWrite = self._keep(_WRITE(self._writing(_WRITE(real.xWrite))))
        ours.xTruncate = self._keep(_TRUNCATE(self._truncating(_TRUNCATE(real.xTruncate))))
        ours.xSync = self._keep(_SYNC(self._syncing(_SYNC(real.xSync))))
        ours.xLock = self._keep(_LOCK(self._locking(_LOCK(real.xLock))))
        ours.xShmLock = self._keep(_SHM_LOCK(self._shm_locking(_SHM_LOCK(real.xShmLock))))
        return ours

    def _closing(self, real: Any) -> Callable[[int], int]:
        def close(file: int) -> int:
            self._tell("close", file)
            self._names.pop(file, None)
            return int(real(file))

        return close

    def _writing(self, real: Any) -> Callable[[int, int, int, int], int]:
        def write(file: int, content: int, size: int, offset: int) -> int:
            code = self._fails("write", file)
            if code != OK:
                half = size // 2 if self._fault is not None and self._fault.is_torn and not self._is_cut else 0
                if half:
                    self._note(file, offset, ctypes.string_at(content, half))
                    real(file, content, half, offset)
                return code
            self._tell("write", file)
            self._note(file, offset, ctypes.string_at(content, size))
            return int(real(file, content, size, offset))

        return write

    def _note(self, file: int, offset: int, content: bytes | None) -> None:
        self._images[self._names[file]].pending.append((offset, content))

    def _truncating(self, real: Any) -> Callable[[int, int], int]:
        def truncate(file: int, size: int) -> int:
            code = self._fails("truncate", file)
            if code == OK:
                self._tell("truncate", file)
                self._note(file, size, None)
            return code or int(real(file, size))

        return truncate

    def _syncing(self, real: Any) -> Callable[[int, int], int]:
        def sync(file: int, flags: int) -> int:
            code = self._fails("sync", file)
            image = self._images[self._names[file]]
            if code == OK:
                image.synced()
                return int(real(file, flags))
            image.pending.clear()
            return code

        return sync

    def _locking(self, real: Any) -> Callable[[int, int], int]:
        def lock(file: int, level: int) -> int:
            return self._fails("lock", file) or int(real(file, level))

        return lock

    def _shm_locking(self, real: Any) -> Callable[[int, int, int, int], int]:
        def shm_lock(file: int, offset: int, count: int, flags: int) -> int:
            is_unlocking = flags & 1
            return (0 if is_unlocking else self._fails("lock", file)) or int(real(file, offset, count, flags))

        return shm_lock
