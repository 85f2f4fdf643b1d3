"""Every text that is not in a template: names of states, reasons, and the messages of the pages' scripts.

Badges that operators know from the rules are literal in every language: `SKIPPED(offline)`, `WAIT 15s` (R8.4).
"""

from collections.abc import Iterator
from typing import Final

from muster.backend.console.language import Language
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.run import RunState, RunTrigger
from muster.domain.task import StepState, TaskState
from muster.domain.trouble import Trouble

TASK_STATES: Final = {
    TaskState.QUEUED: "Queued",
    TaskState.RUNNING: "Running",
    TaskState.WAITING: "WAIT",
    TaskState.SUCCEEDED: "Succeeded",
    TaskState.FAILED: "Failed",
    TaskState.SKIPPED_OFFLINE: "SKIPPED(offline)",
    TaskState.CANCELLED: "Cancelled",
}

RUN_STATES: Final = {
    RunState.FAILED: "Failed",
    RunState.COMPLETED_WITH_ERRORS: "Completed with errors",
    RunState.RUNNING: "Running",
    RunState.QUEUED: "Queued",
    RunState.COMPLETED: "Completed",
    RunState.STOPPED: "Stopped",
}

STEP_STATES: Final = {
    StepState.RUNNING: "Running",
    StepState.WAITING: "WAIT",
    StepState.COMPLETED: "Completed",
    StepState.FAILED: "Failed",
    StepState.SKIPPED: "Skipped",
}

TRIGGERS: Final = {
    RunTrigger.MANUAL: "By hand",
    RunTrigger.YOUTUBE: "YouTube",
    RunTrigger.API: "API",
    RunTrigger.SCHEDULE: "Schedule",
}

FAILURE_CLASSES: Final = {
    FailureClass.DEVICE: "Look at the phone",
    FailureClass.INFRASTRUCTURE: "Look at the node, the network or the backend",
    FailureClass.RECIPE: "Look at the recipe",
    FailureClass.OPERATOR: "Nothing to do",
}

FAILURE_REASONS: Final = {
    FailureReason.NEEDS_USB_AUTHORIZATION: "USB debugging is not allowed yet: accept the dialog on the phone",
    FailureReason.ADB_OFFLINE: "adb sees the phone as offline",
    FailureReason.ADB_MISSING: "adb does not see the phone",
    FailureReason.EMULATOR_NOT_ONLINE: "The emulator did not come online",
    FailureReason.EMULATOR_NOT_BOOTED: "The emulator did not finish booting",
    FailureReason.DEVICE_UNRESPONSIVE: "The phone stopped answering and did not recover",
    FailureReason.VENDOR_WS_ERROR: "The vendor tool cannot be reached",
    FailureReason.VENDOR_COMMAND_ERROR: "The vendor tool refused the command",
    FailureReason.BOOTSTRAP_CRITICAL_FAILED: "The phone could not be prepared for the run",
    FailureReason.LOGIN_FLOW_TIMEOUT: "Signing in took too long",
    FailureReason.PARAM_MISSING: "A parameter that the recipe needs was not given",
    FailureReason.STEP_FAILED: "A step failed",
    FailureReason.STEP_TIMEOUT: "A step took too long",
    FailureReason.TASK_TIMEOUT: "The whole task took too long",
    FailureReason.ASSERTION_FAILED: "The phone is not in the state that the recipe expects",
    FailureReason.SCREENSHOT_ERROR: "The screenshot could not be taken",
    FailureReason.UPLOAD_ERROR: "The screenshot could not be stored",
    FailureReason.CALLBACK_ERROR: "The node could not report its result",
    FailureReason.NODE_RESTARTED: "The node agent was restarted in the middle of the task",
    FailureReason.NODE_LOST: "The node did not say what became of this task",
    FailureReason.BATTERY_LOW: "The battery is too low to start",
    FailureReason.OVERHEATED: "The phone is too hot to start",
    FailureReason.QUARANTINED: "The phone is in quarantine",
    FailureReason.DEVICE_RESERVED: "The phone is reserved",
    FailureReason.IDENTITY_CONFLICT: "Two phones report the same id",
    FailureReason.RAW_NOT_ALLOWED: "The recipe uses a raw command that this node does not allow",
    FailureReason.CANCELLED: "The run was stopped",
    FailureReason.UNKNOWN: "An unknown error; please report it",
}

# Why a task waits; of a reason that is not here only the node's own words are shown.
WAITING_REASONS: Final = {
    FailureReason.ADB_OFFLINE: "Waiting for the phone: adb sees it as offline",
    FailureReason.ADB_MISSING: "Waiting for the phone: adb does not see it",
    FailureReason.DEVICE_UNRESPONSIVE: "Waiting for the phone to answer again",
    FailureReason.DEVICE_RESERVED: "Waiting for the phone: another agent on its PC has it",
}

NODE_STATES: Final = {"online": "Online", "degraded": "Degraded", "offline": "Silent"}

TROUBLES: Final = {
    Trouble.ADB_GONE: "No adb server answers: no phone can work",
    Trouble.DISK_FULL: "The disk is full: no run is taken",
    Trouble.JOURNAL_FAILS: "The journal cannot be read: no run is taken",
    Trouble.DISK_LOW: "The disk is nearly full",
    Trouble.SPOOL_FULL: "The room for pictures is nearly used up",
    Trouble.VENDOR_GONE: "The vendor tool does not answer",
    Trouble.BACKEND_UNREACHABLE: "The backend could not be reached",
    Trouble.SECRET_REFUSED: "The backend refuses its secret",
    Trouble.ANOTHER_AGENT: "Another agent works under its name",
    Trouble.OUTBOX_OLD: "Results wait to be told",
    Trouble.CLOCK_WRONG: "Its clock is wrong",
    Trouble.BOOK_LOST: "Its list of reserved or quarantined phones could not be read",
}

SCRIPT: Final = {
    "live": "Live",
    "connecting": "Connecting…",
    "offline": "No connection",
    "stale": "No news for {age}. What you see may be out of date; reconnecting…",
    "list_stale": "The list could not be refreshed for {age}; trying again…",
    "summary": "{finished} of {total} finished, {failed} failed, {waiting} waiting",
    "summary_end": "The run has ended: {succeeded} of {total} succeeded, {failed} failed",
    "progress": "{finished} of {total} finished",
    "unreachable": "Unreachable",
    "last_heartbeat": "Last heartbeat:",
    "never_heard": "No heartbeat yet",
    "not_told": "What it reports does not get through",
    "stop_failed": "The run could not be stopped: {error}",
    "stopping": "Stopping…",
    "not_in_run": "{device} is not part of this run.",
    "steps_error": "The steps could not be read: {error}",
    "no_steps": "No step has reported yet.",
    "no_steps_at_all": "It came to no step.",
    "no_log": "No output yet.",
    "no_shot": "No screenshot yet",
    "no_shot_at_all": "No screenshot",
    "shot_error": "The screenshot cannot be shown",
    "shot_alt": "Last screenshot of {device}",
    "attempt": "Attempt {n}",
    "following": "Following",
    "paused": "Paused",
    "paused_new": "Paused ({n} new)",
    "exit_code": "exit status {code}",
    "sec": "{s} s",
    "min_sec": "{m} min {s} s",
    "hour_min": "{h} h {m} min",
    "ms": "{ms} ms",
}


def every_message() -> Iterator[str]:
    """All texts of this module."""
    tables = (
        TASK_STATES, RUN_STATES, STEP_STATES, TRIGGERS, FAILURE_CLASSES, FAILURE_REASONS, WAITING_REASONS,
        NODE_STATES, TROUBLES, SCRIPT,
    )  # fmt: skip
    for table in tables:
        yield from table.values()


def for_script(translate: Language) -> dict[str, object]:
    """What the pages' scripts need, in one language."""
    return {
        "language": translate.code,
        "task": {state.value: translate(text) for state, text in TASK_STATES.items()},
        "run": {state.value: translate(text) for state, text in RUN_STATES.items()},
        "step": {state.value: translate(text) for state, text in STEP_STATES.items()},
        "reason": {reason.value: translate(text) for reason, text in FAILURE_REASONS.items()},
        "waiting": {reason.value: translate(text) for reason, text in WAITING_REASONS.items()},
        "node": {state: translate(text) for state, text in NODE_STATES.items()},
        "trouble": {trouble.value: translate(text) for trouble, text in TROUBLES.items()},
        "class": {kind.value: translate(text) for kind, text in FAILURE_CLASSES.items()},
        "text": {key: translate(text) for key, text in SCRIPT.items()},
    }


def duration(milliseconds: int | None, translate: Language) -> str:
    """`412 ms`, `41 s`, `2 min 13 s`, `1 h 02 min`; empty when unknown."""
    if milliseconds is None or milliseconds < 0:
        return ""
    if milliseconds < 1000:
        return translate(SCRIPT["ms"], ms=milliseconds)
    seconds = milliseconds // 1000
    if seconds < 60:
        return translate(SCRIPT["sec"], s=seconds)
    if seconds < 3600:
        return translate(SCRIPT["min_sec"], m=seconds // 60, s=seconds % 60)
    return translate(SCRIPT["hour_min"], h=seconds // 3600, m=f"{seconds % 3600 // 60:02d}")
