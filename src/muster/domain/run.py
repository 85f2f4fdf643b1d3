"""The life of a run, concluded from the counts of its tasks (spec/03)."""

from collections.abc import Mapping
from enum import StrEnum

from muster.domain.task import OPEN_TASK_STATES, TaskState


class RunState(StrEnum):
    """The backend alone moves a run; a crash leaves it open until its last task ends."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_terminal(self) -> bool:
        """Nothing comes after it."""
        return self not in (RunState.QUEUED, RunState.RUNNING)


OPEN_RUN_STATES = (RunState.QUEUED, RunState.RUNNING)


class RunTrigger(StrEnum):
    """What started a run."""

    MANUAL = "manual"
    YOUTUBE = "youtube"
    API = "api"
    SCHEDULE = "schedule"


def conclude(counts: Mapping[TaskState, int], *, stop_requested: bool = False) -> RunState | None:
    """The state in which a run with these task counts ends, or None while a task is open.

    `completed` = all succeeded; `failed` = none succeeded and some failed; otherwise
    `completed_with_errors`; skipped devices alone make `completed_with_errors`. A run that was asked to stop and
    has cancelled tasks ends `stopped`.
    """
    if any(counts.get(state, 0) for state in OPEN_TASK_STATES):
        return None
    succeeded = counts.get(TaskState.SUCCEEDED, 0)
    failed = counts.get(TaskState.FAILED, 0)
    others = counts.get(TaskState.SKIPPED_OFFLINE, 0) + counts.get(TaskState.CANCELLED, 0)
    if stop_requested and counts.get(TaskState.CANCELLED, 0):
        return RunState.STOPPED
    if succeeded and not failed and not others:
        return RunState.COMPLETED
    if failed and not succeeded:
        return RunState.FAILED
    return RunState.COMPLETED_WITH_ERRORS
