"""What a check of `muster doctor` answers."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from muster.runtime.settings import Settings

Verdict = Literal["ok", "warning", "bad"]
NAMES_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """`advice`: what to do about it; empty when all is well."""

    check: str
    verdict: Verdict
    detail: str
    advice: str = ""


Check = Callable[[Settings], Awaitable[Sequence[Finding]]]


def named(names: Iterable[str]) -> str:
    """`A, B, C and 17 more`."""
    every = sorted(names)
    rest = f" and {len(every) - NAMES_MAX} more" if len(every) > NAMES_MAX else ""
    return ", ".join(every[:NAMES_MAX]) + rest


def counted(number: int, what: str) -> str:
    """`1 phone`, `2 phones`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
