"""How long a slot lies idle between two tasks, as the loop tells it."""

from pathlib import Path

from tests.support.agent_parts import (
    GatedExecutor,
    MemoryLocks,
    accept,
    narrator,
    opened_journal,
    run_start,
    seeded,
    tasks_of,
)

from muster.agent.ports import NotReady
from muster.agent.scheduler.loop import LoopParts, SchedulerLoop
from muster.runtime.clock import SystemClock
from muster.runtime.supervision import Background


class NobodyWaits:
    """`Readiness` where every phone is ready."""

    async def wait_ready(self, device_id: str, fault: NotReady, seconds: float) -> NotReady | None:
        raise AssertionError(f"{device_id} waits for {fault} for {seconds} s")


async def test_each_slot_that_is_taken_over_is_told_once_and_one_that_lay_free_never(tmp_path: Path) -> None:
    executor, refills, clock = GatedExecutor(), list[float](), SystemClock()
    start = run_start("A", "B", "C", "D", "E")
    async with opened_journal(tmp_path) as journal, Background() as background:
        parts = LoopParts(
            executor, journal, MemoryLocks(), narrator(), clock, seeded(), lambda: None, NobodyWaits(), 15.0,
            refills.append,
        )  # fmt: skip
        await accept(journal, start)
        began = clock.monotonic()
        SchedulerLoop(2, parts, background).submit(tasks_of(start))
        await executor.has_started(2)
        assert refills == []
        for started, device in ((3, "A"), (4, "B"), (5, "C")):
            executor.let_end(device)
            await executor.has_started(started)
        assert len(refills) == 3
        assert 0 < sum(refills) < clock.monotonic() - began
        executor.let_end("D")
        executor.let_end("E")
