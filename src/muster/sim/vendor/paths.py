"""Paths as the tool's clients give them: of this machine, or of a Windows PC that this machine stands for."""

import re
import sys
from pathlib import Path, PureWindowsPath

from muster.sim.vendor.messages import BAD_PARAMETER, Refusal

PICTURES_DEFAULT = r"D:\Pictures"
DOWNLOADS_DEFAULT = r"D:\Downloads"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def on_this_machine(path: str, data_dir: Path) -> Path:
    """A path on this machine; `D:\\x` becomes `<data_dir>/D/x` where there are no drive letters. Raises Refusal."""
    if "\0" in path:
        raise Refusal(BAD_PARAMETER)
    windows = PureWindowsPath(path)
    if sys.platform == "win32" or not windows.drive:
        return Path(path)
    parts = [part for part in windows.parts[1:] if part not in {"..", "."}]
    return data_dir / (_NOT_IN_NAMES.sub("", windows.drive) or "share") / Path(*parts)


def file_name(*words: str) -> str:
    """Words joined into a name that every file system takes."""
    return _NOT_IN_NAMES.sub("-", "_".join(words)).strip("-.")
