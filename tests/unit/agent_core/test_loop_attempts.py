"""Attempts of a task: the next one after a fault, one that the backend hands out, one that is stale (fencing)."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.agent_parts import (
    GatedExecutor,
    accept,
    run_start,
    tasks_of,
    told,
    uuid,
)
from tests.support.loop_stage import HANGS, OFFLINE, Faulty, ScriptedReadiness, at_work, told_of

from muster.agent.ports import Reporter, Task, TaskOutcome
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState


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


@pytest.mark.parametrize(
    "reason",
    [FailureReason.ASSERTION_FAILED, FailureReason.PARAM_MISSING, FailureReason.QUARANTINED, FailureReason.BATTERY_LOW],
)
async def test_a_fault_of_the_recipe_or_one_that_only_time_mends_is_not_tried_again(
    tmp_path: Path, reason: FailureReason
) -> None:
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


async def test_a_stale_attempt_is_not_started(tmp_path: Path) -> None:
    executor = GatedExecutor(open_gates=True)
    async with at_work(tmp_path, executor) as stage:
        start = run_start("A")
        await accept(stage.journal, start)
        stage.loop.submit([replace(tasks_of(start)[0], attempt=9)])
        await stage.loop.drain(20)
        assert executor.started == []
        assert [event["type"] for event in await told(stage.journal)] == ["command_ack", "run_started"]
