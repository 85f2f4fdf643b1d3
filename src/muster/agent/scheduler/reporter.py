"""What the executor and the loop say about one attempt of a task; a fact is in the journal before it returns."""

from collections.abc import Awaitable, Callable
from typing import Final

from pydantic import ValidationError

from muster.agent.journal import JournalError, TaskLedger
from muster.agent.journal_retry import until_journaled
from muster.agent.narrate import STALE, Narrator
from muster.agent.ports import NotReady, StepProgress, Task, TaskOutcome
from muster.agent.scheduler.parts import LoopParts
from muster.contracts.events import TaskFinished, TaskProgress
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState
from muster.runtime.logs import get_logger

log = get_logger()
SUPERSEDED: Final = "A stale attempt has ended, and nobody is told: another has taken its place"


class StaleAttemptError(Exception):
    """The journal has another attempt of the task: this one must not be executed."""


class TaskReporter:
    """`ports.Reporter` of one attempt: a fact that it is told is in the journal before it returns.

    A journal that cannot be written (a full disk) is waited for: the slot is held, nothing is lost.
    """

    def __init__(self, task: Task, parts: LoopParts) -> None:
        self.runtime_handle: str | None = None
        # When the slot that it has now was given back by another task (monotonic seconds); None: it had lain free.
        self.slot_freed_at: float | None = None
        self._task = task
        self._parts = parts
        self._started_at_ms: int | None = None
        self._started = 0.0
        self._fault: NotReady | None = None

    @property
    def _narrator(self) -> Narrator:
        return self._parts.narrator

    @property
    def _ledger(self) -> TaskLedger:
        return self._parts.ledger

    async def started(self, runtime_handle: str) -> None:
        """See `Reporter`. Told again when a parked task has its slot back. Raises StaleAttemptError."""
        payload = self._narrator.task_started(self._task, runtime_handle)
        self.runtime_handle = runtime_handle
        if self._started_at_ms is None:
            self._started_at_ms, self._started = payload.timestamp, self._parts.clock.monotonic()
        if not await self._journaled(lambda: self._ledger.begin_task(payload)):
            raise StaleAttemptError(f"attempt {self._task.attempt} of task {self._task.task_id} is not open here")
        if self.slot_freed_at is not None:
            self._parts.on_refilled(self._parts.clock.monotonic() - self.slot_freed_at)
            self.slot_freed_at = None
        await self._no_longer_waiting(StepState.COMPLETED)

    async def progress(self, step: StepProgress) -> None:
        """See `Reporter`. Telemetry: lost when the journal cannot take it."""
        await self._tell(self._narrator.task_progress(self._task, step))

    async def _tell(self, progress: TaskProgress) -> None:
        try:
            await self._ledger.record_progress(progress)
        except JournalError as error:
            log.warning("A step's progress is not recorded", step_id=progress.step_id, error=str(error))

    async def parked(self, fault: NotReady, grace_sec: float) -> bool:
        """`→ waiting` without a slot. False: the journal has no such open attempt."""
        payload = self._waits(fault, grace_sec)
        return await self._journaled(lambda: self._ledger.park_task(payload))

    def parking(self, fault: NotReady, grace_sec: float) -> Callable[[], Awaitable[bool]]:
        """As `parked`, for whoever has something else to do while the disk is full: each call tries once.

        False: the journal could not be written, so nothing has happened.
        """
        payload = self._waits(fault, grace_sec)

        async def park() -> bool:
            try:
                _ = await self._ledger.park_task(payload)
            except JournalError:
                return False
            return True

        return park

    def _waits(self, fault: NotReady, grace_sec: float) -> TaskProgress:
        until_ms = self._parts.clock.now_ms() + round(grace_sec * 1000)
        self._fault = fault
        log.warning(
            "The task waits without a slot", reason=fault.reason, error=fault.message, for_sec=round(grace_sec, 1)
        )
        return self._narrator.waiting(self._task, fault, until_ms)

    async def retried(self, outcome: TaskOutcome) -> bool:
        """This attempt has failed and the next one is queued. False: the journal has no such open attempt."""
        await self._no_longer_waiting(StepState.FAILED)
        reason = outcome.failure_reason or FailureReason.UNKNOWN
        payload = self._narrator.attempt_failed(self._task, reason, outcome.error_message)
        log.warning("Trying again", task_id=self._task.task_id, attempt=self._task.attempt, reason=reason)
        return await self._journaled(lambda: self._ledger.retry_task(payload))

    async def ended(self, outcome: TaskOutcome) -> None:
        """The task's one terminal state, unless the backend has handed out another attempt meanwhile (fencing)."""
        await self._no_longer_waiting(StepState.FAILED)
        payload = self._finished(outcome)
        if not await self._journaled(lambda: self._ledger.end_task(payload)):
            log.warning(SUPERSEDED, task_id=self._task.task_id, attempt=self._task.attempt)
            return
        reason = outcome.failure_reason
        log.info(
            f"Task finished status={payload.status}",
            task_id=self._task.task_id,
            **({"reason": reason, "error": outcome.error_message or ""} if reason is not None else {}),
        )

    async def fenced(self) -> None:
        """The attempt is stale: it is over here, and nobody is told, for somebody else tells the truth."""
        payload = self._finished(TaskOutcome(TaskState.CANCELLED, FailureReason.CANCELLED, STALE))
        await self._journaled(lambda: self._ledger.fence_task(payload))
        log.warning("A stale attempt is stopped", task_id=self._task.task_id, attempt=self._task.attempt)

    async def _no_longer_waiting(self, status: StepState) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            await self._tell(self._narrator.waited(self._task, fault if status is StepState.FAILED else None))

    def _finished(self, outcome: TaskOutcome) -> TaskFinished:
        duration = None
        if self._started_at_ms is not None:
            duration = round((self._parts.clock.monotonic() - self._started) * 1000)
        narrate = self._narrator.task_finished
        try:
            return narrate(self._task, outcome, started_at_ms=self._started_at_ms, duration_ms=duration)
        except ValidationError as error:
            # A bug again; the phone must still get its one honest answer.
            log.error("The executor's outcome breaks the contract", exc_info=True, task_id=self._task.task_id)
            bad = TaskOutcome(TaskState.FAILED, FailureReason.UNKNOWN, f"the outcome breaks the contract: {error}")
            return narrate(self._task, bad, started_at_ms=self._started_at_ms, duration_ms=duration)

    async def _journaled(self, write: Callable[[], Awaitable[bool]]) -> bool:
        return await until_journaled(write, self._parts.clock, self._parts.rng)
