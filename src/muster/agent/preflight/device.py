"""Device Preflight (R2.2): is the phone there, and does it answer?"""

import asyncio
from dataclasses import replace
from typing import Final

from muster.agent.phone_clock import PhoneClock
from muster.agent.ports import Fence, PhoneError, ShellOutput
from muster.agent.preflight.absence import absent
from muster.agent.preflight.gate import Refused, Subject, Wait
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState

_TOKEN: Final = "muster-probe"  # noqa: S105  # a word to be echoed, no secret
_PROPERTIES: Final = ("sys.boot_completed", "ro.build.version.sdk", "ro.product.model", "ro.product.manufacturer")
# The clock comes last: the nearer to the answer it is read, the better the reading.
_LOOKS: Final = (*(f"getprop {name}" for name in _PROPERTIES), "command -v timeout || echo", "date +%s")
# Faults that may pass by themselves.
TRANSIENT: Final = frozenset({FailureReason.ADB_OFFLINE, FailureReason.ADB_MISSING, FailureReason.DEVICE_UNRESPONSIVE})
PROBE: Final = "; ".join((f"echo {_TOKEN}", *_LOOKS))


class Present:
    """Attached and allowed. A phone that is Offline (R8.1) is skipped, a wrong one fails, one just gone waits."""

    async def check(self, subject: Subject) -> Refused | Wait | None:
        """Looks, asks nothing."""
        if subject.phones.find(subject.device_id) is not None:
            return None
        return absent(subject)


class Answers:
    """One command with a limit: a hung phone stays `device` for adb, only an answer tells (spec/10)."""

    async def check(self, subject: Subject) -> Refused | Wait | None:
        """Also learns the facts that a recipe's `when` may ask for."""
        seconds = subject.timeout_ms / 1000
        said = await ask(subject, PROBE, seconds, f"no answer to a probe within {seconds:g} s: the phone hangs")
        return self._judge(subject, said) if isinstance(said, ShellOutput) else said

    def _judge(self, subject: Subject, output: ShellOutput) -> Refused | Wait | None:
        token, *values = output.stdout.decode("utf-8", "replace").splitlines() or [""]
        if token.strip() != _TOKEN:
            return _hangs(f"the phone's shell answers nonsense: {output.stdout[:80]!r}, exit {output.exit_code}")
        booted, sdk, model, manufacturer, timeout, clock = [*map(str.strip, values), *[""] * len(_LOOKS)][: len(_LOOKS)]
        if booted != "1":
            return _hangs(f"the phone is still starting up (sys.boot_completed is “{booted}”)")
        subject.facts = replace(
            subject.facts,
            sdk=int(sdk) if sdk.isascii() and sdk.isdigit() and len(sdk) < 10 else None,
            model=model or None,
            manufacturer=manufacturer or None,
        )
        if clock.isascii() and clock.isdigit() and len(clock) <= 10:
            answered = subject.clock.monotonic()
            subject.phone_clock = PhoneClock.read(int(clock), answered, has_timeout=bool(timeout))
        return None


async def ask(
    subject: Subject, command: str, seconds: float, silent: str, fence: Fence | None = None
) -> ShellOutput | Refused | Wait:
    """What the phone says to a command; else what becomes of its task. `silent`: said when no answer comes in time."""
    phone = subject.phones.find(subject.device_id)
    if phone is None:
        return absent(subject)
    try:
        async with asyncio.timeout(seconds) as limit:
            return await phone.shell(command, fence=fence)
    except TimeoutError:
        if not limit.expired():
            raise
        return _hangs(silent)
    except PhoneError as error:
        if error.reason in TRANSIENT:
            return Wait(error.reason, str(error))
        return Refused(TaskState.FAILED, error.reason, str(error))


def _hangs(message: str) -> Wait:
    return Wait(FailureReason.DEVICE_UNRESPONSIVE, message)
