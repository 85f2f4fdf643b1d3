"""The gates that keep a phone out although it is there and answers: quarantine, battery, heat."""

import math

import pytest
from tests.support.manual_clock import ManualClock
from tests.support.phones import MemoryPhone, MemoryPhones, ended

from muster.agent.phone_talk import HOW_IS_YOUR_BATTERY
from muster.agent.ports import PhoneError
from muster.agent.preflight.battery import FitToWork
from muster.agent.preflight.gate import Refused, Subject, Wait
from muster.agent.preflight.gates import pass_gates
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.limits import ONLINE_WINDOW_SEC
from muster.domain.task import TaskState
from muster.recipe.conditions import DeviceFacts

DEVICE = "ABC123"


def subject(phones: MemoryPhones, clock: ManualClock | None = None) -> Subject:
    return Subject(DEVICE, phones, clock or ManualClock(), 1_000, DeviceFacts(DEVICE))


def battery(level: int, tenths: int) -> str:
    return f"=muster=battery\n  level: {level}\n  scale: 100\n  temperature: {tenths}\n"


async def reason_of(phones: MemoryPhones) -> FailureReason | None:
    verdict = await pass_gates(subject(phones))
    assert not isinstance(verdict, Refused) or verdict.status is TaskState.FAILED
    return verdict.reason if isinstance(verdict, Refused) else None


@pytest.mark.parametrize(
    ("known", "asked", "reason"),
    [
        ((14, 30.0), battery(14, 300), FailureReason.BATTERY_LOW),
        ((15, 45.0), "never asked", None),
        ((90, 45.1), battery(90, 451), FailureReason.OVERHEATED),
        ((5, 50.0), battery(5, 500), FailureReason.OVERHEATED),
        ((None, None), "never asked", None),
        ((5, 30.0), battery(15, 300), None),
        ((5, 30.0), "dumpsys: not found", FailureReason.BATTERY_LOW),
        ((90, 60.0), battery(90, 300), None),
    ],
    ids=["low", "just enough", "hot", "hot and low", "unknown", "charged meanwhile", "asked in vain", "cooled down"],
)
async def test_a_phone_with_an_empty_or_hot_battery_does_not_start(
    known: tuple[int | None, float | None], asked: str, reason: FailureReason | None
) -> None:
    phones = MemoryPhones()
    phone = phones.add(
        MemoryPhone(answers={HOW_IS_YOUR_BATTERY: [ended(asked)]}), battery=known[0], temperature=known[1]
    )
    assert await reason_of(phones) is reason
    assert (HOW_IS_YOUR_BATTERY in phone.commands) is (asked != "never asked")


@pytest.mark.parametrize(
    "answer", [PhoneError(FailureReason.ADB_OFFLINE, "gone"), math.inf], ids=["breaks off", "hangs"]
)
async def test_a_phone_that_was_low_and_does_not_say_more_stays_low(
    answer: PhoneError | float,
) -> None:
    phones = MemoryPhones()
    phones.add(MemoryPhone(answers={HOW_IS_YOUR_BATTERY: [answer]}), battery=3)
    verdict = await FitToWork(timeout_sec=0.01).check(subject(phones))
    assert isinstance(verdict, Refused) and verdict.reason is FailureReason.BATTERY_LOW


async def test_a_quarantined_phone_is_refused_without_being_asked() -> None:
    phones = MemoryPhones()
    phone = phones.add(MemoryPhone(), quarantined="3 tasks in a row failed")
    assert await reason_of(phones) is FailureReason.QUARANTINED
    assert phone.commands == []


async def test_a_reserved_phone_is_left_alone_and_says_who_has_it() -> None:
    phones = MemoryPhones()
    phone = phones.add(MemoryPhone(), reserved="reserved by kim for 5 min more", quarantined="3 tasks in a row failed")
    verdict = await pass_gates(subject(phones))
    assert verdict == Refused(TaskState.FAILED, FailureReason.DEVICE_RESERVED, "reserved by kim for 5 min more")
    assert phone.commands == []


async def test_a_reserved_phone_that_is_offline_is_skipped_as_any_other() -> None:
    phones, clock = MemoryPhones(), ManualClock()
    phones.add(MemoryPhone(), state=AttachState.OFFLINE, last_seen=0.0, reserved="reserved by kim for 5 min more")
    await clock.advance(ONLINE_WINDOW_SEC + 1)
    verdict = await pass_gates(subject(phones, clock))
    assert isinstance(verdict, Refused) and verdict.status is TaskState.SKIPPED_OFFLINE


@pytest.mark.parametrize(("window_sec", "is_online"), [(29, False), (40, True)])
async def test_offline_begins_where_the_settings_say(window_sec: int, is_online: bool) -> None:
    phones, clock = MemoryPhones(), ManualClock()
    phones.add(MemoryPhone(), state=AttachState.OFFLINE, last_seen=0.0)
    await clock.advance(30)
    asked = subject(phones, clock)
    asked.online_window_sec = window_sec
    assert isinstance(await pass_gates(asked), Wait if is_online else Refused)


async def test_a_quarantined_phone_that_is_offline_is_skipped_as_any_other() -> None:
    phones, clock = MemoryPhones(), ManualClock()
    phones.add(MemoryPhone(), state=AttachState.OFFLINE, last_seen=0.0, quarantined="3 tasks in a row failed")
    await clock.advance(ONLINE_WINDOW_SEC + 1)
    verdict = await pass_gates(subject(phones, clock))
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.reason) == (TaskState.SKIPPED_OFFLINE, FailureReason.ADB_OFFLINE)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (None, "the phone is not attached: check its cable, hub and power"),
        ("not attached", "the phone is not attached: check its cable, hub and power"),
        ("the vendor tool lists it in accessibility mode, without adb",) * 2,
        ("the adb server does not answer",) * 2,
    ],
)
async def test_a_phone_that_adb_does_not_have_says_what_is_known_of_it(known: str | None, told: str) -> None:
    phones, clock = MemoryPhones(), ManualClock()
    phones.add(MemoryPhone(), state=AttachState.MISSING, last_seen=clock.monotonic(), last_error_message=known)
    assert await pass_gates(subject(phones, clock)) == Wait(FailureReason.ADB_MISSING, told)
