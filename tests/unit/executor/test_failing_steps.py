"""Failures, retries, cancelling, and phones that go away in the middle of a step."""

import asyncio
import itertools
from typing import Any

import pytest
from tests.support.bench import Bench, adb
from tests.support.phones import (
    CUT_OFF,
    NOT_SENT,
    MemoryPhone,
    Told,
    ended,
    plan,
    task,
)
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import TaskOutcome
from muster.agent.preflight.device import PROBE
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState

# ---- failures --------------------------------------------------------------------------------------------------------


def test_an_exit_status_stops_the_task_and_the_message_tells_stderr() -> None:
    bench = Bench(MemoryPhone(answers={"boom": [ended("out", 3, "first\nno such package\n")]}))
    outcome = bench.run(adb("a", "boom"), adb("b"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.STEP_FAILED)
    assert outcome.error_message == "step a: adb exit 3: first\nno such package"
    assert outcome.failed_steps == ("a",)
    assert bench.phone.steps_commands == ["boom"]
    failed = bench.told.steps[-1]
    assert failed.exit_code == 3 and failed.log_snippet == "out\nstderr: first\nno such package"


def test_a_task_whose_failures_were_all_continued_succeeds_and_lists_them() -> None:
    bench = Bench(MemoryPhone(answers={"boom": [ended(exit_code=1)]}))
    outcome = bench.run(adb("a", "boom", onFailure="continue"), adb("b"), adb("c", "boom", onFailure="continue"))
    assert outcome.status is TaskState.SUCCEEDED and outcome.failed_steps == ("a", "c")


def test_a_plain_failure_is_tried_again_after_a_growing_pause() -> None:
    bench = Bench(MemoryPhone(answers={"boom": [ended(exit_code=1), ended(exit_code=1), ended("fine")]}))
    outcome = bench.run(adb("a", "boom", onFailure="retry", retryCount=2))
    assert outcome.status is TaskState.SUCCEEDED and outcome.failed_steps == ()
    assert [(step.status.value, step.try_number) for step in bench.told.steps] == [
        ("running", 1), ("failed", 1), ("running", 2), ("failed", 2), ("running", 3), ("completed", 3),
    ]  # fmt: skip
    begins = [step.started_at_ms or 0 for step in bench.told.steps if step.status is StepState.RUNNING]
    assert [second - first for first, second in itertools.pairwise(begins)] == [500, 1000]


@pytest.mark.parametrize(("idempotent", "tries"), [(True, 3), (False, 1), (None, 1)])
def test_a_command_that_timed_out_is_tried_again_only_if_it_is_idempotent(idempotent: bool | None, tries: int) -> None:
    bench = Bench(MemoryPhone(answers={"hang": [float("inf")]}))
    fields = {} if idempotent is None else {"idempotent": idempotent}
    step = adb("a", "hang", phase="PLAY", timeoutMs=5000, onFailure="retry", retryCount=2, **fields)
    outcome = bench.run(step)
    assert len(bench.phone.steps_commands) == tries
    assert outcome.failure_reason is FailureReason.STEP_TIMEOUT
    assert "not done within 5 s" in (outcome.error_message or "")


def test_a_command_that_never_left_is_tried_again_and_one_that_was_cut_off_is_not() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT, ended()], "b": [CUT_OFF, ended()]}))
    retry = {"onFailure": "retry", "retryCount": 3}
    outcome = bench.run(adb("a", "a", **retry), adb("b", "b", **retry))
    assert bench.phone.steps_commands == ["a", "a", "b"]
    assert outcome.failure_reason is FailureReason.ADB_OFFLINE


def test_a_phone_that_is_lost_between_two_steps_ends_the_task_as_missing() -> None:
    bench = Bench()

    class Losing(Told):
        async def progress(self, step: Any) -> None:
            await super().progress(step)
            if self.story[-1] == "a:completed":
                bench.phones.lose("ABC123")

    bench.told = Losing()
    outcome = bench.run(adb("a"), adb("b"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.ADB_MISSING)


def test_cancelling_ends_the_command_at_once_and_raises() -> None:
    bench = Bench(MemoryPhone(answers={"hang": [float("inf")]}))

    async def work() -> None:
        executor = TaskExecutor(bench.phones, bench.spool, bench.settings, LoopClock())
        execution = asyncio.create_task(executor.execute(task(plan(adb("a", "hang"))), bench.told))
        await bench.phone.hung.wait()
        assert bench.phone.in_flight == 1
        execution.cancel()
        with pytest.raises(asyncio.CancelledError):
            await execution
        assert bench.phone.in_flight == 0

    run_in_virtual_time(work())


# ---- a phone that goes away in the middle (R8.3, R8.5) -------------------------------------------------------------


def gone_for(seconds: float, bench: Bench, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
    """The phone is taken away when its first command is cut off, and put back after so long."""

    async def run() -> TaskOutcome:
        phone = bench.phone

        async def come_back() -> None:
            await asyncio.sleep(seconds)
            bench.phones.add(phone)

        def went(command: str) -> None:
            if command != PROBE and len(phone.steps_commands) == 1:
                bench.phones.lose(phone.device_id)
                coming.append(asyncio.get_running_loop().create_task(come_back()))

        coming: list[asyncio.Task[None]] = []
        phone.on_command = went
        executor = TaskExecutor(bench.phones, bench.spool, bench.settings, LoopClock())
        outcome = await executor.execute(task(plan(*steps, **head)), bench.told)
        await asyncio.gather(*coming)
        assert isinstance(outcome, TaskOutcome)
        return outcome

    return run_in_virtual_time(run())


def test_a_step_whose_phone_goes_away_waits_for_it_and_is_begun_again() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT, ended()]}))
    outcome = gone_for(10, bench, adb("a", "a"), adb("b", "b"))
    assert outcome.status is TaskState.SUCCEEDED
    assert bench.phone.steps_commands == ["a", "a", "b"]
    assert bench.told.story == ["a:running", "a:waiting", "a:running", "a:completed", "b:running", "b:completed"]
    waiting = bench.told.steps[1]
    assert waiting.wait_until_ms is not None and waiting.started_at_ms is not None
    assert waiting.wait_until_ms - waiting.started_at_ms == 15_000
    assert (bench.told.steps[3].duration_ms or 0) < 1_000, "the wait is not the step's"


def test_a_phone_that_stays_away_longer_than_its_grace_fails_the_step_with_its_reason() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT, ended()]}))
    outcome = gone_for(20, bench, adb("a", "a"), adb("b", "b"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.ADB_MISSING)
    assert bench.phone.steps_commands == ["a"]


def test_a_command_that_may_have_run_is_begun_again_only_where_the_recipe_calls_it_idempotent() -> None:
    bench = Bench(MemoryPhone(answers={"a": [CUT_OFF, ended()]}))
    assert gone_for(5, bench, adb("a", "a")).failure_reason is FailureReason.ADB_OFFLINE
    assert bench.told.story == ["a:running", "a:failed"], "nobody waits for what must not be begun again"
    bench = Bench(MemoryPhone(answers={"a": [CUT_OFF, ended()]}))
    assert gone_for(5, bench, adb("a", "a", idempotent=True)).status is TaskState.SUCCEEDED


def test_a_step_gets_one_grace_a_try() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT]}))
    outcome = bench.run(adb("a", "a"))
    assert outcome.failure_reason is FailureReason.ADB_MISSING
    assert bench.phone.steps_commands == ["a", "a"]
