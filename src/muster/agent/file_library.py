"""The files that recipes may name on this node: a folder that its operator fills, and what was fetched from phones.

`DATA/files/NAME` is read by `install` and `push`; `DATA/files/pulled/RUN/DEVICE/STEP` is written by `pull`, and can be
named by no recipe.
"""

import asyncio
import re
from pathlib import Path
from typing import Final

from muster.domain import limits
from muster.domain.artifact_key import encode_part
from muster.recipe.file_names import why_no_library_name
from muster.runtime.private_folder import make_private

PULLED: Final = "pulled"
_ENDING: Final = re.compile(r"\.[A-Za-z0-9]{1,10}")


class FileRefused(Exception):
    """The file cannot be read or kept here; the message says why."""


class FileLibrary:
    """The folder `files` of a node's data; None: this node has none."""

    def __init__(self, folder: Path | None, *, pulled_bytes_max: int = limits.PULLED_BYTES_MAX) -> None:
        self._folder = folder
        self._pulled_bytes_max = pulled_bytes_max

    async def find(self, name: str, *, is_apk: bool = False) -> Path:
        """Where the file of this name lies. Raises FileRefused."""
        if why := why_no_library_name(name, is_apk=is_apk):
            raise FileRefused(why)
        return await asyncio.to_thread(self._find, self._home(), name)

    async def place_for(self, run_id: str, device_id: str, step_id: str, ending: str) -> Path:
        """Where a file that comes from a phone is kept, in a folder that is there; `ending` such as `.txt`. Raises
        FileRefused."""
        return await asyncio.to_thread(self._place_for, self._home(), (run_id, device_id), step_id, ending)

    def shown(self, path: Path) -> str:
        """A file's place within the library, as people are told."""
        return path.relative_to(self._home()).as_posix()

    def _home(self) -> Path:
        if self._folder is None:
            raise FileRefused("this node has no folder for files")
        return self._folder

    def _find(self, home: Path, name: str) -> Path:
        path = home / name
        try:
            # A link may lead anywhere, so it must lead back into the library.
            if not path.is_file() or path.resolve().parent != home.resolve():
                raise FileRefused(f"this node has no file {name} in {home}; its operator puts it there")
        except OSError as error:
            raise FileRefused(f"{name} cannot be looked at: {error.strerror}") from error
        return path

    def _place_for(self, home: Path, parts: tuple[str, ...], step_id: str, ending: str) -> Path:
        pulled = home / PULLED
        folder = pulled.joinpath(*(encode_part(part) for part in parts))
        try:
            kept = sum(path.stat().st_size for path in pulled.rglob("*") if path.is_file())
            if kept + limits.PULL_BYTES_MAX > self._pulled_bytes_max:
                raise FileRefused(
                    f"{pulled} holds {kept} bytes; remove old files, at most {self._pulled_bytes_max} fit"
                )
            make_private(folder)
        except OSError as error:
            raise FileRefused(f"this node's disk does not take the file: {error.strerror}") from error
        return folder / (encode_part(step_id) + (ending if _ENDING.fullmatch(ending) else ""))
