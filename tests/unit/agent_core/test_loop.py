"""The loop: what it starts, when it lets go, and that nothing an executor does takes the rest along."""

import asyncio
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.agent_parts import (
    GatedExecutor,
    accept,
    run_start,
    step,
    tasks_of,
    told,
    uuid,
)
from tests.support.loop_stage import HANGS, Faulty, HeldLedger, ScriptedReadiness, at_work
from tests.support.manual_clock import ManualClock

from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import Reporter, Task, TaskOutcome
from muster.domain.task import StepState, TaskState
from muster.runtime.logs import configure_logs


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
    ledgers: list[HeldLedger] = []

    def full(journal: SqliteJournal) -> HeldLedger:
        ledgers.append(HeldLedger(journal, full=2))
        return ledgers[0]

    async with at_work(tmp_path, executor, slots=1, clock=clock, ledger=full) as stage:
        await stage.take("A", "B")
        await ledgers[0].has_asked("end", "A")
        assert (executor.at_once, stage.loop.running, len(executor.started)) == (0, 1, 1)
        async with asyncio.timeout(20):
            while stage.loop.running:
                await clock.advance(1)
                await asyncio.sleep(0.001)  # the journal's thread runs in real time
        assert [task.state for task in await stage.journal.open_tasks()] == []
        assert len(executor.started) == 2


@pytest.mark.parametrize("can_record", [True, False])
async def test_progress_that_cannot_be_recorded_does_not_fail_the_step(tmp_path: Path, can_record: bool) -> None:
    @dataclass
    class Talkative(GatedExecutor):
        async def execute(self, task: Task, report: Reporter) -> TaskOutcome:
            await report.started("usb-1")
            await report.progress(step())
            await report.progress(step(StepState.COMPLETED))
            return TaskOutcome(TaskState.SUCCEEDED)

    ledger = lambda journal: HeldLedger(journal, refused=set() if can_record else {"progress"})  # noqa: E731
    async with at_work(tmp_path, Talkative(), ledger=ledger) as stage:
        await stage.take("A")
        (event,) = await stage.finished(1)
        assert event["status"] == "succeeded"
        recorded = [event for event in await told(stage.journal) if event["type"] == "task_progress"]
        assert len(recorded) == (2 if can_record else 0)


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
