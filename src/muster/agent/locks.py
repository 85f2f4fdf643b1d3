"""Exclusive use across the processes of one PC: file locks in a per-user state folder. The system frees a dead owner's.

Keyed by the adb server's address and the `device_id`, and by the backend's URL and the `NODE_ID`: two racks on one PC
do not disturb each other.
"""

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import IO, Final

from muster.runtime.logs import get_logger
from muster.runtime.masking import hide_passwords

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

log = get_logger()
# Windows locks bytes, and nobody else can read those: one far behind the text that names the owner.
_LOCKED_BYTE: Final = 1 << 30
_LOOPBACK: Final = ("localhost", "::1", "[::1]")


class AlreadyRunningError(Exception):
    """Another process holds what only one may have; the text says who and what to do."""


class FileLock:
    """A lock held while the file is open; a second one, in this process or another, is refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def acquire(self, owner: str) -> bool:
        """At once, or False. Raises OSError when the file cannot be opened."""
        assert self._file is None, "a lock is taken once"
        file = self._path.open("a+", encoding="utf-8")
        if not _lock(file):
            file.close()
            return False
        self._file = file
        # Only for the message to whoever is refused: a full disk must not keep the agent from its lock.
        with contextlib.suppress(OSError):
            _write_if_other(file, owner)
        return True

    def release(self) -> None:
        """Gives it back. The file stays: removing it would race with the next owner."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def owner(self) -> str:
        """What the present or last owner wrote about itself."""
        try:
            return self._path.read_text(encoding="utf-8").strip() or "another process"
        except OSError:
            return "another process"


def _write_if_other(file: IO[str], text: str) -> None:
    """An agent takes the same phones again and again: a write each time would wait behind the journal's fsync."""
    file.seek(0)
    if file.read(len(text) + 1) != text:
        file.seek(0)
        file.truncate()
        file.write(text)
        file.flush()


def _lock(file: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(file.fileno(), _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def state_folder() -> Path:
    """The per-user folder for what is shared between agents of one PC."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return base / "muster"


class NodeLock:
    """One agent for each (backend, node) and for each data folder on this PC. Use as `with`."""

    def __init__(self, state_dir: Path, data_dir: Path, backend_url: str, node_id: str) -> None:
        self._what = {
            f"node {node_id} of {hide_passwords(backend_url)}": FileLock(
                _lock_file(state_dir, "node", backend_url, node_id)
            ),
            f"the data folder {data_dir}": FileLock(data_dir / "agent.lock"),
        }

    def __enter__(self) -> "NodeLock":
        for what, lock in self._what.items():
            if not lock.acquire(f"process {os.getpid()}\n"):
                self.__exit__()
                raise AlreadyRunningError(
                    f"an agent for {what} runs on this PC already ({lock.owner()}); stop it first"
                )
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._what.values():
            lock.release()


class DeviceFileLocks:
    """`scheduler.loop.DeviceLocks` for the phones of one adb server. Use as `with`: leaving gives all back."""

    def __init__(self, state_dir: Path, adb_server: tuple[str, int]) -> None:
        self._state_dir = state_dir
        host, port = adb_server
        # One server of this PC, whatever it is called.
        self._server = f"{'127.0.0.1' if host.lower() in _LOOPBACK else host.lower()}:{port}"
        self._held: dict[str, FileLock] = {}
        # Why no lock could be had for a phone, for as long as that is so.
        self._unlockable: dict[str, str] = {}

    def __enter__(self) -> "DeviceFileLocks":
        return self

    def __exit__(self, *_: object) -> None:
        for device_id in list(self._held):
            self.release(device_id)

    def acquire(self, device_id: str) -> bool:
        """False when another agent has it, and when no lock can be had: without one, nothing may be started."""
        try:
            lock = self._lock_of(device_id)
            acquired = lock.acquire(f"process {os.getpid()}\n")
        except OSError as error:
            log.error("A phone cannot be locked", device_id=device_id, error=str(error))
            self._unlockable[device_id] = str(error)
            return False
        self._unlockable.pop(device_id, None)
        if acquired:
            self._held[device_id] = lock
        return acquired

    def release(self, device_id: str) -> None:
        """Gives it back."""
        self._held.pop(device_id).release()

    def why_refused(self, device_id: str) -> str:
        """See `scheduler.parts.DeviceLocks`."""
        if (error := self._unlockable.get(device_id)) is not None:
            return f"its lock cannot be had: {error}; see to the folder {self._state_dir / 'locks'}"
        return f"another agent on this PC has the phone ({self._lock_of(device_id).owner()})"

    def _lock_of(self, device_id: str) -> FileLock:
        return FileLock(_lock_file(self._state_dir, "device", self._server, device_id))


def _lock_file(state_dir: Path, kind: str, *key: str) -> Path:
    """Ids may hold anything printable, so the name is a hash of them. Makes the folder."""
    folder = state_dir / "locks"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
    return folder / f"{kind}-{digest}.lock"
