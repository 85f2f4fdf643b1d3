"""Small files that are replaced as a whole: half a file is never seen, whenever the power goes."""

import os
import sys
from pathlib import Path
from typing import Final

NEW_PATTERN: Final = "*.new"
"""Of the files that `replace_file` is writing."""


def replace_file(path: Path, text: str) -> None:
    """Writes beside it, syncs, then renames. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes a renaming in it durable. Windows cannot open a folder; NTFS journals names by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
