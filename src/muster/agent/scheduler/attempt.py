"""An open attempt of a task as the loop knows it, and how one ends that did not end by itself."""

import asyncio
from dataclasses import dataclass, replace
from enum import Enum

from muster.agent.ports import NotReady, Task, TaskOutcome
from muster.agent.scheduler.reporter import TaskReporter
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.runtime.logs import get_logger

log = get_logger()


class StopReason(Enum):
    """Why an attempt is ended from outside."""

    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    FENCED = "fenced"


@dataclass(slots=True)
class Attempt:
    """One attempt. `grace_left_sec`: what is left of its one grace; `recovery` runs while it is parked for `fault`.

    `stop` is set before an execution is cancelled, so that the cause is known. `verdict`: how it ends when it is
    withdrawn by the loop itself. `successor`: the backend has handed out this higher attempt. `held_since`: when it got
    the slot that it has, monotonic seconds. `is_struck`: its execution has been, or is about to
    be, cancelled for `stop`.
    """

    task: Task
    reporter: TaskReporter
    grace_left_sec: float
    fault: NotReady | None = None
    recovery: asyncio.Task[None] | None = None
    execution: asyncio.Task[TaskOutcome | NotReady] | None = None
    stop: StopReason | None = None
    is_cancelled: bool = False
    is_struck: bool = False
    verdict: TaskOutcome | None = None
    successor: Task | None = None
    held_since: float | None = None

    @property
    def task_id(self) -> str:
        """The same for all attempts of a task."""
        return self.task.task_id

    def begin(self, now: float) -> None:
        """It has a slot. With its first one its time begins, whatever it then waits for (spec/02)."""
        self.held_since = now
        if self.task.deadline is None:
            self.task = replace(self.task, deadline=now + self.task.run.global_timeout_ms / 1000)

    def may_wait_sec(self, now: float) -> float:
        """What is left of its grace, and of its time."""
        left_sec = self.grace_left_sec if self.task.deadline is None else self.task.deadline - now
        return min(self.grace_left_sec, left_sec)

    def is_stopped(self) -> bool:
        """Somebody wants it to end; may change at any await."""
        return self.stop is not None

    def want_end(self, reason: StopReason) -> None:
        """A stale attempt stays stale, whatever else it is asked; a cancel also ends what follows it."""
        self.is_cancelled = self.is_cancelled or reason is StopReason.CANCELLED
        if self.stop is None or reason is StopReason.FENCED:
            self.stop = reason

    def stop_waiting(self) -> None:
        """Clears the timer of its grace."""
        if self.recovery is not None:
            self.recovery.cancel()
            self.recovery = None

    def may_follow(self, outcome: TaskOutcome) -> bool:
        """Whether the run allows another attempt after this outcome."""
        reason = outcome.failure_reason
        if outcome.status is not TaskState.FAILED or reason is None or self.task.attempt >= self.task.run.max_attempts:
            return False
        return reason.is_worth_another_attempt

    # ---- how it ends -------------------------------------------------------------------------------------------------

    def stopped(self) -> TaskOutcome | None:
        """How it ends that was stopped from outside; None: as if it had never been."""
        assert self.stop is not None, "it was stopped"
        match self.stop:
            case StopReason.FENCED:
                return None
            case StopReason.CANCELLED:
                where = "while it was running" if self.held_since is not None else "while it had no slot"
                return self._outcome(TaskState.CANCELLED, FailureReason.CANCELLED, f"cancelled {where}")
            case StopReason.SHUTDOWN:
                message = "the node agent was stopped while this task was running"
                return self._outcome(TaskState.FAILED, FailureReason.NODE_RESTARTED, message)

    def not_recovered(self, fault: NotReady) -> TaskOutcome:
        """Its grace is used up."""
        return self._outcome(TaskState.FAILED, fault.reason, fault.message)

    def bug(self, error: BaseException) -> TaskOutcome:
        """An executor must not raise; when it does, the task still ends and its neighbours go on."""
        log.error("The executor failed, which is a bug", exc_info=error, task_id=self.task_id)
        message = f"the agent failed while executing: {type(error).__name__}: {error}"
        return self._outcome(TaskState.FAILED, FailureReason.UNKNOWN, message)

    def _outcome(self, status: TaskState, reason: FailureReason, message: str) -> TaskOutcome:
        return TaskOutcome(status, reason, message, runtime_handle=self.reporter.runtime_handle)
