"""The spool's files as a port, and the disk behind it: a picture is there whole and synced, or not at all."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from muster.agent.whole_file import sync_folder

PART_SUFFIX: Final = ".part"
"""A picture on its way to the disk has its name with this suffix."""


class PictureFiles(Protocol):
    """The only way to the spool's files. Raises OSError."""

    async def write(self, path: Path, content: bytes) -> str:
        """Writes all or nothing, synced to the disk; answers the SHA-256."""
        ...

    def remove(self, path: Path) -> None:
        """One that is not there is removed already."""
        ...

    def names(self, folder: Path) -> Sequence[str]:
        """The names in the folder, which is made if need be."""
        ...


class DiskPictureFiles:
    """Implements `PictureFiles` on the disk."""

    async def write(self, path: Path, content: bytes) -> str:
        """See `PictureFiles`."""
        return await asyncio.to_thread(_write_durably, path, content)

    def remove(self, path: Path) -> None:
        """See `PictureFiles`."""
        path.unlink(missing_ok=True)

    def names(self, folder: Path) -> Sequence[str]:
        """See `PictureFiles`."""
        folder.mkdir(parents=True, exist_ok=True)
        return [path.name for path in folder.iterdir()]


ON_DISK: Final = DiskPictureFiles()


def _write_durably(path: Path, content: bytes) -> str:
    """Writes all or nothing, synced to the disk; answers the SHA-256. Blocking."""
    part = path.with_suffix(PART_SUFFIX)
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return hashlib.sha256(content).hexdigest()
