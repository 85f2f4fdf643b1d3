"""Waiting for a phone that fell silent: until it answers, or with a reason that no repair of its connection blurs."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.support.phones import Answer, MemoryPhone, MemoryPhones, ended
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.ports import NoDeviceCare, NotReady
from muster.agent.preflight.device import PROBE
from muster.agent.readiness import ProbedReadiness
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason as R

OFFLINE = NotReady(R.ADB_OFFLINE, "adb shows the phone as offline")
HUNG = NotReady(R.DEVICE_UNRESPONSIVE, "no answer to a probe")
GONE = NotReady(R.ADB_MISSING, "not attached")
GRACE_SEC = 15.0
Later = Sequence[tuple[float, AttachState]]


class Noting(NoDeviceCare):
    """Notes who goes on without the phone."""

    def __init__(self) -> None:
        self.in_vain: list[str] = []

    async def waited_in_vain(self, device_id: str) -> None:
        self.in_vain.append(device_id)


async def wait(fault: NotReady, later: Later, *, boots: bool) -> NotReady | None:
    """How the grace of a phone ends that is, `later`, after so many seconds each, in these states."""
    phones = MemoryPhones()
    answers: dict[str, list[Answer]] = {} if boots else {PROBE: [ended("muster-probe\n\n33\n")]}
    phone = phones.add(MemoryPhone(answers=answers), last_seen=asyncio.get_running_loop().time())
    phones.lose(phone.device_id, AttachState.OFFLINE if fault is OFFLINE else AttachState.MISSING)

    async def live() -> None:
        for seconds, state in later:
            await asyncio.sleep(seconds)
            if state is AttachState.DEVICE:
                phones.add(phone)
            else:
                phones.lose(phone.device_id, state)

    life = asyncio.create_task(live())
    try:
        care = Noting()
        found = await ProbedReadiness(phones, LoopClock(), care).wait_ready(phone.device_id, fault, GRACE_SEC)
        assert care.in_vain == ([] if found is None else [phone.device_id])
        return found
    finally:
        life.cancel()


@pytest.mark.parametrize(
    ("fault", "later", "reason"),
    [
        (HUNG, [], R.DEVICE_UNRESPONSIVE),
        (HUNG, [(3, AttachState.OFFLINE)], R.DEVICE_UNRESPONSIVE),
        (OFFLINE, [(5, AttachState.MISSING)], R.ADB_OFFLINE),
        (GONE, [], R.ADB_MISSING),
        (GONE, [(5, AttachState.OFFLINE)], R.ADB_OFFLINE),
        (GONE, [(5, AttachState.OFFLINE), (5, AttachState.MISSING)], R.ADB_OFFLINE),
    ],
)
def test_the_fault_that_tells_most_is_the_reason_whatever_a_repair_makes_of_the_connection(
    fault: NotReady, later: Later, reason: R
) -> None:
    found = run_in_virtual_time(wait(fault, later, boots=True))
    assert found is not None and found.reason is reason


@pytest.mark.parametrize("fault", [HUNG, OFFLINE, GONE])
def test_a_phone_that_answers_in_time_is_ready_and_one_that_is_still_starting_up_is_not(fault: NotReady) -> None:
    later = [(GRACE_SEC - 1, AttachState.DEVICE)]
    assert run_in_virtual_time(wait(fault, later, boots=True)) is None
    found = run_in_virtual_time(wait(fault, later, boots=False))
    assert found is not None and found.reason is R.DEVICE_UNRESPONSIVE and "starting up" in found.message
