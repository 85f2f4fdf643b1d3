"""How long things take on a phone: measured or estimated spreads, drawn from the phone's own generator.

`screencap` 0.3-1.5 s and `uiautomator dump` 1-3 s were measured by users of real racks (spec/06); the 20-40 ms for a
fork of the shell and the rest are estimates. A triangular distribution keeps the bounds and has the usual value as its
peak.
"""

import random
from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds: the least, the most frequent, the most."""

    low_ms: float
    mode_ms: float
    high_ms: float

    def draw_sec(self, rng: random.Random) -> float:
        """One value, seconds."""
        return rng.triangular(self.low_ms, self.high_ms, self.mode_ms) / 1000


SHELL: Final = "sh"
"""The name under which the start of a shell is paced; every other name is a program's."""
TOOL: Final = "*"
"""Programs that have no line of their own."""
BOOT: Final = "boot"

MEASURED: Final[dict[str, Spread]] = {
    SHELL: Spread(20, 25, 40),
    TOOL: Spread(3, 5, 15),
    "am": Spread(60, 120, 500),
    "cmd": Spread(20, 40, 150),
    "dumpsys": Spread(20, 40, 200),
    "input": Spread(25, 45, 180),
    "monkey": Spread(500, 800, 2000),
    "pm": Spread(30, 60, 400),
    "screencap": Spread(300, 500, 1500),
    "settings": Spread(20, 40, 150),
    "svc": Spread(300, 450, 900),
    "uiautomator": Spread(1000, 1600, 3000),
    "wm": Spread(20, 40, 150),
    BOOT: Spread(20_000, 30_000, 60_000),
}


class Pace(Protocol):
    """How long a thing takes on one phone."""

    def delay_sec(self, name: str, rng: random.Random) -> float:
        """Seconds that `name` (a program, `SHELL`, `BOOT`) takes this time; 0: no wait at all."""
        ...


@dataclass(frozen=True, slots=True)
class NoPace:
    """Everything at once, for tests and for speed."""

    def delay_sec(self, name: str, rng: random.Random) -> float:
        """Always 0."""
        return 0.0


@dataclass(frozen=True, slots=True)
class SpreadPace:
    """Draws from `spreads`; `factor` makes a phone slower (above 1) or the whole rack faster (below 1)."""

    spreads: dict[str, Spread]
    factor: float = 1.0

    def delay_sec(self, name: str, rng: random.Random) -> float:
        """Draws one delay, seconds."""
        spread = self.spreads.get(name) or self.spreads.get(TOOL)
        return spread.draw_sec(rng) * self.factor if spread is not None else 0.0
