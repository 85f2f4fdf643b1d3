"""Which process of this node's agent is speaking: a new id at each start (spec/03), and the id that it follows.

A killed agent cannot give its seat free. Its successor in the same data folder, which the folder's lock gives to one
process at a time, names the id that last spoke from there, and takes over at once (docs/adr/0012).
"""

import re
from pathlib import Path
from typing import Final

from muster.agent.whole_file import replace_file

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Instance:
    """`current` speaks; `replaces` is the one before it, from `took_seat` on itself."""

    def __init__(self, path: Path, new_id: str) -> None:
        self._path = path
        self.current = new_id
        self.replaces = _read(path)

    @property
    def has_seat(self) -> bool:
        """The backend has let `current` in before."""
        return self.replaces == self.current

    def took_seat(self) -> None:
        """The backend has let `current` in: from now on it is the one to follow. Raises OSError."""
        if self.has_seat:
            return
        replace_file(self._path, self.current)
        self.replaces = self.current


def _read(path: Path) -> str | None:
    """A file that is missing or damaged costs a wait of some seconds, not the start."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
    return text if _ID.fullmatch(text) else None
