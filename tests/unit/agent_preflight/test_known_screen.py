"""After a task that was cut off the next one begins at a known screen (spec/07)."""

import asyncio
import math
from collections.abc import Callable

import pytest
from tests.support.manual_clock import ManualClock
from tests.support.phones import CUT_OFF, MemoryPhone, MemoryPhones, Told, plan, task
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.phone_clock import PhoneClock
from muster.agent.ports import Executor, NotReady, PhoneError, Reporter, Task, TaskOutcome
from muster.agent.preflight.gate import Refused, Subject, Wait
from muster.agent.preflight.known_screen import GO_HOME, KnownScreen, Screens, ScreenWatch
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.recipe.conditions import DeviceFacts

DEVICE = "ABC123"
S, R = TaskState, FailureReason


class Ending(Executor):
    """Ends each task in the same way."""

    def __init__(self, end: Callable[[], TaskOutcome | NotReady]) -> None:
        self._end = end

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:
        return self._end()


def failed(reason: FailureReason, *steps: str) -> Callable[[], TaskOutcome]:
    return lambda: TaskOutcome(S.FAILED, reason, "why", steps)


def cancelled() -> TaskOutcome:
    raise asyncio.CancelledError


async def commands_of_the_next(end: Callable[[], TaskOutcome | NotReady]) -> list[str]:
    """What the gate has the phone do after a task that ended so, and once more after that."""
    screens, phones = Screens(), MemoryPhones()
    phone = phones.add(MemoryPhone())
    watch = ScreenWatch(Ending(end), screens, phones)
    await asyncio.gather(
        watch.execute(task(plan({"id": "a", "kind": "adb", "command": "true"})), Told()), return_exceptions=True
    )
    for _ in range(2):
        assert await KnownScreen(screens).check(subject(phones)) is None
    return phone.commands


def subject(phones: MemoryPhones) -> Subject:
    return Subject(DEVICE, phones, ManualClock(), 1_000, DeviceFacts(DEVICE))


@pytest.mark.parametrize(
    "end",
    [
        failed(R.STEP_TIMEOUT, "a"),
        failed(R.TASK_TIMEOUT, "a"),
        failed(R.BOOTSTRAP_CRITICAL_FAILED, "a"),
        failed(R.ADB_OFFLINE, "a"),
        failed(R.VENDOR_WS_ERROR, "a"),
        cancelled,
    ],
)
async def test_a_phone_whose_task_was_cut_off_goes_home_once(end: Callable[[], TaskOutcome]) -> None:
    assert await commands_of_the_next(end) == [GO_HOME]


@pytest.mark.parametrize(
    "end",
    [
        lambda: TaskOutcome(S.SUCCEEDED),
        lambda: TaskOutcome(S.SUCCEEDED, failed_steps=("a",)),
        lambda: NotReady(R.DEVICE_UNRESPONSIVE, "before its first step"),
        failed(R.ADB_MISSING),
        failed(R.STEP_FAILED, "a"),
        failed(R.ASSERTION_FAILED, "a"),
    ],
)
async def test_a_phone_of_which_is_known_what_it_shows_is_left_as_it_is(
    end: Callable[[], TaskOutcome | NotReady],
) -> None:
    assert await commands_of_the_next(end) == []


@pytest.mark.parametrize(("answer", "reason"), [(math.inf, R.DEVICE_UNRESPONSIVE), (CUT_OFF, R.ADB_OFFLINE)])
def test_one_that_does_not_go_home_gets_its_grace_and_is_asked_again(
    answer: float | PhoneError, reason: FailureReason
) -> None:
    async def check() -> Refused | Wait | None:
        screens, phones = Screens(), MemoryPhones()
        phones.add(MemoryPhone(answers={GO_HOME: [answer]}))
        screens.lose(DEVICE)
        verdict = await KnownScreen(screens).check(Subject(DEVICE, phones, LoopClock(), 1_000, DeviceFacts(DEVICE)))
        assert screens.is_unknown(DEVICE)
        return verdict

    verdict = run_in_virtual_time(check())
    assert isinstance(verdict, Wait) and verdict.reason is reason


async def test_the_way_home_is_fenced_like_every_command() -> None:
    screens, phones = Screens(), MemoryPhones()
    phone = phones.add(MemoryPhone())
    screens.lose(DEVICE)
    asked = subject(phones)
    asked.phone_clock = PhoneClock(1_700_000_000)
    assert await KnownScreen(screens).check(asked) is None
    assert [fence and fence.deadline_sec for fence in phone.fences] == [1_700_000_000 + 10 - 1]
