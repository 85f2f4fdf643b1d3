"""What is claimed and what was measured, collected for the table at the end."""

from dataclasses import dataclass
from typing import Final

MADE: Final[list["Claim"]] = []
"""All that were judged in this run, in order."""


@dataclass(frozen=True)
class Claim:
    """`limit` is met from below, or from above where `is_least`."""

    what: str
    value: float
    limit: float
    unit: str
    is_least: bool

    @property
    def is_met(self) -> bool:
        """The measured value keeps the limit."""
        return self.value >= self.limit if self.is_least else self.value < self.limit

    def __str__(self) -> str:
        bound = "at least" if self.is_least else "below"
        verdict = "ok  " if self.is_met else "FAIL"
        return f"{verdict} {self.what}: {_shown(self.value)} {self.unit}, claimed {bound} {_shown(self.limit)}"


def _shown(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def judge(what: str, value: float, limit: float, unit: str, *, is_least: bool = False) -> int:
    """Tells and notes one claim; 0 when it is met, 1 when not."""
    claim = Claim(what, value, limit, unit, is_least)
    MADE.append(claim)
    print(claim)
    return 0 if claim.is_met else 1
