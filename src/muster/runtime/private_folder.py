"""Folders and files that only this user can read."""

import os
from pathlib import Path


def make_private(folder: Path) -> Path:
    """Makes `folder` and every missing parent with mode 0700. A folder that is there already keeps its mode."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
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
