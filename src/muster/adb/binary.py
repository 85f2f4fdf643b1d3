"""Where the adb program is."""

import importlib.util
import shutil
import sys
from pathlib import Path

from muster.adb.errors import AdbError


class AdbBinaryMissing(AdbError):
    """Neither PATH nor the `adbutils` wheel has an adb program."""


def find_adb(path: str | None = None) -> Path:
    """The adb of PATH (or of the given search path), else the `adbutils` wheel's. Raises AdbBinaryMissing."""
    found = shutil.which("adb", path=path)
    if found:
        return Path(found)
    bundled = bundled_adb()
    if bundled is None:
        raise AdbBinaryMissing("no adb program: put Android's platform-tools into PATH")
    return bundled


def bundled_adb() -> Path | None:
    """The adb of the `adbutils` wheel, found without importing that package."""
    spec = importlib.util.find_spec("adbutils")
    name = "adb.exe" if sys.platform == "win32" else "adb"
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "binaries" / name
        if binary.is_file():
            return binary
    return None
