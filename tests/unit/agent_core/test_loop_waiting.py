"""A phone that is not ready, or that another agent of this PC has: its slot is given to others (R8.3, R8.5)."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tests.support.agent_parts import (
    GatedExecutor,
    accept,
    narrator,
    run_start,
    told,
)
from tests.support.loop_stage import HANGS, OFFLINE, Faulty, HeldLedger, ScriptedReadiness, at_work, told_of
from tests.support.manual_clock import ManualClock, settle

from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import NotReady, Reporter, Task
from muster.agent.resume import resume
from muster.domain.task import TaskState


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
        await clock.is_slept_on()
        await clock.advance(5)
        assert executor.started == [second.task_id]
        stage.locks.elsewhere.clear()
        await clock.advance(1)
        await stage.finished(2)
        assert executor.started == [second.task_id, first.task_id]
        assert told_of(await told(stage.journal), "A") == [
            ("task_progress", "waiting", 1), ("task_started", "running", 1), ("task_progress", "completed", 1),
            ("task_finished", "succeeded", 1),
        ]  # fmt: skip


async def test_a_disk_that_cannot_be_told_of_the_wait_for_a_lock_does_not_lengthen_it(tmp_path: Path) -> None:
    clock, executor = ManualClock(), GatedExecutor(open_gates=True)
    async with at_work(
        tmp_path, executor, clock=clock, ledger=lambda journal: HeldLedger(journal, refused={"park"})
    ) as stage:
        stage.locks.elsewhere.add("A")
        (task,) = await stage.take("A")
        await clock.is_slept_on()
        await clock.advance(5)
        stage.locks.elsewhere.clear()
        await clock.advance(1)
        await stage.finished(1)
        assert executor.started == [task.task_id]


async def test_a_wait_for_a_lock_is_told_as_soon_as_the_disk_takes_it(tmp_path: Path) -> None:
    clock, executor = ManualClock(), GatedExecutor(open_gates=True)
    ledgers: list[HeldLedger] = []

    def full(journal: SqliteJournal) -> HeldLedger:
        ledgers.append(HeldLedger(journal, refused={"park"}))
        return ledgers[0]

    async with at_work(tmp_path, executor, clock=clock, ledger=full) as stage:
        stage.locks.elsewhere.add("A")
        await stage.take("A")
        await clock.is_slept_on()
        began_ms = clock.now_ms()
        await clock.advance(5)
        ledgers[0].refused.clear()
        await clock.advance(5)
        (waiting,) = [event["payload"] for event in await told(stage.journal) if event["type"] == "task_progress"]
        assert (waiting["status"], waiting["wait_until"]) == ("waiting", began_ms + 1_800_000)
        stage.locks.elsewhere.clear()
        await clock.advance(1)
        await stage.finished(1)


async def test_a_task_says_that_it_waits_for_another_agent_and_until_when(tmp_path: Path) -> None:
    clock = ManualClock()
    async with at_work(tmp_path, GatedExecutor(open_gates=True), clock=clock) as stage:
        stage.locks.elsewhere.add("A")
        (task,) = await stage.take("A")
        await clock.is_slept_on()
        (waiting,) = [event["payload"] for event in await told(stage.journal) if event["type"] == "task_progress"]
        assert (waiting["status"], waiting["failure_reason"]) == ("waiting", "device_reserved")
        assert waiting["error_message"] == "another agent has A"
        assert waiting["wait_until"] == clock.now_ms() + 1_800_000
        stage.loop.cancel(task.task_id)
        (event,) = await stage.finished(1)
        assert (event["status"], event["failure_reason"]) == ("cancelled", "cancelled")


async def test_a_phone_that_another_agent_never_lets_go_ends_as_reserved(tmp_path: Path) -> None:
    clock = ManualClock()
    async with at_work(tmp_path, GatedExecutor(open_gates=True), clock=clock) as stage:
        stage.locks.elsewhere.add("A")
        await stage.take("A")
        await clock.is_slept_on()
        await clock.advance(1_900)
        (event,) = await stage.finished(1)
        assert (event["status"], event["failure_reason"]) == ("failed", "device_reserved")
        assert event["error_message"] == "after 1800 s, another agent has A"


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
