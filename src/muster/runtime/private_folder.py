"""Folders that only this user can read, and a lock that says a folder is in use."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FolderInUse(Exception):
    """Another process holds the folder's lock."""


def make_private(folder: Path) -> Path:
    """Makes `folder` and every missing parent with mode 0700; tightens `folder` itself when it exists."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
    if sys.platform != "win32" and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def write_private(path: Path, text: str) -> bool:
    """Writes a new file of mode 0600; False when it is there already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return True


@contextmanager
def folder_lock(folder: Path, name: str = "lock") -> Iterator[None]:
    """Holds `folder/name` for this process; the system gives it free when the process ends. Raises FolderInUse."""
    with (folder / name).open("a+b") as file:
        if not _try_lock(file):
            raise FolderInUse(f"{folder} is in use by another process")
        yield


if sys.platform == "win32":

    def _try_lock(file: IO[bytes]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
