"""What happened, in the words of the contract: pure translation into the payloads of callback events (spec/03).

`seq` is 1 here in each: the journal puts in the task's own when it records the event.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from muster.agent.journal import JournaledTask
from muster.agent.ports import NotReady, SpooledArtifact, StepProgress, StoredArtifact, Task, TaskOutcome
from muster.contracts.commands import RunStart, TaskAssignment
from muster.contracts.events import (
    ATTEMPT_END,
    DEVICE_PREFLIGHT,
    ArtifactRef,
    ArtifactStored,
    CommandAck,
    RunStarted,
    TaskFinished,
    TaskProgress,
    TaskStarted,
    Timings,
)
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState
from muster.runtime.clock import Clock

FIRST_SEQ = 1
# What is told of a task outside its recipe's steps, in the form of steps.
GRACE_STEP = ("PREFLIGHT", DEVICE_PREFLIGHT)
STALE = "this attempt is stale"
CUT_OFF = "the node agent ended while this task was running"
ATTEMPT_STEP = ("REPORT", ATTEMPT_END)


@dataclass(frozen=True, slots=True)
class Narrator:
    """Speaks for one node."""

    node_id: str
    max_concurrency: int
    clock: Clock

    def command_ack(self, command_id: str, error_message: str | None = None) -> CommandAck:
        """The command is journaled; with a message: it cannot be obeyed."""
        return CommandAck(
            node_id=self.node_id, timestamp=self.clock.now_ms(), command_id=command_id, error_message=error_message
        )

    def run_started(self, start: RunStart) -> RunStarted:
        """The node has taken up its part."""
        return RunStarted(
            node_id=self.node_id,
            timestamp=self.clock.now_ms(),
            run_id=start.run_id,
            target_devices_count=len(start.tasks),
            max_concurrency=self.max_concurrency,
        )

    def task_started(self, task: Task, runtime_handle: str) -> TaskStarted:
        """The task has its slot."""
        return TaskStarted(
            node_id=self.node_id,
            timestamp=self.clock.now_ms(),
            run_id=task.run.run_id,
            task_id=task.task_id,
            device_id=task.device_id,
            seq=FIRST_SEQ,
            attempt=task.attempt,
            runtime_handle=runtime_handle,
            workflow_id=task.run.workflow_id,
            timeout_ms=task.run.global_timeout_ms,
        )

    def task_progress(self, task: Task, step: StepProgress) -> TaskProgress:
        """A step began, ended or was skipped."""
        return TaskProgress(
            node_id=self.node_id,
            timestamp=self.clock.now_ms(),
            run_id=task.run.run_id,
            task_id=task.task_id,
            device_id=task.device_id,
            seq=FIRST_SEQ,
            attempt=task.attempt,
            status=step.status,
            step=step.phase,
            step_id=step.step_id,
            step_index=step.step_index,
            steps_total=step.steps_total,
            try_number=step.try_number,
            started_at=step.started_at_ms,
            ended_at=step.ended_at_ms,
            duration_ms=step.duration_ms,
            wait_until=step.wait_until_ms,
            exit_code=step.exit_code,
            failure_reason=step.failure_reason,
            error_message=step.error_message,
            log_snippet=step.log_snippet,
        )

    def waiting(self, task: Task, fault: NotReady, until_ms: int) -> TaskProgress:
        """The phone has until then to answer; the task has no slot meanwhile."""
        return self._beside_steps(
            task, GRACE_STEP, StepState.WAITING, fault.reason, fault.message, wait_until_ms=until_ms
        )

    def waited(self, task: Task, fault: NotReady | None) -> TaskProgress:
        """The grace is over; `fault` None: the phone answers."""
        if fault is None:
            return self._beside_steps(task, GRACE_STEP, StepState.COMPLETED, None, None)
        return self._beside_steps(task, GRACE_STEP, StepState.FAILED, fault.reason, fault.message)

    def attempt_failed(self, task: Task, reason: FailureReason, message: str | None) -> TaskProgress:
        """This attempt is over and another will follow: `task_started` with the next number is the fact of it."""
        return self._beside_steps(task, ATTEMPT_STEP, StepState.FAILED, reason, message)

    def _beside_steps(
        self,
        task: Task,
        step: tuple[str, str],
        status: StepState,
        reason: FailureReason | None,
        message: str | None,
        *,
        wait_until_ms: int | None = None,
    ) -> TaskProgress:
        phase, step_id = step
        progress = StepProgress(
            step_id=step_id,
            phase=phase,
            status=status,
            step_index=0,
            steps_total=len(task.run.recipe.steps),
            wait_until_ms=wait_until_ms,
            failure_reason=reason,
            error_message=message,
        )
        return self.task_progress(task, progress)

    def task_finished(
        self, task: Task, outcome: TaskOutcome, *, started_at_ms: int | None, duration_ms: int | None
    ) -> TaskFinished:
        """The task's one terminal state."""
        now = self.clock.now_ms()
        return TaskFinished(
            node_id=self.node_id,
            timestamp=now,
            run_id=task.run.run_id,
            task_id=task.task_id,
            device_id=task.device_id,
            seq=FIRST_SEQ,
            attempt=task.attempt,
            status=outcome.status,
            runtime_handle=outcome.runtime_handle,
            failure_reason=outcome.failure_reason,
            failed_steps=list(outcome.failed_steps),
            error_message=outcome.error_message,
            timings=Timings(started_at=started_at_ms, ended_at=now, duration_ms=duration_ms),
            artifact=artifact_ref(outcome.artifact) if outcome.artifact is not None else None,
        )

    def node_restarted(self, task: JournaledTask) -> TaskFinished:
        """The agent ended while this task ran: what became of it on the phone is unknown (R1.9)."""
        return self._failed(
            task.run_id,
            TaskAssignment(task_id=task.task_id, device_id=task.device_id, attempt=task.attempt),
            FailureReason.NODE_RESTARTED,
            CUT_OFF,
            task.started_at_ms,
        )

    def cancelled(self, task: JournaledTask) -> TaskFinished:
        """It was asked to end while the agent was not there to do it."""
        return self._cancelled(task, "cancelled; the node agent ended before it could stop the task")

    def fenced(self, task: JournaledTask) -> TaskFinished:
        """It was called stale, and the agent ended before it could stop the task; for the journal only."""
        return self._cancelled(task, STALE)

    def _cancelled(self, task: JournaledTask, message: str) -> TaskFinished:
        now = self.clock.now_ms()
        return TaskFinished(
            node_id=self.node_id,
            timestamp=now,
            run_id=task.run_id,
            task_id=task.task_id,
            device_id=task.device_id,
            seq=FIRST_SEQ,
            attempt=task.attempt,
            status=TaskState.CANCELLED,
            failure_reason=FailureReason.CANCELLED,
            error_message=message,
            timings=Timings(started_at=task.started_at_ms, ended_at=now),
        )

    def unreadable(self, run_id: str, tasks: Sequence[TaskAssignment], message: str) -> list[TaskFinished]:
        """The command that asked for these tasks could not be read."""
        return [self._failed(run_id, task, FailureReason.UNKNOWN, message, None) for task in tasks]

    def artifact_stored(self, picture: SpooledArtifact, stored: StoredArtifact) -> ArtifactStored:
        """The picture reached the store after its task had ended."""
        return ArtifactStored(
            node_id=self.node_id,
            timestamp=self.clock.now_ms(),
            run_id=picture.run_id,
            task_id=picture.task_id,
            device_id=picture.device_id,
            seq=FIRST_SEQ,
            attempt=picture.attempt,
            artifact=artifact_ref(stored),
        )

    def _failed(
        self, run_id: str, task: TaskAssignment, reason: FailureReason, message: str, started_at_ms: int | None
    ) -> TaskFinished:
        now = self.clock.now_ms()
        return TaskFinished(
            node_id=self.node_id,
            timestamp=now,
            run_id=run_id,
            task_id=task.task_id,
            device_id=task.device_id,
            seq=FIRST_SEQ,
            attempt=task.attempt,
            status=TaskState.FAILED,
            failure_reason=reason,
            error_message=message,
            timings=Timings(started_at=started_at_ms, ended_at=now),
        )


def cancelled_before(run: RunStarted, task: TaskAssignment) -> TaskFinished:
    """The end of a task that was asked to end before it came to this node."""
    return TaskFinished(
        node_id=run.node_id,
        timestamp=run.timestamp,
        run_id=run.run_id,
        task_id=task.task_id,
        device_id=task.device_id,
        seq=FIRST_SEQ,
        attempt=task.attempt,
        status=TaskState.CANCELLED,
        failure_reason=FailureReason.CANCELLED,
        error_message="cancelled before it was started",
        timings=Timings(ended_at=run.timestamp),
    )


def artifact_ref(stored: StoredArtifact) -> ArtifactRef:
    """A stored picture as events name it."""
    return ArtifactRef(step_id=stored.step_id, storage_path=stored.storage_path, sha256=stored.sha256, size=stored.size)
