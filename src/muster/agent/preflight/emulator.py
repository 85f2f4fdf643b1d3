"""Emulator Health Gate (R2.1): an emulator that is down or not booted is started, given time, and asked again."""

import asyncio
from typing import Final, Protocol

from muster.agent.ports import PhoneError
from muster.agent.preflight.gate import Refused, Subject
from muster.domain.device import emulator_port
from muster.domain.failure import FailureReason
from muster.domain.limits import EMULATOR_GATE_WAIT_MS
from muster.domain.task import TaskState
from muster.runtime.logs import get_logger

log = get_logger()
LOOK_SEC: Final = 0.5
ASK_TIMEOUT_SEC: Final = 5.0
# Each half of the waiting ends with a look that may have just begun.
LAST_LOOKS_SEC: Final = 2 * ASK_TIMEOUT_SEC
_NOT_ONLINE: Final = FailureReason.EMULATOR_NOT_ONLINE
_NOT_BOOTED: Final = FailureReason.EMULATOR_NOT_BOOTED
_WORDS: Final = {
    _NOT_ONLINE: "adb does not show the emulator as device",
    _NOT_BOOTED: "the emulator has not booted (sys.boot_completed is not 1)",
}


class EmulatorNotStarted(Exception):
    """Why, and what to do; fit for an operator."""


class Emulators(Protocol):
    """Starts this node's emulators (`agent/emulators.py`). Each call keeps within a limit of its own."""

    def is_ours(self, port: int) -> bool:
        """The emulator at this console port was started here and runs."""
        ...

    async def start(self, port: int) -> None:
        """Starts it, in the place of one that runs there. Raises EmulatorNotStarted."""
        ...

    def end_of(self, port: int) -> str | None:
        """How the one that was started here ended by itself; None while it runs."""
        ...


class NoEmulators:
    """`Emulators` of a node that has no `EMULATOR_AVD`."""

    def is_ours(self, port: int) -> bool:
        """Never."""
        return False

    async def start(self, port: int) -> None:
        """Raises EmulatorNotStarted."""
        raise EmulatorNotStarted(f"nothing says which emulator belongs to port {port}: set EMULATOR_AVD")

    def end_of(self, port: int) -> str | None:
        """None was started."""
        return None


class EmulatorHealth:
    """Concerns phones at a handle `emulator-NNNN` alone. What is still down in the end is skipped, with its reason."""

    def __init__(self, emulators: Emulators, wait_ms: int = EMULATOR_GATE_WAIT_MS) -> None:
        self._emulators = emulators
        self._wait_sec = min(wait_ms, EMULATOR_GATE_WAIT_MS) / 1000

    async def check(self, subject: Subject) -> Refused | None:
        """Takes the gate's whole time at most, starts included, and one look; less where the task itself has less."""
        port = console_port(subject)
        if port is None or (fault := await self._fault(subject)) is None:
            return None
        # So that the task ends with what is wrong with its emulator, and not as one that took too long.
        wait_sec = max(min(self._wait_sec, subject.left_sec - LAST_LOOKS_SEC), 0.0)
        # Half of the time for what is on its way, the other half for a start anew.
        until = subject.clock.monotonic() + wait_sec
        if fault is _NOT_ONLINE and not self._emulators.is_ours(port) and (trouble := await self._start(port)):
            return _skipped(fault, trouble)
        fault = await self._settled(subject, port, until - wait_sec / 2)
        if fault is None:
            return None
        if trouble := await self._start(port):
            return _skipped(fault, trouble)
        fault = await self._settled(subject, port, until)
        if fault is None:
            return None
        return _skipped(fault, self._emulators.end_of(port) or f"waited {wait_sec:g} s")

    async def _start(self, port: int) -> str | None:
        """What kept it from being started."""
        log.warning("Emulator is not well; starting it", port=port)
        try:
            await self._emulators.start(port)
        except EmulatorNotStarted as error:
            return str(error)
        return None

    async def _settled(self, subject: Subject, port: int, until: float) -> FailureReason | None:
        """What is wrong at the monotonic time `until`. One that has ended by itself is not waited for."""
        while (fault := await self._fault(subject)) is not None and subject.clock.monotonic() < until:
            if self._emulators.end_of(port) is not None:
                break
            await subject.clock.sleep(LOOK_SEC)
        return fault

    async def _fault(self, subject: Subject) -> FailureReason | None:
        phone = subject.phones.find(subject.device_id)
        if phone is None:
            return _NOT_ONLINE
        try:
            async with asyncio.timeout(ASK_TIMEOUT_SEC):
                output = await phone.shell("getprop sys.boot_completed")
        except (PhoneError, TimeoutError):
            return _NOT_ONLINE if subject.phones.find(subject.device_id) is None else _NOT_BOOTED
        return None if output.stdout.strip() == b"1" else _NOT_BOOTED


def console_port(subject: Subject) -> int | None:
    """The port that names an emulator; None for every other phone, also one that this node has never seen."""
    status = subject.status
    return emulator_port(status.runtime_handle if status else subject.device_id)


def _skipped(fault: FailureReason, trouble: str) -> Refused:
    return Refused(TaskState.SKIPPED_OFFLINE, fault, f"{_WORDS[fault]}: {trouble}")
