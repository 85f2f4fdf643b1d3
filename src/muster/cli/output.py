"""What commands print: answers to stdout, everything else to stderr; never a control character of a phone's."""

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from muster.runtime.masking import hide_passwords

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

STATUS_STYLES = {
    "succeeded": "green",
    "completed": "green",
    "online": "green",
    "running": "cyan",
    "failed": "bold red",
    "completed_with_errors": "yellow",
    "degraded": "yellow",
    "skipped_offline": "yellow",
    "waiting": "yellow",
    "cancelled": "magenta",
    "stopped": "magenta",
    "offline": "dim",
    "queued": "dim",
}


def say(text: str) -> None:
    """A line for the person, on stderr."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def tell(text: str) -> None:
    """A line of the answer, on stdout."""
    sys.stdout.write(clean(text) + "\n")


def tell_json(document: Any) -> None:
    """The answer as one JSON document on stdout."""
    json.dump(document, sys.stdout, ensure_ascii=False, indent=2)
    sys.stdout.write("\n")


def as_document(message: "BaseModel") -> dict[str, Any]:
    """A message as the API would send it."""
    document: dict[str, Any] = message.model_dump(mode="json", by_alias=True)
    return document


def clean(text: object) -> str:
    """Text fit for a terminal: no password of an address; what a phone says moves no cursor and forges no line."""
    shown = hide_passwords(str(text))
    return "".join(_VISIBLE.get(char, char) if char >= " " else _VISIBLE.get(char, "�") for char in shown)


# C1 controls (0x80-0x9f) are escape sequences to some terminals; bidirectional marks reorder a line.
_VISIBLE = dict.fromkeys(map(chr, [0x7F, *range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]), "�")
_VISIBLE |= {"\n": " ", "\t": " ", "\r": " "}


def console(*, stderr: bool = False) -> "Console":
    """A Rich console; without a terminal it writes plain text, wide enough that nothing is cut."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    is_sized = stream.isatty() or os.environ.get("COLUMNS")
    return Console(file=stream, highlight=False, width=None if is_sized else 160)


def tell_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, flexible: str = "") -> None:
    """A table on stdout. The `flexible` column gives way on a narrow terminal; columns that count are right-aligned."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="ellipsis", no_wrap=True, ratio=1 if name == flexible else None)
    for row in rows:
        texts = [clean("-" if cell is None or cell == "" else cell) for cell in row]
        table.add_row(*(Text(text, style=STATUS_STYLES.get(text, "")) for text in texts))
    console().print(table)


def short_id(run_id: str) -> str:
    """A run's first 13 characters: its millisecond. Commands take any unique beginning."""
    return run_id[:13]


def local_time(epoch_ms: int | None) -> str | None:
    """`2026-11-22 12:00:05` in this PC's time zone."""
    return None if epoch_ms is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch_ms / 1000))


def ago(epoch_ms: int | None, now_ms: int) -> str | None:
    """`5 s`, `3 min`, `2 h`, `4 d` since `epoch_ms`."""
    if epoch_ms is None:
        return None
    seconds = max(0, now_ms - epoch_ms) // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def seconds(duration_ms: int | None) -> str | None:
    """`12.3 s`."""
    return None if duration_ms is None else f"{duration_ms / 1000:.1f} s"
