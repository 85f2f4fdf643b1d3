"""A phone's own clock, as its preflight read it, and what a deadline of this node is on it (spec/10)."""

import math
from dataclasses import dataclass
from typing import Final

from muster.agent.ports import Fence
from muster.domain.limits import PHONE_CLOCK_SEC_MAX

FENCE_SEC_MIN: Final = 3.0
"""Clocks are read to the second, on both ends of an interval: a nearer deadline may hold back a fresh command."""
LONG_COMMAND_SEC: Final = 30.0
"""A step with a longer limit says that its command may be long: the phone itself ends it then."""


@dataclass(frozen=True, slots=True)
class PhoneClock:
    """`ahead_sec`: its epoch seconds minus this node's monotonic ones, at the least. `has_timeout`: it can end a
    command by itself."""

    ahead_sec: float
    has_timeout: bool = False

    @classmethod
    def read(cls, epoch_sec: int, answered: float, *, has_timeout: bool) -> "PhoneClock":
        """It showed `epoch_sec` at some moment before `answered` (monotonic): now it shows that or more."""
        return cls(epoch_sec - answered, has_timeout)

    def fence(self, deadline: float, now: float) -> Fence | None:
        """For a command sent `now` that must not start after `deadline` (both monotonic seconds); None for a clock that
        shows a year in which mksh cannot compare times."""
        left_sec = max(deadline - now, 0.0)
        # A second that the phone still shows may be over but for a moment: it must be over by the deadline.
        deadline_sec = math.floor(self.ahead_sec + now + left_sec) - 1
        if not 0 < deadline_sec <= PHONE_CLOCK_SEC_MAX:
            return None
        is_long = self.has_timeout and left_sec > LONG_COMMAND_SEC
        return Fence(deadline_sec, math.ceil(left_sec) if is_long else None)
