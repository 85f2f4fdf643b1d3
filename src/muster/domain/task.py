"""The life of a task: one device's part of one run (spec/03, State machines)."""

from enum import StrEnum
from types import MappingProxyType


class TaskState(StrEnum):
    """Who moves a task out of each state, and what a crash there leaves behind.

    * `queued`    the node, when it starts the task; a crash leaves it queued in the node's journal.
    * `running`   the node, when the workflow ends or the phone goes silent; a crash ends it as `node_restarted`.
    * `waiting`   the node, when the phone answers again or its grace is over; holds no slot before the workflow began.
    * the rest    nobody: terminal states are final (the one exception is a presumed `node_lost`).
    """

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED_OFFLINE = "skipped_offline"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Nothing comes after it."""
        return self in TERMINAL_TASK_STATES


TERMINAL_TASK_STATES = frozenset(
    {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED_OFFLINE, TaskState.CANCELLED}
)
OPEN_TASK_STATES = frozenset(TaskState) - TERMINAL_TASK_STATES

_S = TaskState
# The states a task may be in just before it enters the key. Used as the expected states of the one
# conditional UPDATE that makes the transition: zero rows is an answer, not an error.
SOURCES = MappingProxyType(
    {
        _S.QUEUED: frozenset[TaskState](),
        _S.RUNNING: frozenset({_S.QUEUED, _S.WAITING, _S.RUNNING}),
        _S.WAITING: frozenset({_S.QUEUED, _S.RUNNING}),
        _S.SUCCEEDED: frozenset({_S.QUEUED, _S.RUNNING, _S.WAITING}),
        _S.FAILED: OPEN_TASK_STATES,
        _S.SKIPPED_OFFLINE: OPEN_TASK_STATES,
        _S.CANCELLED: OPEN_TASK_STATES,
    }
)


def may_become(current: TaskState, following: TaskState) -> bool:
    """Whether `current → following` is a legal transition.

    `queued → succeeded` is legal at the backend alone: a node's `task_started` may be dead-lettered while its
    `task_finished` arrives, and the truth must not be refused for want of its preface.
    """
    return current in SOURCES[following]


class StepState(StrEnum):
    """What a step of one task is doing (the `status` of `task_progress`)."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
