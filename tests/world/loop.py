"""An event loop without clock, socket or thread: time jumps, and what is ready at one instant runs in seeded order.

One callback a turn, so `stop()` takes effect at once: that is how a process is killed in the middle of its work.
"""

import asyncio
import heapq
import itertools
import random
from collections.abc import Coroutine, Generator, Iterator
from contextlib import suppress
from typing import Any, NoReturn

TURNS_MAX = 3_000_000


class Standstill(Exception):
    """Nothing is ready and nothing is due, or time has stopped while callbacks go round and round."""


class _NumberedTask(asyncio.Task[Any]):
    """Hashes by its number: asyncio keeps tasks in sets, and their order must not depend on addresses in memory."""

    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SeededLoop(asyncio.BaseEventLoop):
    """`time()` goes on from `start` (seconds)."""

    _ready: Any
    _scheduled: Any
    _stopping: bool

    def __init__(self, rng: random.Random, start: float) -> None:
        super().__init__()
        self._order = rng
        self._now = start
        self._turns = 0
        numbers = itertools.count(1)
        self.set_task_factory(lambda loop, coro, **options: _NumberedTask(next(numbers), coro, loop=loop, **options))

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: object, func: object, *args: object) -> NoReturn:
        raise AssertionError(f"the simulated world has no threads: {func}")

    def _run_once(self) -> None:
        due, ready = self._scheduled, self._ready
        while due and due[0]._cancelled:
            self._take_due()
        if not ready and not self._stopping:
            if not due:
                raise Standstill("nothing is ready and nothing is due")
            self._now = max(self._now, due[0]._when)
        while due and due[0]._when <= self._now:
            ready.append(self._take_due())
        if ready:
            self._run_one(ready)

    def _take_due(self) -> asyncio.TimerHandle:
        handle = heapq.heappop(self._scheduled)
        handle._scheduled = False
        assert isinstance(handle, asyncio.TimerHandle)
        return handle

    def _run_one(self, ready: Any) -> None:
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise Standstill(f"{TURNS_MAX} callbacks, and it is only {self._now:.3f} s")
        ready.rotate(-self._order.randrange(len(ready)))
        handle = ready.popleft()
        if not handle._cancelled:
            handle._run()

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Cancelled timers leave when they are due."""

    def _process_events(self, event_list: object) -> None:
        raise AssertionError("the simulated world has no sockets")

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    def bury(self) -> None:
        """Takes everything apart that was under way when the process was killed; none of it may act any more."""
        for task in sorted(asyncio.all_tasks(self), key=hash):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task.get_coro())
        self._ready.clear()
        self._scheduled.clear()
        self.close()


def _close(coro: Generator[Any, Any, Any] | Coroutine[Any, Any, Any] | None) -> None:
    """A `finally` that awaits is thrown out of each of its awaits in turn."""
    assert coro is not None
    for _ in _tries():
        with suppress(BaseException):  # whatever a dead process would have said
            coro.close()
            return


def _tries() -> Iterator[int]:
    return iter(range(100))
