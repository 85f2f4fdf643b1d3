"""A task's limit counts from its first slot on: parking and grace do not stop its clock (spec/02, Time limits)."""

from dataclasses import dataclass, field
from pathlib import Path

from tests.support.loop_stage import HANGS, Faulty, ScriptedReadiness, at_work
from tests.support.manual_clock import ManualClock

from muster.agent.ports import NotReady, Reporter, Task, TaskOutcome
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState


@dataclass
class Timed(Faulty):
    """Notes the deadline of each execution."""

    deadlines: list[float | None] = field(default_factory=list)

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:  # type: ignore[override]
        self.deadlines.append(task.deadline)
        return await Faulty.execute(self, task, report)


async def test_a_task_that_was_parked_has_what_is_left_of_its_time(tmp_path: Path) -> None:
    clock, readiness = ManualClock(), ScriptedReadiness()
    executor = Timed(faults={"A": [HANGS]}, open_gates=True)
    async with at_work(tmp_path, executor, clock=clock, readiness=readiness) as stage:
        (task,) = await stage.take("A")
        limit_sec = task.run.global_timeout_ms / 1000
        began = clock.monotonic()
        await readiness.has("A")
        await clock.advance(10)
        readiness.answer("A")
        await stage.finished(1)
        assert executor.deadlines == [began + limit_sec] * 2


async def test_a_task_that_waits_for_its_slot_has_its_whole_time_before_it(tmp_path: Path) -> None:
    clock, executor = ManualClock(), Timed()
    async with at_work(tmp_path, executor, slots=1, clock=clock) as stage:
        first, second = await stage.take("A", "B")
        await executor.has_started(1)
        began = clock.monotonic()
        await clock.advance(1_000)
        executor.let_end("A")
        await executor.has_started(2)
        limit_sec = first.run.global_timeout_ms / 1000
        assert executor.deadlines == [began + limit_sec, began + 1_000 + limit_sec]
        assert second.deadline is None, "nothing has begun for it when it is handed over"
        executor.let_end("B")
        await stage.finished(2)


async def test_a_grace_lasts_no_longer_than_the_tasks_time_and_none_is_given_after_it(tmp_path: Path) -> None:
    clock, readiness = ManualClock(), ScriptedReadiness()

    class Slow(Timed):
        async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:  # type: ignore[override]
            await clock.advance(task.run.global_timeout_ms / 2_000)
            return await Timed.execute(self, task, report)

    executor = Slow(faults={"A": [HANGS] * 9})
    async with at_work(tmp_path, executor, clock=clock, readiness=readiness, grace_sec=1_000) as stage:
        (task,) = await stage.take("A")
        await readiness.has("A")
        assert readiness.graces == [task.run.global_timeout_ms / 2_000]
        readiness.answer("A")
        (end,) = await stage.finished(1)
        assert (end["status"], end["failure_reason"]) == ("failed", "device_unresponsive")
        assert len(readiness.graces) == 1


async def test_another_attempt_has_a_time_of_its_own(tmp_path: Path) -> None:
    clock = ManualClock()
    lost = TaskOutcome(TaskState.FAILED, FailureReason.ADB_OFFLINE, "the phone dropped")
    executor = Timed(outcome=lambda task: lost if task.attempt == 1 else TaskOutcome(TaskState.SUCCEEDED))
    async with at_work(tmp_path, executor, clock=clock) as stage:
        (task,) = await stage.take("A", max_attempts=2)
        began = clock.monotonic()
        await executor.has_started(1)
        await clock.advance(50)
        executor.let_end("A")
        await executor.has_started(2)
        executor.let_end("A")
        await stage.finished(1)
        limit_sec = task.run.global_timeout_ms / 1000
        assert executor.deadlines == [began + limit_sec, began + 50 + limit_sec]
