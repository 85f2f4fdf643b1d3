"""Static files, held in memory and named by the hash of all of them, so that a browser may keep them for ever."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent / "static"
_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    body: bytes
    media_type: str


class Assets:
    """All files of the folder. One hash for all: modules import each other by relative paths and stay together."""

    def __init__(self, folder: Path = FOLDER) -> None:
        paths = sorted(path for path in folder.iterdir() if path.suffix in _MEDIA_TYPES)
        self._assets = {path.name: Asset(path.read_bytes(), _MEDIA_TYPES[path.suffix]) for path in paths}
        digest = hashlib.sha256()
        for name, asset in self._assets.items():
            digest.update(name.encode() + b"\0" + asset.body + b"\0")
        self.version = digest.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a page finds the file; a name that does not exist is a bug of the page."""
        assert name in self._assets, name
        return f"/static/{self.version}/{name}"

    def get(self, name: str) -> Asset | None:
        """The file of that name."""
        return self._assets.get(name)
