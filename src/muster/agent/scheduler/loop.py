"""The only place that acts on the scheduler's decisions: it holds the state and runs the executor.

A slot and a device's lock are given back when the executor's teardown has ended and the outcome is in the journal.
"""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Protocol

from pydantic import ValidationError

from muster.agent.journal import JournalError, TaskLedger
from muster.agent.narrate import Narrator
from muster.agent.ports import Executor, StepProgress, Task, TaskOutcome
from muster.agent.scheduler.decide import decide
from muster.agent.scheduler.model import (
    Cancel,
    DeviceReady,
    Effect,
    Event,
    Finished,
    PutBack,
    SchedulerState,
    Start,
    Stop,
    Submit,
    Ticket,
    Withdrawn,
)
from muster.contracts.events import TaskFinished
from muster.domain.failure import FailureReason
from muster.domain.limits import DEVICE_LOCK_WAIT_SEC, OUTBOX_RETRY_LADDER_SEC
from muster.domain.task import TaskState
from muster.runtime.backoff import ladder_delay_sec
from muster.runtime.clock import Clock
from muster.runtime.logs import bind_context, get_logger
from muster.runtime.supervision import Background

log = get_logger()
LOCK_LOOK_SEC: Final = 1.0
STOP_TEARDOWN_SEC: Final = 10.0


class DeviceLocks(Protocol):
    """Exclusive use of a phone among the agents of this PC."""

    def acquire(self, device_id: str) -> bool:
        """At once, or False when another process has it."""
        ...

    def release(self, device_id: str) -> None:
        """Gives it back."""
        ...


class StopReason(Enum):
    """Why a running task is ended from outside."""

    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"


@dataclass(slots=True)
class _Held:
    """A task that has a slot. `stop` is set before its execution is cancelled, so that the cause is known."""

    task: Task
    stop: StopReason | None = None
    execution: asyncio.Task[TaskOutcome] | None = None


@dataclass(frozen=True, slots=True)
class LoopParts:
    """What the loop acts through. `on_ended` is called after each task's end is journaled."""

    executor: Executor
    ledger: TaskLedger
    locks: DeviceLocks
    narrator: Narrator
    clock: Clock
    rng: random.Random
    on_ended: Callable[[], None]


class SchedulerLoop:
    """Starts are immediate: each event is decided and acted on in the call that brings it."""

    def __init__(self, slots: int, parts: LoopParts, background: Background) -> None:
        self._state = SchedulerState(slots)
        self._parts = parts
        self._background = background
        self._tasks: dict[str, Task] = {}
        self._held: dict[str, _Held] = {}
        self._draining = False
        self._nothing_held = asyncio.Event()
        self._nothing_held.set()

    @property
    def running(self) -> int:
        """Tasks that have a slot."""
        return len(self._held)

    @property
    def queued_devices(self) -> int:
        """Devices with a task waiting."""
        return self._state.queued_devices

    def submit(self, tasks: Sequence[Task]) -> None:
        """Takes journaled tasks; known ones are ignored. While draining they stay in the journal for the next start."""
        if self._draining:
            return
        for task in tasks:
            self._tasks.setdefault(task.task_id, task)
        self._apply(Submit([Ticket(task.task_id, task.device_id) for task in tasks]))

    def cancel(self, task_id: str) -> None:
        """Ends a task: a queued one at once, a running one after its teardown."""
        self._apply(Cancel(task_id))

    async def drain(self, grace_sec: float) -> None:
        """Starts nothing more; running tasks get `grace_sec` to end, then are stopped and end `node_restarted`."""
        self._draining = True
        if await self._nothing_held_within(grace_sec):
            return
        for held in list(self._held.values()):
            _stop(held, StopReason.SHUTDOWN)
        await self._nothing_held_within(STOP_TEARDOWN_SEC)

    # ---- acting ------------------------------------------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        effects = deque(decide(self._state, event))
        while effects:
            effects.extend(self._act(effects.popleft()))

    def _act(self, effect: Effect) -> Sequence[Effect]:
        match effect:
            case Start(task_id, device_id):
                return self._start(self._tasks[task_id], device_id)
            case Stop(task_id):
                _stop(self._held[task_id], StopReason.CANCELLED)
            case Withdrawn(task_id):
                self._end_unstarted(self._tasks[task_id], _cancelled("cancelled before it was started"))
        return ()

    def _start(self, task: Task, device_id: str) -> Sequence[Effect]:
        if self._draining:
            return ()
        if not self._parts.locks.acquire(device_id):
            _ = self._background.start(f"lock of {device_id}", self._await_lock(task))
            return decide(self._state, PutBack(task.task_id))
        held = self._held[task.task_id] = _Held(task)
        self._nothing_held.clear()
        _ = self._background.start(f"task {task.task_id}", self._run(held))
        return ()

    async def _run(self, held: _Held) -> None:
        task, parts = held.task, self._parts
        try:
            with bind_context(run_id=task.run.run_id, device_id=task.device_id):
                reporter = TaskReporter(task, parts)
                outcome = await self._execute(held, reporter)
                await reporter.ended(outcome)
        finally:
            del self._held[task.task_id]
            del self._tasks[task.task_id]
            if not self._held:
                self._nothing_held.set()
            parts.locks.release(task.device_id)
        parts.on_ended()
        self._apply(Finished(task.task_id))

    async def _execute(self, held: _Held, reporter: "TaskReporter") -> TaskOutcome:
        if (stopped := _stopped(held, reporter.runtime_handle)) is not None:
            return stopped
        # A task of its own: cancelling it cannot hit the recording of its outcome, nor come before its first step.
        held.execution = asyncio.create_task(
            self._parts.executor.execute(held.task, reporter), name=f"execute {held.task.task_id}"
        )
        try:
            return await held.execution
        except asyncio.CancelledError as error:
            if (stopped := _stopped(held, reporter.runtime_handle)) is not None:
                return stopped
            if _is_being_cancelled():
                raise
            return _bug(held.task, error, reporter.runtime_handle)
        except Exception as error:  # noqa: BLE001 - one bug must not take nineteen neighbours along
            return _bug(held.task, error, reporter.runtime_handle)
        finally:
            held.execution = None

    def _end_unstarted(self, task: Task, outcome: TaskOutcome) -> None:
        del self._tasks[task.task_id]
        _ = self._background.start(f"end {task.task_id}", self._record_unstarted(task, outcome))

    async def _record_unstarted(self, task: Task, outcome: TaskOutcome) -> None:
        with bind_context(run_id=task.run.run_id, device_id=task.device_id):
            await TaskReporter(task, self._parts).ended(outcome)
        self._parts.on_ended()

    async def _await_lock(self, task: Task) -> None:
        """Another agent on this PC works on the phone: its slot is given to others until the phone is free."""
        clock, locks, device_id = self._parts.clock, self._parts.locks, task.device_id
        log.warning("Another agent on this PC uses the phone; waiting", run_id=task.run.run_id, device_id=device_id)
        deadline = clock.monotonic() + DEVICE_LOCK_WAIT_SEC
        while task.task_id in self._tasks and clock.monotonic() < deadline:
            await clock.sleep(LOCK_LOOK_SEC)
            if locks.acquire(device_id):
                locks.release(device_id)
                break
        else:
            self._give_up_on_lock(task)
        self._apply(DeviceReady(device_id))

    def _give_up_on_lock(self, task: Task) -> None:
        if self._state.device_of(task.task_id) is None:
            return
        decide(self._state, Cancel(task.task_id))
        message = f"another agent on this PC used the phone for {DEVICE_LOCK_WAIT_SEC:.0f} s"
        self._end_unstarted(task, TaskOutcome(TaskState.FAILED, FailureReason.DEVICE_RESERVED, message))

    async def _nothing_held_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._nothing_held.wait()
        except TimeoutError:
            return False
        return True


class TaskReporter:
    """`ports.Reporter` of one task: what it is told is in the journal before it returns.

    A journal that cannot be written (a full disk) is waited for: the slot is held, nothing is lost.
    """

    def __init__(self, task: Task, parts: LoopParts) -> None:
        self.runtime_handle: str | None = None
        self._task = task
        self._parts = parts
        self._started_at_ms: int | None = None
        self._started = 0.0

    async def started(self, runtime_handle: str) -> None:
        """See `Reporter`."""
        payload = self._parts.narrator.task_started(self._task, runtime_handle)
        self.runtime_handle, self._started_at_ms = runtime_handle, payload.timestamp
        self._started = self._parts.clock.monotonic()
        if not await self._journaled(lambda: self._parts.ledger.begin_task(payload)):
            raise RuntimeError(f"the journal has no queued task {self._task.task_id} of attempt {self._task.attempt}")

    async def progress(self, step: StepProgress) -> None:
        """See `Reporter`. Telemetry: lost when the journal cannot take it."""
        try:
            await self._parts.ledger.record_progress(self._parts.narrator.task_progress(self._task, step))
        except JournalError as error:
            log.warning("A step's progress is not recorded", step_id=step.step_id, error=str(error))

    async def ended(self, outcome: TaskOutcome) -> None:
        """The task's one terminal state."""
        payload = self._finished(outcome)
        if not await self._journaled(lambda: self._parts.ledger.end_task(payload)):
            log.error("The journal knows no open task with this attempt", task_id=self._task.task_id)
        reason = outcome.failure_reason
        log.info(
            f"Task finished status={payload.status}",
            task_id=self._task.task_id,
            **({"reason": reason, "error": outcome.error_message or ""} if reason is not None else {}),
        )

    def _finished(self, outcome: TaskOutcome) -> TaskFinished:
        duration = None
        if self._started_at_ms is not None:
            duration = round((self._parts.clock.monotonic() - self._started) * 1000)
        narrate = self._parts.narrator.task_finished
        try:
            return narrate(self._task, outcome, started_at_ms=self._started_at_ms, duration_ms=duration)
        except ValidationError as error:
            # A bug again; the phone must still get its one honest answer.
            log.error("The executor's outcome breaks the contract", exc_info=True, task_id=self._task.task_id)
            bad = TaskOutcome(TaskState.FAILED, FailureReason.UNKNOWN, f"the outcome breaks the contract: {error}")
            return narrate(self._task, bad, started_at_ms=self._started_at_ms, duration_ms=duration)

    async def _journaled(self, write: Callable[[], Awaitable[bool]]) -> bool:
        failures = 0
        while True:
            try:
                return await write()
            except JournalError as error:
                failures += 1
                log.error("The journal cannot be written; trying again", error=str(error), failures=failures)
                await self._parts.clock.sleep(ladder_delay_sec(failures, OUTBOX_RETRY_LADDER_SEC, self._parts.rng))


def _stop(held: _Held, reason: StopReason) -> None:
    if held.stop is None:
        held.stop = reason
        if held.execution is not None:
            held.execution.cancel()


def _stopped(held: _Held, runtime_handle: str | None) -> TaskOutcome | None:
    match held.stop:
        case None:
            return None
        case StopReason.CANCELLED:
            return replace(_cancelled("cancelled while it was running"), runtime_handle=runtime_handle)
        case StopReason.SHUTDOWN:
            return TaskOutcome(
                TaskState.FAILED,
                FailureReason.NODE_RESTARTED,
                "the node agent was stopped while this task was running",
                runtime_handle=runtime_handle,
            )


def _is_being_cancelled() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def _bug(task: Task, error: BaseException, runtime_handle: str | None) -> TaskOutcome:
    """An executor must not raise; when it does, the task still ends and its neighbours go on."""
    log.error("The executor failed, which is a bug", exc_info=error, task_id=task.task_id)
    message = f"the agent failed while executing: {type(error).__name__}: {error}"
    return TaskOutcome(TaskState.FAILED, FailureReason.UNKNOWN, message, runtime_handle=runtime_handle)


def _cancelled(message: str) -> TaskOutcome:
    return TaskOutcome(TaskState.CANCELLED, FailureReason.CANCELLED, message)
