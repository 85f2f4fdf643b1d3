"""What to say of a phone that takes no commands, before its task (R2.2, R8.2) and in the middle of it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from muster.agent.ports import NOT_ATTACHED, DeviceStatus, PhoneError
from muster.agent.preflight.gate import Refused, Subject, Wait
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState

_MISSING: Final = (FailureReason.ADB_MISSING, "the phone is not attached: check its cable, hub and power")
_WORDS: Final[Mapping[AttachState, tuple[FailureReason, str]]] = MappingProxyType(
    {
        AttachState.UNAUTHORIZED: (
            FailureReason.NEEDS_USB_AUTHORIZATION,
            "the phone does not trust this PC: accept the USB debugging question on its screen",
        ),
        AttachState.OFFLINE: (FailureReason.ADB_OFFLINE, "adb shows the phone as offline: check its cable or Wi-Fi"),
        AttachState.MISSING: _MISSING,
        # Attached a moment ago and gone between two looks.
        AttachState.DEVICE: _MISSING,
    }
)


def absent(subject: Subject) -> Refused | Wait:
    """What becomes of a task whose phone takes no commands at its turn.

    Offline by R8.1 (no sign of it within the window): skipped. Not allowed, which only somebody can change: failed.
    Online and yet not there: it gets its grace (R8.3).
    """
    status = subject.status
    if status is None:
        return Refused(
            TaskState.SKIPPED_OFFLINE, FailureReason.ADB_MISSING, "this node has not seen the phone since it started"
        )
    error = gone(status)
    needs_somebody = status.problem is not None or status.state is AttachState.UNAUTHORIZED
    if needs_somebody:
        return Refused(TaskState.FAILED, error.reason, str(error))
    if subject.is_online(status) or status.state is AttachState.DEVICE:
        return Wait(error.reason, str(error))
    return Refused(TaskState.SKIPPED_OFFLINE, error.reason, f"Offline: {error}")


def gone(status: DeviceStatus | None) -> PhoneError:
    """Why a phone takes no commands now."""
    if status is None:
        return PhoneError(*_MISSING, fate_unknown=False)
    if status.problem is not None:
        return PhoneError(status.problem, status.last_error_message or status.problem.value, fate_unknown=False)
    reason, words = _WORDS[status.state]
    if status.state is AttachState.MISSING and status.last_error_message not in (None, NOT_ATTACHED):
        # The vendor tool has it and adb has not, or adb itself is gone: no cable would help.
        words = str(status.last_error_message)
    return PhoneError(reason, words, fate_unknown=False)
