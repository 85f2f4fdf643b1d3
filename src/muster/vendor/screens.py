"""Pictures that the vendor tool leaves in a folder, some time after it said yes (spec/05).

Every shot gets a folder of its own, so that two shots never mix. The tool chooses the file's name and writes as fast as
it likes: a picture is taken when it is whole and its size has stood still between two looks.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from muster.domain.limits import ARTIFACT_BYTES_MAX

LOOK_INTERVAL_SEC: Final = 0.05
LEFTOVER_SEC: Final = 900.0
"""A tool that was asked and then left makes its folder and its picture all the same, later: after the folder was
removed. Longer than a step may take, so that nothing under way is touched."""
FILES_LOOKED_AT_MAX: Final = 50
_PREFIX: Final = "shot-"
_PNG_HEAD: Final = b"\x89PNG\r\n\x1a\n"
_PNG_TAIL: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG_HEAD: Final = b"\xff\xd8\xff"
_JPEG_TAIL: Final = b"\xff\xd9"


@contextmanager
def shot_folder(root: Path) -> Iterator[Path]:
    """A fresh folder under `root` for one shot; gone afterwards, with all that the tool put there."""
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    _remove_leftovers(root, folder.stat().st_mtime)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(root: Path, now_sec: float) -> None:
    """What earlier shots left: of a tool that was late, or of an agent that was killed. By the disk's own clock."""
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            is_left = now_sec - folder.stat().st_mtime > LEFTOVER_SEC
        except OSError:
            continue  # its own shot has just ended
        if is_left:
            shutil.rmtree(folder, ignore_errors=True)


def is_whole_picture(data: bytes) -> bool:
    """A PNG up to its IEND chunk or a JPEG up to its end marker; what lies between is judged elsewhere."""
    if data.startswith(_PNG_HEAD):
        return data.endswith(_PNG_TAIL)
    return data.startswith(_JPEG_HEAD) and data.endswith(_JPEG_TAIL)


async def wait_for_picture(folder: Path) -> bytes:
    """The first whole and stable picture under `folder`, at any depth. Waits for ever: the caller sets the limit."""
    sizes: dict[Path, int] = {}
    while True:
        seen = await asyncio.to_thread(_sizes, folder)
        for path in settled(sizes, seen):
            data = await asyncio.to_thread(_read, path)
            if len(data) == seen[path] and is_whole_picture(data):
                return data
        sizes = seen
        await asyncio.sleep(LOOK_INTERVAL_SEC)


def settled(before: Mapping[Path, int], now: Mapping[Path, int]) -> list[Path]:
    """Files whose size has stood still between two looks: a JPEG with a thumbnail looks whole long before it is."""
    return [path for path, size in now.items() if before.get(path) == size and 0 < size <= ARTIFACT_BYTES_MAX]


def _sizes(folder: Path) -> dict[Path, int]:
    """Size in bytes of every file under `folder`."""
    sizes: dict[Path, int] = {}
    for path in folder.rglob("*"):
        if len(sizes) >= FILES_LOOKED_AT_MAX:
            break
        try:
            if path.is_file():
                sizes[path] = path.stat().st_size
        except OSError:
            continue  # gone between two calls, or still locked by the tool (Windows): the next look tells
    return sizes


def _read(path: Path) -> bytes:
    """The file's bytes, at most one more than a picture may have; nothing while the tool still holds it (Windows)."""
    try:
        with path.open("rb") as file:
            return file.read(ARTIFACT_BYTES_MAX + 1)
    except OSError:
        return b""
