"""Writes the golden dumps anew (and the pictures, to the folder given as argument). See golden/README.md."""

import sys
from pathlib import Path

from tests.support.screens import STATES, new_screen

GOLDEN = Path(__file__).parent / "golden"


def readable(dump: str) -> str:
    """A line per tag: what is stored, and what is compared."""
    return dump.replace("><", ">\n<") + "\n"


def renew(pictures: Path | None) -> None:
    """All states."""
    for old in GOLDEN.glob("*.xml"):
        old.unlink()
    for name, lead in STATES.items():
        screen = new_screen()
        lead(screen)
        (GOLDEN / f"{name}.xml").write_text(readable(screen.dump()), encoding="utf-8")
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            (pictures / f"{name}.png").write_bytes(screen.png())


if __name__ == "__main__":
    renew(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
