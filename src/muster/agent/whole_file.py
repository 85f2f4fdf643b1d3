"""Small files that are replaced as a whole: half a file is never seen, whenever the power goes."""

import os
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Writes beside it, syncs, then renames. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
