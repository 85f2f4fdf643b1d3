"""Waiting for a phone that should answer and does not (R8.3): until it does, or until its grace is over."""

import asyncio
from typing import Final, Protocol

from muster.agent.ports import DeviceCare, NoDeviceCare, NotReady, Phones
from muster.agent.preflight.device import Answers, Present
from muster.agent.preflight.gate import Gate, Refused, Subject, Wait
from muster.agent.preflight.gates import pass_gates
from muster.domain.failure import FailureReason
from muster.domain.limits import GRACE_PROBE_TIMEOUT_MS
from muster.domain.task import TaskState
from muster.recipe.conditions import DeviceFacts
from muster.runtime.clock import Clock

LOOK_SEC: Final = 0.25
_PROBE: Final[tuple[Gate, ...]] = (Present(), Answers())
# From the fault that tells least. What was seen before counts on: a repair takes a phone that hangs off adb's list.
_FAULTS: Final = (FailureReason.ADB_MISSING, FailureReason.ADB_OFFLINE, FailureReason.DEVICE_UNRESPONSIVE)


class Readiness(Protocol):
    """Whether a phone has recovered."""

    async def wait_ready(self, device_id: str, fault: NotReady, seconds: float) -> NotReady | None:
        """None as soon as the phone is worth another try, else the fault of all that were seen that tells most."""
        ...


class ProbedReadiness:
    """Looks and asks, again and again; a phone that never answers has one command open at a time, with a limit."""

    def __init__(self, phones: Phones, clock: Clock, care: DeviceCare | None = None) -> None:
        self._phones = phones
        self._clock = clock
        self._care = care or NoDeviceCare()

    async def wait_ready(self, device_id: str, fault: NotReady, seconds: float) -> NotReady | None:
        """See `Readiness`."""
        self._care.unresponsive(device_id)
        try:
            async with asyncio.timeout(seconds) as limit:
                while True:
                    found = await self._look(device_id)
                    if found is not None:
                        fault = more_telling(fault, found)
                        await self._clock.sleep(LOOK_SEC)
                    elif await self._care.answered(device_id):
                        return None
                    else:
                        self._care.unresponsive(device_id)
        except TimeoutError:
            if not limit.expired():
                raise
            # A step may fail and its task go on all the same, with its next one.
            await self._care.waited_in_vain(device_id)
            return fault

    async def _look(self, device_id: str) -> NotReady | None:
        """A phone that must be refused for another reason is worth a try: its preflight says so best."""
        facts = DeviceFacts(device_id)
        verdict = await pass_gates(Subject(device_id, self._phones, self._clock, GRACE_PROBE_TIMEOUT_MS, facts), _PROBE)
        # It may become Offline (R8.1) while it is waited for: it was Online at its turn, so it fails, not skipped.
        is_gone = isinstance(verdict, Refused) and verdict.status is TaskState.SKIPPED_OFFLINE
        if isinstance(verdict, Wait) or (isinstance(verdict, Refused) and is_gone):
            return NotReady(verdict.reason, verdict.message)
        return None


def more_telling(known: NotReady, found: NotReady) -> NotReady:
    """Of two faults that one silence showed; of two alike the later one."""
    ranks = [_FAULTS.index(fault.reason) if fault.reason in _FAULTS else -1 for fault in (known, found)]
    return found if ranks[1] >= ranks[0] else known
