"""Commands of steps carry a deadline in the phone's clock; what is measured is measured in virtual time."""

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.phones import MemoryPhone, MemoryPhones, MemorySpool, Told, ended, executor_settings, plan, task
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.phone_clock import FENCE_SEC_MIN, PhoneClock
from muster.agent.ports import Fence, PhoneTooLate, ShellOutput, TaskOutcome
from muster.agent.preflight.device import PROBE
from muster.domain.failure import FailureReason
from muster.domain.limits import PHONE_CLOCK_SEC_MAX
from muster.domain.task import TaskState

PHONE_START_SEC = 1_700_000_000


def probe(clock: str, timeout: str = "/system/bin/timeout") -> ShellOutput:
    return ended(f"muster-probe\n1\n33\nSM-G991N\nsamsung\n{timeout}\n{clock}\n")


class ClockedPhone(MemoryPhone):
    """Keeps a clock of its own and holds to its fences. `jumps`: what a command's time does to the clock before it."""

    def __init__(self, jumps: dict[str, float] | None = None, slow_sec: float = 0.0) -> None:
        super().__init__()
        self.ahead = float(PHONE_START_SEC)
        self.jumps = jumps or {}
        self.slow_sec = slow_sec
        self.ran: list[tuple[str, int | None]] = []

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        if command == PROBE:
            return probe(str(self._now()))
        await asyncio.sleep(self.slow_sec)
        self.ahead += self.jumps.pop(command, 0)
        if fence is not None and self._now() > fence.deadline_sec:
            raise PhoneTooLate(self._now())
        self.ran.append((command, fence.timeout_sec if fence else None))
        return await super().shell(command, fence=fence)

    def _now(self) -> int:
        return math.floor(self.ahead + asyncio.get_running_loop().time())


def run(phone: MemoryPhone, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
    async def execute() -> TaskOutcome:
        phones = MemoryPhones()
        phones.add(phone)
        executor = TaskExecutor(phones, MemorySpool(), executor_settings(), LoopClock())
        outcome = await executor.execute(task(plan(*steps, **head)), Told())
        assert isinstance(outcome, TaskOutcome)
        return outcome

    return run_in_virtual_time(execute())


def adb(step_id: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "kind": "adb", "command": command, **fields}


def test_a_steps_command_carries_its_deadline_in_the_phones_clock() -> None:
    phone = ClockedPhone()
    assert run(phone, adb("a", "one", timeoutMs=10_000)).status is TaskState.SUCCEEDED
    assert phone.fences == [Fence(PHONE_START_SEC + 10 - 1)]


def test_a_retry_gets_a_deadline_of_its_own() -> None:
    phone = ClockedPhone(slow_sec=2)
    phone.answers["one"] = [ended(exit_code=1), ended()]
    run(phone, adb("a", "one", timeoutMs=10_000, onFailure="retry", retryCount=1))
    first, second = (fence.deadline_sec for fence in phone.fences if fence)
    assert second - first == 2, "the first try took 2 s, the pause half a second"


def test_no_command_may_start_after_its_tasks_end() -> None:
    phone = ClockedPhone(slow_sec=4)
    phone.answers["one"] = [ended(exit_code=1)]
    outcome = run(phone, adb("a", "one", timeoutMs=60_000, onFailure="retry", retryCount=10), global_timeout_ms=60_000)
    assert outcome.failure_reason is FailureReason.TASK_TIMEOUT
    assert {fence and fence.deadline_sec for fence in phone.fences} == {PHONE_START_SEC + 59}


def test_no_look_of_a_wait_may_start_after_its_steps_end_and_the_last_ones_run_out_of_time() -> None:
    phone = ClockedPhone()
    phone.answers["ready"] = [ended(exit_code=1)]
    outcome = run(
        phone, {"id": "w", "phase": "X", "kind": "wait", "until": "ready", "intervalMs": 200, "timeoutMs": 5_000}
    )
    assert outcome.failure_reason is FailureReason.STEP_TIMEOUT
    assert outcome.error_message is not None and "the condition does not hold" in outcome.error_message
    assert max(fence.deadline_sec for fence in phone.fences if fence) == PHONE_START_SEC + 5 - 1


def test_only_a_long_command_is_also_ended_by_the_phone_itself() -> None:
    phone = ClockedPhone()
    run(phone, adb("short", "a", timeoutMs=30_000), adb("long", "b", timeoutMs=45_000))
    assert phone.ran == [("a", None), ("b", 45)]


@pytest.mark.parametrize("clock", ["", "date: not found", "-5", "99999999999", "1_7", "３"])
def test_a_phone_that_tells_no_time_is_used_without_fences(clock: str) -> None:
    phone = MemoryPhone(answers={PROBE: [probe(clock)]})
    assert run(phone, adb("a", "one", timeoutMs=60_000)).status is TaskState.SUCCEEDED
    assert phone.fences[1:] == [None]


def test_a_phone_without_timeout_is_fenced_all_the_same() -> None:
    phone = MemoryPhone(answers={PROBE: [probe(str(PHONE_START_SEC), timeout="")]})
    run(phone, adb("a", "one", timeoutMs=60_000))
    assert phone.fences[1:] == [Fence(PHONE_START_SEC + 59)]


def test_a_clock_that_is_set_in_the_middle_of_a_task_fails_nothing() -> None:
    phone = ClockedPhone(jumps={"two": 3600.0, "three": -7200.0})
    outcome = run(phone, adb("a", "one"), adb("b", "two"), adb("c", "three"), adb("d", "four"))
    assert outcome.status is TaskState.SUCCEEDED
    assert [command for command, _ in phone.ran] == ["one", "two", "three", "four"]


def test_a_phone_that_comes_to_every_command_too_late_is_unresponsive_and_has_done_nothing() -> None:
    phone = ClockedPhone(slow_sec=4.9)
    outcome = run(phone, adb("a", "one", timeoutMs=10_000, onFailure="retry", retryCount=1), timeout_overrides_ms={})
    assert outcome.status is TaskState.SUCCEEDED
    phone = ClockedPhone(jumps={"one": 1e6})
    phone.jumps = _Always(1e6)
    outcome = run(phone, adb("a", "one"))
    assert (outcome.failure_reason, phone.ran) == (FailureReason.DEVICE_UNRESPONSIVE, [])


class _Always(dict[str, float]):
    def __init__(self, value: float) -> None:
        super().__init__()
        self._value = value

    def pop(self, *_args: object) -> float:
        return self._value


@given(
    true_ahead=st.floats(0, 2e9),
    read_at=st.floats(0, 1e5),
    way_back_sec=st.floats(0, 15),
    sent_later_sec=st.floats(0, 1800),
    left_sec=st.floats(0, 600),
    starts_after_sec=st.floats(0, 1000),
)
def test_whatever_a_phone_that_keeps_time_starts_it_starts_before_the_deadline(
    true_ahead: float,
    read_at: float,
    way_back_sec: float,
    sent_later_sec: float,
    left_sec: float,
    starts_after_sec: float,
) -> None:
    """Monotonic seconds of the node: clock read, answer back, command sent, deadline, start."""
    told = math.floor(true_ahead + read_at)
    clock = PhoneClock.read(told, read_at + way_back_sec, has_timeout=False)
    sent = read_at + way_back_sec + sent_later_sec
    deadline = sent + left_sec
    fence = clock.fence(deadline, sent)
    if fence is None:
        return
    start = sent + starts_after_sec
    lets_start = math.floor(true_ahead + start) <= fence.deadline_sec
    assert not lets_start or start <= deadline + 1e-6
    # And a phone that answers at once is not held back while there is time, however coarse the clocks.
    assert (
        left_sec < FENCE_SEC_MIN
        or way_back_sec > left_sec - FENCE_SEC_MIN
        or math.floor(true_ahead + sent) <= fence.deadline_sec
    )


@given(ahead=st.floats(-1e10, 1e10), now=st.floats(0, 1e6), left_sec=st.floats(-100, 1800))
def test_a_fence_can_always_be_compared_by_mksh(ahead: float, now: float, left_sec: float) -> None:
    fence = PhoneClock(ahead).fence(now + left_sec, now)
    assert fence is None or 0 < fence.deadline_sec <= PHONE_CLOCK_SEC_MAX
