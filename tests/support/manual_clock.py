"""A clock that stands still until a test moves it."""

import asyncio
import heapq
import itertools


class ManualClock:
    """Implements `runtime.clock.Clock`. `advance` wakes sleepers in the order of their deadlines."""

    def __init__(self, now_ms: int = 1_800_000_000_000) -> None:
        self._start_ms = now_ms
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._slept_on = asyncio.Event()

    def now_ms(self) -> int:
        return self._start_ms + round(self._elapsed * 1000)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), woken))
        self._slept_on.set()
        await woken.wait()

    async def is_slept_on(self, within_sec: float = 20) -> None:
        """Waits until somebody sleeps: what comes before may have been written to a disk, in a thread."""
        async with asyncio.timeout(within_sec):
            while not self._sleepers:
                self._slept_on.clear()
                await self._slept_on.wait()

    def jump(self, seconds: float) -> None:
        """Moves time on at once, as a machine that slept: whoever waits is woken by the next `advance`."""
        self._elapsed += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the wall clock, on or back: no time passes."""
        self._start_ms += round(seconds * 1000)

    async def advance(self, seconds: float) -> None:
        """Moves time on, stopping at each deadline on the way so that what it wakes runs at its own instant."""
        end = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, woken = heapq.heappop(self._sleepers)
            self._elapsed = max(self._elapsed, deadline)
            woken.set()
            await settle()
        self._elapsed = end
        await settle()


async def settle() -> None:
    """Lets every task that can run do so, until (in practice) all of them wait for something."""
    for _ in range(20):
        await asyncio.sleep(0)
