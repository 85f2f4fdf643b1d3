"""Time, passed in. Wall time is for display and for other machines; durations come from the monotonic clock."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Epoch ms for records, monotonic seconds for durations, and a sleep on the same axis."""

    def now_ms(self) -> int:
        """Wall time, epoch ms."""
        ...

    def monotonic(self) -> float:
        """Seconds on an axis that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits on the monotonic axis."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Wall time, epoch ms."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since some fixed instant."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Waits in the event loop."""
        await asyncio.sleep(seconds)
