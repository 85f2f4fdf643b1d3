"""What this process holds at a moment, so that a test can show that hard work has left nothing behind.

Slack, and why: descriptors, tasks and threads have none. `heap` is what Python objects take, counted to the byte by
`tracemalloc`; `HEAP_BYTES`, however much was done, is for what is made once and kept (interned text, a deque's next
block, code that was specialized). The smallest thing that could stay behind of a command, a future, has 150 bytes and
passes that after 440 commands. `resident` is what the operating system counts: the allocator keeps pages that were used
at the busiest moment, so it only tells of leaks outside Python's heap, and its slack is `RESIDENT_BYTES`.
"""

import asyncio
import gc
import sys
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
from tests.support.waiting import until

HEAP_BYTES = 64 * 1024
RESIDENT_BYTES = 8 * 1024 * 1024
_LOOKS = 40


@dataclass(frozen=True, slots=True)
class Footprint:
    """Descriptors (handles on Windows), event loop tasks, threads, bytes of Python objects, bytes of memory."""

    fds: int
    tasks: int
    threads: int
    heap: int
    resident: int

    def grown_since(self, before: "Footprint") -> dict[str, int]:
        """What is more than it was before, beyond the slack; empty: all is back."""
        grown = {
            "fds": self.fds - before.fds,
            "tasks": self.tasks - before.tasks,
            "threads": self.threads - before.threads,
            "heap": self.heap - before.heap - HEAP_BYTES,
            "resident": self.resident - before.resident - RESIDENT_BYTES,
        }
        return {name: amount for name, amount in grown.items() if amount > 0}


@contextmanager
def traced_heap() -> Iterator[None]:
    """Counts Python's objects; everything is slower meanwhile."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def footprint() -> Footprint:
    """Now. Within `traced_heap`."""
    gc.collect()
    process = psutil.Process()
    heap, _ = tracemalloc.get_traced_memory()
    return Footprint(
        open_files(process),
        len(asyncio.all_tasks()),
        threading.active_count(),
        heap,
        process.memory_info().rss,
    )


async def fill_thread_pool() -> None:
    """Has the event loop's own pool start all its threads: it keeps them, and their number is bounded."""
    await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.002) for _ in range(200)))


async def at_rest(is_quiet: Callable[[], bool]) -> None:
    """Waits until it is quiet and no task comes or goes any more: what is imitated lives in this process too, and what
    it was told last may still be on its way."""
    tasks: deque[int] = deque(maxlen=_LOOKS)

    def holds() -> bool:
        tasks.append(len(asyncio.all_tasks()))
        return is_quiet() and tasks.count(tasks[0]) == _LOOKS

    await until(holds, within_sec=60)


def open_files(process: psutil.Process) -> int:
    """Its file descriptors, sockets and pipes among them; handles on Windows."""
    return int(process.num_handles() if sys.platform == "win32" else process.num_fds())
