"""A scheduler's loop at work on a real journal, with phones that are ready or not as the test decides."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.agent_parts import (
    GatedExecutor,
    MemoryLocks,
    accept,
    narrator,
    opened_journal,
    run_start,
    seeded,
    tasks_of,
    told,
)

from muster.agent.journal import JournalError, TaskLedger
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import Executor, NotReady, Reporter, Task, TaskOutcome
from muster.agent.scheduler.loop import LoopParts, SchedulerLoop
from muster.contracts.events import TaskFinished, TaskProgress, TaskStarted
from muster.domain.failure import FailureReason
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.supervision import Background

HANGS = NotReady(FailureReason.DEVICE_UNRESPONSIVE, "no answer to a probe")
OFFLINE = NotReady(FailureReason.ADB_OFFLINE, "adb shows the phone as offline")


@dataclass
class Stage:
    """A loop at work on a real journal. `ends`: one for each end that the loop told of."""

    loop: SchedulerLoop
    journal: SqliteJournal
    locks: MemoryLocks
    ends: list[None]

    async def take(self, *devices: str, run: int = 1, **changes: Any) -> list[Task]:
        """Accepts a run as the pull loop does and hands its tasks over."""
        start = run_start(*devices, run=run, **changes)
        await accept(self.journal, start)
        self.loop.submit(tasks_of(start))
        return tasks_of(start)

    async def take_again(self, *devices: str, attempt: int, run: int = 1) -> list[Task]:
        """The backend hands the tasks of a run out again."""
        start = run_start(*devices, run=run, command_id=f"0190000{attempt}-0000-7000-8000-{run:012x}")
        start = start.model_copy(
            update={"tasks": [task.model_copy(update={"attempt": attempt}) for task in start.tasks]}
        )
        await accept(self.journal, start)
        self.loop.submit(tasks_of(start))
        return tasks_of(start)

    async def finished(self, count: int) -> list[dict[str, Any]]:
        """Waits until so many tasks have ended; answers their events."""
        async with asyncio.timeout(20):
            while True:
                self.journal.news.clear()
                events = [event["payload"] for event in await told(self.journal) if event["type"] == "task_finished"]
                if len(events) >= count:
                    return events
                await self.journal.news.wait()


@dataclass
class ScriptedReadiness:
    """`Readiness` that the test decides: `answers` of a phone None = it recovered, else the fault it ended with."""

    waiting: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    graces: list[float] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _answers: dict[str, asyncio.Future[NotReady | None]] = field(default_factory=dict)

    async def wait_ready(self, device_id: str, fault: NotReady, seconds: float) -> NotReady | None:
        self.graces.append(seconds)
        answer: asyncio.Future[NotReady | None] = asyncio.get_running_loop().create_future()
        self._answers[device_id] = answer
        async with self.changed:
            self.waiting.append(device_id)
            self.changed.notify_all()
        try:
            return await answer
        except asyncio.CancelledError:
            self.cancelled.append(device_id)
            raise
        finally:
            self.waiting.remove(device_id)

    async def has(self, *devices: str) -> None:
        """Waits until these phones are waited for."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: set(devices) <= set(self.waiting))

    def answer(self, device_id: str, fault: NotReady | None = None) -> None:
        self._answers[device_id].set_result(fault)


@dataclass
class Faulty(GatedExecutor):
    """Some phones are not ready, so many times."""

    faults: dict[str, list[NotReady]] = field(default_factory=dict)
    tried: list[str] = field(default_factory=list)

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:  # type: ignore[override]
        self.tried.append(task.device_id)
        if faults := self.faults.get(task.device_id):
            await report.started(f"handle-of-{task.device_id}")
            return faults.pop(0)
        return await GatedExecutor.execute(self, task, report)


@dataclass
class HeldLedger:
    """A `TaskLedger` that takes its time: what is in `held` is written only when the test opens `gate`.

    `full`: so many writes of ends fail first, as on a full disk; what is in `refused` cannot be written at all.
    """

    journal: SqliteJournal
    held: set[str] = field(default_factory=set)
    full: int = 0
    refused: set[str] = field(default_factory=set)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def has_asked(self, what: str, device_id: str) -> None:
        """Waits until somebody wants this written."""
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: (what, device_id) in self.asked)

    async def _pass(self, what: str, device_id: str) -> None:
        async with self.changed:
            self.asked.append((what, device_id))
            self.changed.notify_all()
        if what in self.held:
            await self.gate.wait()
        if what in self.refused:
            raise JournalError("disk full")

    async def begin_task(self, started: TaskStarted) -> bool:
        await self._pass("begin", started.device_id)
        return await self.journal.begin_task(started)

    async def record_progress(self, progress: TaskProgress) -> None:
        await self._pass("progress", progress.device_id)
        await self.journal.record_progress(progress)

    async def end_task(self, finished: TaskFinished) -> bool:
        await self._pass("end", finished.device_id)
        if self.full:
            self.full -= 1
            raise JournalError("disk full")
        return await self.journal.end_task(finished)

    async def fence_task(self, finished: TaskFinished) -> bool:
        await self._pass("fence", finished.device_id)
        return await self.journal.fence_task(finished)

    async def park_task(self, waiting: TaskProgress) -> bool:
        await self._pass("park", waiting.device_id)
        return await self.journal.park_task(waiting)

    async def retry_task(self, failed: TaskProgress) -> bool:
        await self._pass("retry", failed.device_id)
        return await self.journal.retry_task(failed)


@asynccontextmanager
async def at_work(
    tmp_path: Path,
    executor: Executor,
    *,
    slots: int = 20,
    clock: Clock | None = None,
    readiness: ScriptedReadiness | None = None,
    ledger: Callable[[SqliteJournal], TaskLedger] = lambda journal: journal,
    grace_sec: float = 15.0,
) -> AsyncIterator[Stage]:
    """A loop on the journal in `tmp_path`; the same folder again is a restart."""
    ends: list[None] = []
    locks = MemoryLocks()
    clock = clock or SystemClock()
    async with opened_journal(tmp_path) as journal, Background() as background:
        parts = LoopParts(
            executor=executor,
            ledger=ledger(journal),
            locks=locks,
            narrator=narrator(clock),
            clock=clock,
            rng=seeded(),
            on_ended=lambda: ends.append(None),
            readiness=readiness or ScriptedReadiness(),
            grace_sec=grace_sec,
        )
        yield Stage(SchedulerLoop(slots, parts, background), journal, locks, ends)


def told_of(events: list[dict[str, Any]], device: str) -> list[tuple[str, str, int]]:
    """(type, status, attempt) of each event of a phone's tasks."""
    of_device = [event for event in events if event["payload"].get("device_id") == device]
    return [(event["type"], event["payload"]["status"], event["payload"]["attempt"]) for event in of_device]
