"""Limits nest: a step in its phase in its task (spec/02, Time limits)."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.bench import Bench, adb
from tests.support.phones import CUT_OFF, HEALTHY_PROBE, NOT_SENT, MemoryPhone, plan, task
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import Fence, NotReady, ShellOutput, TaskOutcome
from muster.agent.preflight.device import PROBE
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState

EPSILON_SEC = 1e-6


def test_the_tasks_own_limit_ends_a_step_that_has_time_left() -> None:
    bench = Bench(MemoryPhone(answers={"hang": [float("inf")]}))
    outcome = bench.run(adb("quick"), adb("a", "hang", timeoutMs=600_000), global_timeout_ms=60_000)
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.TASK_TIMEOUT)
    assert outcome.failed_steps == ("a",)
    assert outcome.error_message == "the task was not done within 60 s; it was in step a"
    assert bench.told.story[-1] == "a:failed"
    assert bench.told.steps[-1].failure_reason is FailureReason.TASK_TIMEOUT
    assert bench.told.steps[-1].duration_ms == 60_000


def test_the_tasks_limit_counts_preflight_too() -> None:
    bench = Bench(MemoryPhone(answers={PROBE: [float("inf")]}), preflight_timeout_ms=120_000)
    outcome = bench.run(adb("a"), global_timeout_ms=60_000)
    assert outcome.failure_reason is FailureReason.TASK_TIMEOUT and outcome.failed_steps == ()


def test_an_override_of_a_phase_bounds_the_phase_as_a_whole() -> None:
    bench = Bench(MemoryPhone(answers={"slow": [4.0]}))
    outcome = bench.run(
        adb("a", "slow", onFailure="continue"), adb("b", "slow", onFailure="continue"), adb("c", "slow"), adb("d"),
        timeout_overrides_ms={"LOGIN_FLOW": 7000},
    )  # fmt: skip
    assert outcome.failure_reason is FailureReason.LOGIN_FLOW_TIMEOUT
    assert outcome.failed_steps == ("b", "c")
    assert bench.phone.steps_commands == ["slow", "slow"], "the third was not sent: no time was left"


def run_for(left_sec: float, bench: Bench, *steps: dict[str, Any], **head: Any) -> tuple[TaskOutcome | NotReady, float]:
    """What comes of a task that has so much of its time left, and after how many seconds."""

    async def execute() -> tuple[TaskOutcome | NotReady, float]:
        clock = LoopClock()
        began = clock.monotonic()
        executor = TaskExecutor(bench.phones, bench.spool, bench.settings, clock)
        timed = replace(task(plan(*steps, **head)), deadline=began + left_sec)
        outcome = await executor.execute(timed, bench.told)
        return outcome, clock.monotonic() - began

    return run_in_virtual_time(execute())


def test_a_task_that_was_parked_goes_on_with_what_is_left_of_its_time() -> None:
    outcome, seconds = run_for(7, Bench(MemoryPhone(answers={"hang": [float("inf")]})), adb("a", "hang"))
    assert isinstance(outcome, TaskOutcome)
    assert (outcome.failure_reason, outcome.failed_steps, seconds) == (FailureReason.TASK_TIMEOUT, ("a",), 7.0)
    assert outcome.error_message == "the task was not done within 90 s; it was in step a"


@pytest.mark.parametrize("left_sec", [0.0, -5.0])
def test_a_task_whose_time_was_up_before_it_got_its_slot_back_does_nothing_more(left_sec: float) -> None:
    bench = Bench()
    outcome, seconds = run_for(left_sec, bench, adb("a"))
    assert isinstance(outcome, TaskOutcome)
    assert (outcome.failure_reason, outcome.failed_steps, seconds) == (FailureReason.TASK_TIMEOUT, (), 0.0)
    assert bench.phone.steps_commands == []


def test_a_grace_in_the_middle_of_a_step_ends_with_the_tasks_time() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT], PROBE: [HEALTHY_PROBE, CUT_OFF]}))
    outcome, seconds = run_for(6, bench, adb("a", "a"))
    assert isinstance(outcome, TaskOutcome)
    assert (outcome.failure_reason, seconds) == (FailureReason.TASK_TIMEOUT, 6.0)


STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "phase": st.sampled_from(["BOOTSTRAP", "LOGIN_FLOW", "own words"]),
            "timeoutMs": st.integers(5_000, 40_000),
            "onFailure": st.sampled_from(["continue", "retry"]),
            "idempotent": st.booleans(),
        }
    ),
    min_size=1,
    max_size=5,
)


@given(
    steps=STEPS,
    seconds=st.lists(st.floats(0, 45), min_size=5, max_size=5),
    of_phase=st.none() | st.integers(5_000, 60_000),
    of_task=st.integers(60_000, 120_000),
)
def test_no_step_outlasts_its_limit_no_phase_its_override_and_no_task_its_own(
    steps: list[dict[str, Any]], seconds: list[float], of_phase: int | None, of_task: int
) -> None:
    """Measured where the commands run: at the phone."""
    phone = Timed(answers={f"s{index}": [seconds[index]] for index in range(len(steps))})
    retries = [{"retryCount": 2} if step["onFailure"] == "retry" else {} for step in steps]
    written = [adb(f"s{index}", f"s{index}", **step, **retries[index]) for index, step in enumerate(steps)]
    overrides = {} if of_phase is None else {"LOGIN_FLOW": of_phase}
    head = {"timeout_overrides_ms": overrides, "global_timeout_ms": of_task, "defaultOnFailure": "continue"}
    _, whole_sec = run_for(of_task / 1000, Bench(phone), *written, **head)
    assert whole_sec <= of_task / 1000 + EPSILON_SEC
    in_phase = 0.0
    for index, step in enumerate(steps):
        is_bounded = of_phase is not None and step["phase"] == "LOGIN_FLOW"
        limit_ms = of_phase if is_bounded and of_phase is not None else step["timeoutMs"]
        assert all(took <= limit_ms / 1000 + EPSILON_SEC for took in phone.took.get(f"s{index}", []))
        in_phase += sum(phone.took.get(f"s{index}", [])) if is_bounded else 0.0
    # The phase counts whole milliseconds of each try.
    assert of_phase is None or in_phase <= of_phase / 1000 + 0.001 * sum(map(len, phone.took.values()))


@dataclass
class Timed(MemoryPhone):
    """Notes how long each command was under way, whatever ended it."""

    took: dict[str, list[float]] = field(default_factory=dict)

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await super().shell(command, fence=fence)
        finally:
            self.took.setdefault(command, []).append(loop.time() - began)
