"""The loop: what it starts, when it lets go, and that nothing an executor does takes the rest along."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_parts import (
    GatedExecutor,
    MemoryLocks,
    accept,
    narrator,
    opened_journal,
    run_start,
    seeded,
    step,
    tasks_of,
    told,
    uuid,
)
from tests.support.manual_clock import ManualClock, settle

from muster.agent.journal import JournalError
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import Executor, NotReady, Reporter, Task, TaskOutcome
from muster.agent.resume import resume
from muster.agent.scheduler.loop import LoopParts, SchedulerLoop
from muster.contracts.events import TaskFinished, TaskProgress, TaskStarted
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.logs import configure_logs
from muster.runtime.supervision import Background


@dataclass
class Stage:
    """A loop at work on a real journal."""

    loop: SchedulerLoop
    journal: SqliteJournal
    locks: MemoryLocks
    ends: list[None]

    async def take(self, *devices: str, run: int = 1) -> list[Task]:
        start = run_start(*devices, run=run)
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
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(lambda: set(devices) <= set(self.waiting))

    def answer(self, device_id: str, fault: NotReady | None = None) -> None:
        self._answers[device_id].set_result(fault)


@asynccontextmanager
async def at_work(
    tmp_path: Path,
    executor: Executor,
    *,
    slots: int = 20,
    clock: Clock | None = None,
    readiness: "ScriptedReadiness | None" = None,
) -> AsyncIterator[Stage]:
    ends: list[None] = []
    locks = MemoryLocks()
    clock = clock or SystemClock()
    async with opened_journal(tmp_path) as journal, Background() as background:
        on_ended = lambda: ends.append(None)  # noqa: E731
        parts = LoopParts(
            executor, journal, locks, narrator(clock), clock, seeded(), on_ended, readiness or ScriptedReadiness()
        )
        yield Stage(SchedulerLoop(slots, parts, background), journal, locks, ends)


async def test_each_task_of_a_run_is_executed_and_told(tmp_path: Path) -> None:
    executor = GatedExecutor(open_gates=True)
    async with at_work(tmp_path, executor) as stage:
        await stage.take("A", "B", "C")
        events = await stage.finished(3)
        assert {(event["device_id"], event["status"]) for event in events} == {
            ("A", "succeeded"), ("B", "succeeded"), ("C", "succeeded"),
        }  # fmt: skip
        assert all(event["timings"]["durationMs"] >= 0 for event in events)


async def test_never_more_at_once_than_slots_and_a_free_slot_is_used_at_once(tmp_path: Path) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor, slots=20) as stage:
        devices = [f"phone-{number}" for number in range(100)]
        tasks = await stage.take(*devices)
        await executor.has_started(20)
        assert (executor.at_once, stage.loop.running, stage.loop.queued_devices) == (20, 20, 80)
        for number, task in enumerate(tasks):
            executor.let_end(task.device_id)
            await executor.has_started(min(100, 21 + number))
        await stage.finished(100)
        assert executor.at_once_max == 20
        assert executor.started == [task.task_id for task in tasks]


async def test_a_phones_own_tasks_run_one_after_another_in_their_order(tmp_path: Path) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor) as stage:
        (first,) = await stage.take("A", run=1)
        (second,) = await stage.take("A", run=2)
        await executor.has_started(1)
        assert executor.started == [first.task_id]
        executor.let_end("A")
        await executor.has_started(2)
        assert executor.started == [first.task_id, second.task_id]
        executor.let_end("A")
        await stage.finished(2)


async def test_an_exception_out_of_the_executor_ends_its_task_alone(tmp_path: Path) -> None:
    @dataclass
    class Buggy(GatedExecutor):
        async def execute(self, task: Task, report: Reporter) -> TaskOutcome:
            if task.device_id == "A":
                raise KeyError("a bug in a step")
            return await GatedExecutor.execute(self, task, report)

    log = io.StringIO()
    configure_logs(stream=log)
    executor = Buggy(open_gates=True)
    async with at_work(tmp_path, executor, slots=1) as stage:
        await stage.take("A", "B")
        first, second = await stage.finished(2)
        assert (first["status"], first["failure_reason"]) == ("failed", "unknown")
        assert "a bug in a step" in first["error_message"]
        assert second["status"] == "succeeded"
    assert "Traceback" in log.getvalue()


async def test_an_executor_that_cancels_itself_is_a_bug_and_frees_its_slot(tmp_path: Path) -> None:
    @dataclass
    class Suicidal(GatedExecutor):
        async def execute(self, task: Task, report: Reporter) -> TaskOutcome:
            if task.device_id == "A":
                raise asyncio.CancelledError
            return await GatedExecutor.execute(self, task, report)

    async with at_work(tmp_path, Suicidal(open_gates=True), slots=1) as stage:
        await stage.take("A", "B")
        first, second = await stage.finished(2)
        assert (first["failure_reason"], second["status"]) == ("unknown", "succeeded")


async def test_an_outcome_that_breaks_the_contract_still_ends_the_task(tmp_path: Path) -> None:
    executor = GatedExecutor(open_gates=True, outcome=lambda _: TaskOutcome(TaskState.RUNNING))
    async with at_work(tmp_path, executor) as stage:
        await stage.take("A")
        (event,) = await stage.finished(1)
        assert (event["status"], event["failure_reason"]) == ("failed", "unknown")


async def test_cancelling_a_queued_task_ends_it_without_a_start(tmp_path: Path) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor, slots=1) as stage:
        _, waiting = await stage.take("A", "B")
        await executor.has_started(1)
        stage.loop.cancel(waiting.task_id)
        (event,) = await stage.finished(1)
        assert (event["device_id"], event["status"], event["seq"]) == ("B", "cancelled", 1)
        executor.let_end("A")
        await stage.finished(2)
        assert len(executor.started) == 1


async def test_cancelling_a_running_task_frees_its_slot_only_after_the_teardown(tmp_path: Path) -> None:
    executor = GatedExecutor(teardown_gate=asyncio.Event())
    async with at_work(tmp_path, executor, slots=1) as stage:
        running, waiting = await stage.take("A", "B")
        await executor.has_started(1)
        stage.loop.cancel(running.task_id)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (executor.started, stage.locks.held) == ([running.task_id], {"A"})
        assert executor.teardown_gate is not None
        executor.teardown_gate.set()
        (event,) = await stage.finished(1)
        assert (event["status"], event["runtime_handle"]) == ("cancelled", "handle-of-A")
        await executor.has_started(2)
        assert executor.started == [running.task_id, waiting.task_id]
        executor.let_end("B")
        await stage.finished(2)


async def test_cancelling_a_task_before_its_first_step_leaks_no_slot(tmp_path: Path) -> None:
    executor = GatedExecutor(open_gates=True)
    async with at_work(tmp_path, executor, slots=1) as stage:
        start = run_start("A", "B")
        await accept(stage.journal, start)
        stage.loop.submit(tasks_of(start))
        stage.loop.cancel(start.tasks[0].task_id)
        first, second = await stage.finished(2)
        assert (first["status"], second["status"]) == ("cancelled", "succeeded")


async def test_the_slot_is_held_until_the_outcome_is_journaled(tmp_path: Path) -> None:
    clock = ManualClock()
    executor = GatedExecutor(open_gates=True)
    async with opened_journal(tmp_path) as journal, Background() as background:
        ledger = FailingLedger(journal, failures=2)
        parts = LoopParts(
            executor, ledger, MemoryLocks(), narrator(clock), clock, seeded(), lambda: None, ScriptedReadiness()
        )
        loop = SchedulerLoop(1, parts, background)
        start = run_start("A", "B")
        await accept(journal, start)
        loop.submit(tasks_of(start))
        await ledger.failed.wait()
        assert (executor.at_once, loop.running, len(executor.started)) == (0, 1, 1)
        async with asyncio.timeout(20):
            while loop.running:
                await clock.advance(1)
                await asyncio.sleep(0.001)  # the journal's thread runs in real time
        assert [task.state for task in await journal.open_tasks()] == []
        assert len(executor.started) == 2


@dataclass
class FailingLedger:
    """A `TaskLedger` whose disk is full for the first few ends of tasks."""

    journal: SqliteJournal
    failures: int
    failed: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin_task(self, started: TaskStarted) -> bool:
        return await self.journal.begin_task(started)

    async def record_progress(self, progress: TaskProgress) -> bool:
        raise JournalError("disk full")

    async def end_task(self, finished: TaskFinished) -> bool:
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise JournalError("disk full")
        return await self.journal.end_task(finished)

    async def fence_task(self, finished: TaskFinished) -> bool:
        return await self.journal.fence_task(finished)

    async def park_task(self, waiting: TaskProgress) -> bool:
        return await self.journal.park_task(waiting)

    async def retry_task(self, failed: TaskProgress) -> bool:
        return await self.journal.retry_task(failed)


async def test_progress_that_cannot_be_recorded_does_not_fail_the_step(tmp_path: Path) -> None:
    @dataclass
    class Talkative(GatedExecutor):
        async def execute(self, task: Task, report: Reporter) -> TaskOutcome:
            await report.started("usb-1")
            await report.progress(step())
            await report.progress(step(StepState.COMPLETED))
            return TaskOutcome(TaskState.SUCCEEDED)

    async with at_work(tmp_path, Talkative()) as stage:
        await stage.take("A")
        await stage.finished(1)
    async with opened_journal(tmp_path / "other") as journal, Background() as background:
        ledger = FailingLedger(journal, failures=0)
        clock = SystemClock()
        ended = asyncio.Event()
        parts = LoopParts(
            Talkative(), ledger, MemoryLocks(), narrator(), clock, seeded(), ended.set, ScriptedReadiness()
        )
        await accept(journal, run_start("A"))
        SchedulerLoop(1, parts, background).submit(tasks_of(run_start("A")))
        await asyncio.wait_for(ended.wait(), 20)
        (event,) = [event["payload"] for event in await told(journal) if event["type"] == "task_finished"]
        assert event["status"] == "succeeded"


async def test_a_phone_that_another_agent_uses_gives_its_slot_to_others_and_is_started_when_free(
    tmp_path: Path,
) -> None:
    clock = ManualClock()
    executor = GatedExecutor(open_gates=True)
    async with at_work(tmp_path, executor, slots=1, clock=clock) as stage:
        stage.locks.elsewhere.add("A")
        first, second = await stage.take("A", "B")
        await stage.finished(1)
        assert executor.started == [second.task_id]
        await clock.advance(5)
        assert executor.started == [second.task_id]
        stage.locks.elsewhere.clear()
        await clock.advance(1)
        await stage.finished(2)
        assert executor.started == [second.task_id, first.task_id]


async def test_a_phone_that_another_agent_never_lets_go_ends_as_reserved(tmp_path: Path) -> None:
    clock = ManualClock()
    async with at_work(tmp_path, GatedExecutor(open_gates=True), clock=clock) as stage:
        stage.locks.elsewhere.add("A")
        await stage.take("A")
        await clock.advance(1_900)
        (event,) = await stage.finished(1)
        assert (event["status"], event["failure_reason"]) == ("failed", "device_reserved")


async def test_draining_lets_running_tasks_end_and_starts_no_other(tmp_path: Path) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor, slots=1) as stage:
        await stage.take("A", "B")
        await executor.has_started(1)
        draining = asyncio.create_task(stage.loop.drain(20))
        await asyncio.sleep(0)
        executor.let_end("A")
        await draining
        await stage.finished(1)
        assert len(executor.started) == 1
        assert [task.device_id for task in await stage.journal.open_tasks()] == ["B"], "it waits for the next start"
        await stage.take("C", run=2)
        assert len(executor.started) == 1


async def test_draining_stops_what_does_not_end_within_the_grace(tmp_path: Path) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor) as stage:
        await stage.take("A")
        await executor.has_started(1)
        await stage.loop.drain(0.01)
        (event,) = await stage.finished(1)
        assert (event["status"], event["failure_reason"]) == ("failed", "node_restarted")
        assert executor.torn_down == executor.started


async def test_the_line_that_tells_of_a_tasks_end_carries_run_and_device(tmp_path: Path) -> None:
    log = io.StringIO()
    configure_logs(stream=log)
    async with at_work(tmp_path, GatedExecutor(open_gates=True)) as stage:
        await stage.take("A")
        await stage.finished(1)
        await stage.loop.drain(20)
    lines = [line for line in log.getvalue().splitlines() if "Task " in line]
    context = f"[run_id={uuid(1, kind=2)} device_id=A] "
    told_lines = [line.split(context)[1].split("  ")[0] for line in lines]
    assert told_lines == ["Task finished status=succeeded"]


async def test_a_task_known_twice_is_started_once(tmp_path: Path) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor) as stage:
        tasks = await stage.take("A")
        stage.loop.submit(tasks)
        await executor.has_started(1)
        executor.let_end("A")
        await stage.finished(1)
        await stage.loop.drain(20)
        assert len(executor.started) == 1
        assert len(stage.ends) == 1


async def test_a_stale_attempt_is_not_started(tmp_path: Path) -> None:
    executor = GatedExecutor(open_gates=True)
    async with at_work(tmp_path, executor) as stage:
        start = run_start("A")
        await accept(stage.journal, start)
        stage.loop.submit([replace(tasks_of(start)[0], attempt=9)])
        await stage.loop.drain(20)
        assert executor.started == []
        assert [event["type"] for event in await told(stage.journal)] == ["command_ack", "run_started"]


# ---- grace and parking (R8.3, R8.5) --------------------------------------------------------------------------------

HANGS = NotReady(FailureReason.DEVICE_UNRESPONSIVE, "no answer to a probe")
OFFLINE = NotReady(FailureReason.ADB_OFFLINE, "adb shows the phone as offline")


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


def told_of(events: list[dict[str, Any]], device: str) -> list[tuple[str, str, int]]:
    """(type, status, attempt) of each event of a phone's tasks."""
    of_device = [event for event in events if event["payload"].get("device_id") == device]
    return [(event["type"], event["payload"]["status"], event["payload"]["attempt"]) for event in of_device]


async def test_a_phone_that_is_not_ready_gives_its_slot_to_another_and_has_the_next_one_when_it_recovers(
    tmp_path: Path,
) -> None:
    executor, readiness = Faulty(faults={"A": [HANGS]}), ScriptedReadiness()
    async with at_work(tmp_path, executor, slots=1, readiness=readiness) as stage:
        first, second, _ = await stage.take("A", "B", "C")
        await executor.has_started(1)
        await readiness.has("A")
        assert (executor.started, stage.loop.running, stage.locks.held) == ([second.task_id], 1, {"B"})
        readiness.answer("A")
        await settle()
        assert executor.started == [second.task_id], "there is one slot, and B has it"
        executor.let_end("B")
        await executor.has_started(2)
        assert executor.started == [second.task_id, first.task_id], "before C, which never waited"
        executor.let_end("A")
        await executor.has_started(3)
        executor.let_end("C")
        await stage.finished(3)
        assert told_of(await told(stage.journal), "A") == [
            ("task_started", "running", 1), ("task_progress", "waiting", 1), ("task_started", "running", 1),
            ("task_progress", "completed", 1), ("task_finished", "succeeded", 1),
        ]  # fmt: skip
        assert readiness.graces == [15.0]


async def test_a_phone_that_does_not_recover_fails_with_the_last_fault_and_its_next_task_has_its_turn(
    tmp_path: Path,
) -> None:
    executor, readiness = Faulty(faults={"A": [HANGS]}, open_gates=True), ScriptedReadiness()
    async with at_work(tmp_path, executor, readiness=readiness) as stage:
        await stage.take("A")
        (later,) = await stage.take("A", run=2)
        await readiness.has("A")
        assert executor.started == [], "nothing of this phone overtakes the parked task"
        waiting = [event["payload"] for event in await told(stage.journal) if event["payload"].get("wait_until")]
        assert [(event["status"], event["failure_reason"]) for event in waiting] == [("waiting", "device_unresponsive")]
        assert [task.state for task in await stage.journal.open_tasks()] == [TaskState.WAITING, TaskState.QUEUED]
        readiness.answer("A", OFFLINE)
        first, _ = await stage.finished(2)
        assert (first["status"], first["failure_reason"]) == ("failed", "adb_offline")
        assert first["runtime_handle"] == "handle-of-A" and first["timings"]["startedAt"]
        assert executor.started == [later.task_id]


async def test_a_phone_that_comes_and_goes_uses_up_one_grace(tmp_path: Path) -> None:
    clock = ManualClock()
    executor, readiness = Faulty(faults={"A": [HANGS] * 9}), ScriptedReadiness()
    async with at_work(tmp_path, executor, clock=clock, readiness=readiness) as stage:
        await stage.take("A")
        for _ in range(2):
            await readiness.has("A")
            await clock.advance(7)
            readiness.answer("A")
            await settle()
            await asyncio.sleep(0.01)
        await readiness.has("A")
        await clock.advance(7)
        readiness.answer("A")
        (end,) = await stage.finished(1)
        assert (end["status"], end["failure_reason"]) == ("failed", "device_unresponsive")
        assert readiness.graces == [15.0, 8.0, 1.0]


async def test_each_use_of_a_slot_is_logged_with_its_length_and_with_what_became_of_the_task(tmp_path: Path) -> None:
    clock, log, readiness = ManualClock(), io.StringIO(), ScriptedReadiness()
    configure_logs(json_lines=True, stream=log)
    executor = Faulty(faults={"A": [HANGS]})
    async with at_work(tmp_path, executor, clock=clock, readiness=readiness) as stage:
        await stage.take("A")
        await readiness.has("A")
        await clock.advance(60)
        readiness.answer("A")
        await executor.has_started(1)
        await clock.advance(5)
        executor.let_end("A")
        await stage.finished(1)
        await stage.loop.drain(20)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    uses = [line for line in lines if line["event"] == "Slot given back"]
    assert [(use["device_id"], use["held_ms"], use["then"]) for use in uses] == [
        ("A", 0, "park"),
        ("A", 5_000, "finished"),
    ]


async def test_cancelling_a_parked_task_ends_it_at_once_and_clears_its_timer(tmp_path: Path) -> None:
    executor, readiness = Faulty(faults={"A": [HANGS]}), ScriptedReadiness()
    async with at_work(tmp_path, executor, readiness=readiness) as stage:
        (parked,) = await stage.take("A")
        await readiness.has("A")
        stage.loop.cancel(parked.task_id)
        (end,) = await stage.finished(1)
        assert (end["status"], readiness.cancelled) == ("cancelled", ["A"])
        assert stage.loop.queued_devices == 0


async def test_draining_clears_the_timers_and_leaves_parked_tasks_to_the_next_start(tmp_path: Path) -> None:
    executor, readiness = Faulty(faults={"A": [HANGS]}), ScriptedReadiness()
    async with at_work(tmp_path, executor, readiness=readiness) as stage:
        (parked,) = await stage.take("A")
        await readiness.has("A")
        await stage.loop.drain(20)
        await settle()
        assert readiness.cancelled == ["A"]
        assert [task.state for task in await stage.journal.open_tasks()] == [TaskState.WAITING]
        assert await resume(stage.journal, narrator()) == [parked]


async def test_a_parked_task_whose_phone_is_still_away_after_a_restart_is_parked_again(tmp_path: Path) -> None:
    @dataclass
    class Absent(GatedExecutor):
        async def execute(self, task: Task, report: Reporter) -> NotReady:  # type: ignore[override]
            return OFFLINE

    for _ in range(2):
        readiness = ScriptedReadiness()
        async with at_work(tmp_path, Absent(), readiness=readiness) as stage:
            await accept(stage.journal, run_start("A"))
            stage.loop.submit(await resume(stage.journal, narrator()))
            await readiness.has("A")
            await stage.loop.drain(20)
            assert [task.state for task in await stage.journal.open_tasks()] == [TaskState.WAITING]


# ---- attempts and fencing ------------------------------------------------------------------------------------------


@dataclass
class FailsAtFirst(GatedExecutor):
    """Attempts fail with these reasons, one after another; then they succeed."""

    reasons: list[FailureReason] = field(default_factory=list)

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome:
        await GatedExecutor.execute(self, task, report)
        if self.reasons:
            return TaskOutcome(TaskState.FAILED, self.reasons.pop(0), "as it happens", ("hello",))
        return TaskOutcome(TaskState.SUCCEEDED)


async def test_a_fault_of_phone_or_infrastructure_is_tried_again_before_the_phones_later_tasks(tmp_path: Path) -> None:
    executor = FailsAtFirst(open_gates=True, reasons=[FailureReason.ADB_OFFLINE, FailureReason.UPLOAD_ERROR])
    async with at_work(tmp_path, executor) as stage:
        start = run_start("A", maxAttempts=3)
        await accept(stage.journal, start)
        stage.loop.submit(tasks_of(start))
        (later,) = await stage.take("A", run=2)
        end, _ = await stage.finished(2)
        assert (end["status"], end["attempt"]) == ("succeeded", 3)
        assert executor.started == [start.tasks[0].task_id] * 3 + [later.task_id]
        events = [event for event in await told(stage.journal) if event["payload"].get("task_id") == end["task_id"]]
        assert told_of(events, "A") == [
            ("task_started", "running", 1), ("task_progress", "failed", 1),
            ("task_started", "running", 2), ("task_progress", "failed", 2),
            ("task_started", "running", 3), ("task_finished", "succeeded", 3),
        ]  # fmt: skip
        assert [event["payload"]["seq"] for event in events] == [1, 2, 3, 4, 5, 6]
        assert [event["payload"].get("failure_reason") for event in events[1::2]] == [
            "adb_offline",
            "upload_error",
            None,
        ]


@pytest.mark.parametrize("reason", [FailureReason.ASSERTION_FAILED, FailureReason.PARAM_MISSING])
async def test_a_fault_of_the_recipe_is_not_tried_again(tmp_path: Path, reason: FailureReason) -> None:
    executor = FailsAtFirst(open_gates=True, reasons=[reason])
    async with at_work(tmp_path, executor) as stage:
        start = run_start("A", maxAttempts=3)
        await accept(stage.journal, start)
        stage.loop.submit(tasks_of(start))
        (end,) = await stage.finished(1)
        assert (end["failure_reason"], end["attempt"]) == (reason.value, 1)


async def test_the_last_attempts_end_is_the_tasks_end(tmp_path: Path) -> None:
    executor = FailsAtFirst(open_gates=True, reasons=[FailureReason.ADB_OFFLINE] * 5)
    async with at_work(tmp_path, executor) as stage:
        start = run_start("A", maxAttempts=2)
        await accept(stage.journal, start)
        stage.loop.submit(tasks_of(start))
        (end,) = await stage.finished(1)
        assert (end["status"], end["failure_reason"], end["attempt"]) == ("failed", "adb_offline", 2)


async def test_a_grace_in_vain_is_an_attempt_too(tmp_path: Path) -> None:
    executor, readiness = Faulty(faults={"A": [HANGS]}, open_gates=True), ScriptedReadiness()
    async with at_work(tmp_path, executor, readiness=readiness) as stage:
        start = run_start("A", maxAttempts=2)
        await accept(stage.journal, start)
        stage.loop.submit(tasks_of(start))
        await readiness.has("A")
        readiness.answer("A", OFFLINE)
        (end,) = await stage.finished(1)
        assert (end["status"], end["attempt"]) == ("succeeded", 2)


async def test_a_task_handed_out_with_a_higher_attempt_stops_the_running_one_without_a_word_and_begins_anew(
    tmp_path: Path,
) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor) as stage:
        (task,) = await stage.take("A")
        await executor.has_started(1)
        again = run_start("A", command_id=uuid(1, kind=9))
        again = again.model_copy(update={"tasks": [again.tasks[0].model_copy(update={"attempt": 2})]})
        await accept(stage.journal, again)
        stage.loop.submit(tasks_of(again))
        await executor.has_started(2)
        assert executor.torn_down == [task.task_id], "after the teardown of the first"
        executor.let_end("A")
        await stage.finished(1)
        assert told_of(await told(stage.journal), "A") == [
            ("task_started", "running", 1), ("task_started", "running", 2), ("task_finished", "succeeded", 2),
        ]  # fmt: skip


@pytest.mark.parametrize("where", ["running", "queued", "parked"])
async def test_an_attempt_that_the_backend_calls_stale_ends_without_a_word(tmp_path: Path, where: str) -> None:
    executor, readiness = Faulty(faults={"A": [HANGS] if where == "parked" else []}), ScriptedReadiness()
    async with at_work(tmp_path, executor, slots=1, readiness=readiness) as stage:
        stale, other = await stage.take("B", "A") if where == "queued" else await stage.take("A", "B")
        if where == "queued":
            stale, other = other, stale
        await executor.has_started(1)
        if where == "parked":
            await readiness.has("A")
        stage.loop.fence(stale.task_id, 1)
        stage.loop.fence(other.task_id, 0)
        if where == "running":
            await executor.has_started(2)
        executor.let_end("B")
        (end,) = await stage.finished(1)
        await stage.loop.drain(20)
        assert (end["device_id"], end["status"]) == ("B", "succeeded")
        assert await stage.journal.open_tasks() == []
        assert all(kind != "task_finished" for kind, _, _ in told_of(await told(stage.journal), "A"))
