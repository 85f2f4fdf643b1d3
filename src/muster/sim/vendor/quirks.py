"""How the tool misbehaves, and how long things take. Everything is off, and drawn from one seed when it is on."""

import random
from dataclasses import dataclass, fields
from enum import Enum
from typing import Final

HUGE_BYTES_MAX: Final = 64 * 1024 * 1024
LATE_SEC_MAX: Final = 600.0


class Misbehaviour(Enum):
    """What goes wrong with one answer."""

    NONE = "none"
    LATE = "late"  # after `late_sec`; meanwhile the next request on the connection may be answered first
    SILENT = "silent"  # done, never answered
    RUBBISH = "rubbish"  # no JSON, or JSON of the wrong shape
    HUGE = "huge"  # `huge_bytes` of it
    DROPPED = "dropped"  # the connection ends in the middle of the answer


@dataclass(frozen=True, slots=True)
class VendorQuirks:
    """Shares are parts of all requests, 0 to 1, together at most 1. Raises ValueError on anything else."""

    seed: int = 0
    late_share: float = 0.0
    late_sec: float = 5.0
    silent_share: float = 0.0
    rubbish_share: float = 0.0
    huge_share: float = 0.0
    huge_bytes: int = 10 * 1024 * 1024
    dropped_share: float = 0.0
    refused_actions: frozenset[str] = frozenset()  # answered with 10001; lower-case names, `*` for all
    save_path_is_file: bool = False  # some versions take `savePath` for the picture's own name
    jpeg: bool = False  # some versions write JPEG
    picture_missing_share: float = 0.0  # promised, never written
    picture_torn_share: float = 0.0  # written halfway, never finished

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name.endswith("_share") and not 0.0 <= value <= 1.0:
                raise ValueError(f"{entry.name}: {value} is not between 0 and 1")
        if sum(share for _, share in self._answer_shares()) > 1.0 + 1e-9:
            raise ValueError("late, silent, rubbish, huge and dropped shares are together above 1")
        if self.picture_missing_share + self.picture_torn_share > 1.0 + 1e-9:
            raise ValueError("picture_missing_share and picture_torn_share are together above 1")
        if not 0.0 <= self.late_sec <= LATE_SEC_MAX:
            raise ValueError(f"late_sec: {self.late_sec} is not between 0 and {LATE_SEC_MAX:g}")
        if not 0 < self.huge_bytes <= HUGE_BYTES_MAX:
            raise ValueError(f"huge_bytes: {self.huge_bytes} is not between 1 and {HUGE_BYTES_MAX}")
        if any(name != name.lower() for name in self.refused_actions):
            raise ValueError("refused_actions: names are lower-case")

    def draw(self, rng: random.Random) -> Misbehaviour:
        """What happens to the next answer."""
        point = rng.random()
        for kind, share in self._answer_shares():
            if point < share:
                return kind
            point -= share
        return Misbehaviour.NONE

    def refuses(self, action: str) -> bool:
        """Is this action (lower-case) answered with 10001?"""
        return action in self.refused_actions or "*" in self.refused_actions

    def draw_picture_part(self, rng: random.Random) -> float:
        """How much of the next picture gets written: 1.0, a half, or nothing."""
        point = rng.random()
        if point < self.picture_missing_share:
            return 0.0
        return 0.5 if point < self.picture_missing_share + self.picture_torn_share else 1.0

    def _answer_shares(self) -> tuple[tuple[Misbehaviour, float], ...]:
        return (
            (Misbehaviour.LATE, self.late_share),
            (Misbehaviour.SILENT, self.silent_share),
            (Misbehaviour.RUBBISH, self.rubbish_share),
            (Misbehaviour.HUGE, self.huge_share),
            (Misbehaviour.DROPPED, self.dropped_share),
        )


@dataclass(frozen=True, slots=True)
class VendorPace:
    """How long a picture takes to appear, and how slowly it is written. `INSTANT` is for tests and benchmarks."""

    picture_delay_sec_min: float = 0.15
    picture_delay_sec_max: float = 0.6
    chunk_bytes: int = 16 * 1024
    chunk_pause_sec: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 <= self.picture_delay_sec_min <= self.picture_delay_sec_max or self.chunk_pause_sec < 0.0:
            raise ValueError("delays are not negative, and the least is not above the most")
        if self.chunk_bytes < 1:
            raise ValueError("chunk_bytes: at least 1")


INSTANT: Final = VendorPace(0.0, 0.0, 1024 * 1024, 0.0)
