"""The only place that acts on the scheduler's decisions: it holds the state and runs the executor.

A slot and a device's lock are given back when the executor's teardown has ended and the outcome is in the journal.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from muster.agent.ports import NotReady, Task, TaskOutcome
from muster.agent.scheduler.decide import decide
from muster.agent.scheduler.model import (
    Again,
    Cancel,
    DeviceReady,
    Effect,
    Event,
    Finished,
    Park,
    PutBack,
    Recover,
    SchedulerState,
    Start,
    Stop,
    Submit,
    Ticket,
    Withdrawn,
)
from muster.agent.scheduler.parts import DeviceLocks, LoopParts
from muster.agent.scheduler.reporter import StaleAttemptError, TaskReporter
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.limits import DEVICE_LOCK_WAIT_SEC
from muster.domain.task import TaskState
from muster.runtime.logs import bind_context, get_logger
from muster.runtime.supervision import Background

__all__ = ["DeviceLocks", "LoopParts", "SchedulerLoop"]

log = get_logger()
LOCK_LOOK_SEC: Final = 1.0
STOP_TEARDOWN_SEC: Final = 10.0


class StopReason(Enum):
    """Why a running task is ended from outside."""

    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    FENCED = "fenced"


@dataclass(slots=True)
class _Known:
    """An attempt that is open here. `grace_left_sec`: what is left of the attempt's one grace.

    `recovery` runs while it is parked for `fault`. `ends_as`: how it ends when it is withdrawn, unless by a cancel.
    """

    task: Task
    reporter: TaskReporter
    grace_left_sec: float
    fault: NotReady | None = None
    recovery: asyncio.Task[None] | None = None
    ends_as: TaskOutcome | StopReason | None = None


@dataclass(slots=True)
class _Held:
    """A task that has a slot, since `since` (monotonic seconds).

    `stop` is set before its execution is cancelled, so that the cause is known.
    """

    known: _Known
    since: float
    stop: StopReason | None = None
    execution: asyncio.Task[TaskOutcome | NotReady] | None = None
    successor: Task | None = None

    def is_stopped(self) -> bool:
        """Somebody wants its execution to end; may change at any await."""
        return self.stop is not None


class SchedulerLoop:
    """Starts are immediate: each event is decided and acted on in the call that brings it."""

    def __init__(self, slots: int, parts: LoopParts, background: Background) -> None:
        self._state = SchedulerState(slots)
        self._parts = parts
        self._background = background
        self._known: dict[str, _Known] = {}
        self._held: dict[str, _Held] = {}
        self._draining = False
        # Set while the starts are made that a slot given back allows (monotonic seconds).
        self._freed_at: float | None = None
        self._nothing_held = asyncio.Event()
        self._nothing_held.set()

    @property
    def running(self) -> int:
        """Tasks that have a slot."""
        return len(self._held)

    @property
    def queued_devices(self) -> int:
        """Devices with a task waiting, for a slot or for the device itself."""
        return self._state.queued_devices

    def submit(self, tasks: Sequence[Task]) -> None:
        """Takes journaled tasks; known ones are ignored, unless they come with a higher attempt.

        While draining they stay in the journal for the next start.
        """
        if self._draining:
            return
        for task in tasks:
            known = self._known.get(task.task_id)
            if known is None:
                self._know(task)
            elif known.task.attempt < task.attempt:
                self._supersede(known, task)
        self._apply(Submit([Ticket(task.task_id, task.device_id) for task in tasks]))

    def cancel(self, task_id: str) -> None:
        """Ends a task: a queued or parked one at once, a running one after its teardown."""
        self._apply(Cancel(task_id))

    def fence(self, task_id: str, attempt: int) -> None:
        """The backend says that this attempt is stale: it stops, and nothing more is told of it."""
        known = self._known.get(task_id)
        if known is None or known.task.attempt > attempt:
            return
        if task_id in self._held:
            _stop(self._held[task_id], StopReason.FENCED)
            return
        known.ends_as = StopReason.FENCED
        self._apply(Cancel(task_id))

    async def drain(self, grace_sec: float) -> None:
        """Starts nothing more; running tasks get `grace_sec` to end, then are stopped and end `node_restarted`.

        Parked ones stay in the journal as they are: the next start takes them up.
        """
        self._draining = True
        for known in self._known.values():
            _stop_waiting(known)
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
                return self._start(self._known[task_id], device_id)
            case Stop(task_id):
                _stop(self._held[task_id], StopReason.CANCELLED)
            case Withdrawn(task_id):
                self._end_unstarted(self._known[task_id])
        return ()

    def _know(self, task: Task) -> _Known:
        known = self._known[task.task_id] = _Known(task, TaskReporter(task, self._parts), self._parts.grace_sec)
        return known

    def _supersede(self, known: _Known, task: Task) -> None:
        """The journal has the new attempt already; what the old one does from now on is not told."""
        held = self._held.get(task.task_id)
        if held is not None:
            held.successor = task
            _stop(held, StopReason.FENCED)
            return
        _stop_waiting(known)
        self._know(task)
        self._apply(Recover(task.task_id))

    def _start(self, known: _Known, device_id: str) -> Sequence[Effect]:
        task = known.task
        if self._draining:
            return ()
        if not self._parts.locks.acquire(device_id):
            _ = self._background.start(f"lock of {device_id}", self._await_lock(known))
            return decide(self._state, PutBack(task.task_id))
        held = self._held[task.task_id] = _Held(known, self._parts.clock.monotonic())
        known.reporter.slot_freed_at = self._freed_at
        self._nothing_held.clear()
        _ = self._background.start(f"task {task.task_id}", self._run(held))
        return ()

    async def _run(self, held: _Held) -> None:
        known, task = held.known, held.known.task
        following: Event = Finished(task.task_id)
        try:
            with bind_context(run_id=task.run.run_id, device_id=task.device_id):
                following = await self._conclude(held, await self._execute(held))
        finally:
            del self._held[task.task_id]
            if isinstance(following, Finished):
                del self._known[task.task_id]
            if not self._held:
                self._nothing_held.set()
            self._parts.locks.release(task.device_id)
        if held.successor is not None:
            self._know(held.successor)
            following = Again(task.task_id)
        self._note_use(held, following)
        self._parts.on_ended()
        self._freed_at = self._parts.clock.monotonic()
        self._apply(following)
        self._freed_at = None
        if isinstance(following, Park) and not self._draining:
            known.recovery = self._background.start(f"grace of {task.task_id}", self._await_recovery(known))
        if held.stop is StopReason.CANCELLED or (held.stop is StopReason.FENCED and isinstance(following, Park)):
            # It came while the journal took note of the parking or of the next attempt.
            known.ends_as = held.stop if held.stop is StopReason.FENCED else None
            self._apply(Cancel(task.task_id))

    def _note_use(self, held: _Held, following: Event) -> None:
        """The record from which a rack's use of its slots can be computed; the line's own time is the end."""
        task, held_ms = held.known.task, round((self._parts.clock.monotonic() - held.since) * 1000)
        log.info(
            "Slot given back",
            run_id=task.run.run_id,
            device_id=task.device_id,
            task_id=task.task_id,
            attempt=task.attempt,
            held_ms=held_ms,
            then=type(following).__name__.lower(),
        )

    async def _execute(self, held: _Held) -> TaskOutcome | NotReady | None:
        """None: stopped as stale."""
        task, reporter = held.known.task, held.known.reporter
        if held.is_stopped():
            return _stopped(held)
        # A task of its own: cancelling it cannot hit the recording of its outcome, nor come before its first step.
        held.execution = asyncio.create_task(
            self._parts.executor.execute(task, reporter), name=f"execute {task.task_id}"
        )
        try:
            return await held.execution
        except asyncio.CancelledError as error:
            if held.is_stopped():
                return _stopped(held)
            if _is_being_cancelled():
                raise
            return _bug(task, error, reporter.runtime_handle)
        except StaleAttemptError as error:
            log.warning("Not started", error=str(error))
            return None
        except Exception as error:  # noqa: BLE001 - one bug must not take nineteen neighbours along
            return _bug(task, error, reporter.runtime_handle)
        finally:
            held.execution = None

    async def _conclude(self, held: _Held, result: TaskOutcome | NotReady | None) -> Event:
        """Journals how the use of the slot ended; answers what the scheduler is told."""
        known, task_id = held.known, held.known.task.task_id
        if held.stop is StopReason.FENCED or (isinstance(result, NotReady) and held.stop is StopReason.CANCELLED):
            result = _stopped(held)
        if result is None:
            if held.successor is None:
                await known.reporter.fenced()
            return Finished(task_id)
        if isinstance(result, NotReady):
            if known.grace_left_sec > 0:
                known.fault = result
                is_parked = await known.reporter.parked(result, known.grace_left_sec)
                return Park(task_id) if is_parked else Finished(task_id)
            result = _failed(result, known)
        if _may_try_again(known.task, result):
            _, is_queued = await self._next_attempt(known, result)
            return Again(task_id) if is_queued else Finished(task_id)
        await known.reporter.ended(result)
        return Finished(task_id)

    async def _next_attempt(self, known: _Known, outcome: TaskOutcome) -> tuple[_Known, bool]:
        """Known at once, journaled behind: whoever withdraws it meanwhile ends the new attempt, in that order."""
        following = self._know(replace(known.task, attempt=known.task.attempt + 1))
        return following, await known.reporter.retried(outcome)

    # ---- without a slot ----------------------------------------------------------------------------------------------

    async def _await_recovery(self, known: _Known) -> None:
        """The grace of a parked task (R8.3). Cancelled when the task is withdrawn, superseded, or the agent drains."""
        task, clock, began = known.task, self._parts.clock, self._parts.clock.monotonic()
        assert known.fault is not None, "it was parked for a fault"
        with bind_context(run_id=task.run.run_id, device_id=task.device_id):
            fault = await self._parts.readiness.wait_ready(task.device_id, known.fault, known.grace_left_sec)
            # From here on nobody cancels this half-way.
            known.recovery = None
            known.grace_left_sec -= clock.monotonic() - began
            if fault is None:
                log.info("The phone answers again")
                self._apply(Recover(task.task_id))
            else:
                await self._grace_is_over(known, _failed(fault, known))

    async def _grace_is_over(self, known: _Known, outcome: TaskOutcome) -> None:
        task_id = known.task.task_id
        if not _may_try_again(known.task, outcome):
            known.ends_as = outcome
            self._apply(Cancel(task_id))
            return
        following, is_queued = await self._next_attempt(known, outcome)
        if self._known.get(task_id) is not following:
            return
        if not is_queued:
            following.ends_as = StopReason.FENCED
        self._apply(Again(task_id) if is_queued else Cancel(task_id))

    def _end_unstarted(self, known: _Known) -> None:
        del self._known[known.task.task_id]
        _stop_waiting(known)
        _ = self._background.start(f"end {known.task.task_id}", self._record_unstarted(known))

    async def _record_unstarted(self, known: _Known) -> None:
        with bind_context(run_id=known.task.run.run_id, device_id=known.task.device_id):
            if isinstance(known.ends_as, StopReason):
                await known.reporter.fenced()
            else:
                await known.reporter.ended(known.ends_as or _cancelled("cancelled while it had no slot", known))
        self._parts.on_ended()

    async def _await_lock(self, known: _Known) -> None:
        """Another agent on this PC works on the phone: its slot is given to others until the phone is free."""
        clock, locks, task = self._parts.clock, self._parts.locks, known.task
        device_id = task.device_id
        log.warning("Another agent on this PC uses the phone; waiting", run_id=task.run.run_id, device_id=device_id)
        deadline = clock.monotonic() + DEVICE_LOCK_WAIT_SEC
        while task.task_id in self._known and clock.monotonic() < deadline:
            await clock.sleep(LOCK_LOOK_SEC)
            if locks.acquire(device_id):
                locks.release(device_id)
                break
        else:
            self._give_up_on_lock(task)
        self._apply(DeviceReady(device_id))

    def _give_up_on_lock(self, task: Task) -> None:
        known = self._known.get(task.task_id)
        if known is None:
            return
        message = f"another agent on this PC used the phone for {DEVICE_LOCK_WAIT_SEC:.0f} s"
        known.ends_as = TaskOutcome(TaskState.FAILED, FailureReason.DEVICE_RESERVED, message)
        self._apply(Cancel(task.task_id))

    async def _nothing_held_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._nothing_held.wait()
        except TimeoutError:
            return False
        return True


def _may_try_again(task: Task, outcome: TaskOutcome) -> bool:
    """A fault of the phone or of the infrastructure, and attempts are left; a recipe's fault would come again."""
    reason = outcome.failure_reason
    if outcome.status is not TaskState.FAILED or reason is None or task.attempt >= task.run.max_attempts:
        return False
    return reason.failure_class in (FailureClass.DEVICE, FailureClass.INFRASTRUCTURE)


def _stop(held: _Held, reason: StopReason) -> None:
    # A stale attempt stays stale, whatever else it was asked before.
    if held.stop is None or reason is StopReason.FENCED:
        held.stop = reason
        if held.execution is not None:
            held.execution.cancel()


def _stop_waiting(known: _Known) -> None:
    if known.recovery is not None:
        known.recovery.cancel()
        known.recovery = None


def _stopped(held: _Held) -> TaskOutcome | None:
    """How a task ends that was stopped from outside; None: as if it had never been."""
    assert held.stop is not None, "it was stopped"
    match held.stop:
        case StopReason.FENCED:
            return None
        case StopReason.CANCELLED:
            return _cancelled("cancelled while it was running", held.known)
        case StopReason.SHUTDOWN:
            return TaskOutcome(
                TaskState.FAILED,
                FailureReason.NODE_RESTARTED,
                "the node agent was stopped while this task was running",
                runtime_handle=held.known.reporter.runtime_handle,
            )


def _is_being_cancelled() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def _bug(task: Task, error: BaseException, runtime_handle: str | None) -> TaskOutcome:
    """An executor must not raise; when it does, the task still ends and its neighbours go on."""
    log.error("The executor failed, which is a bug", exc_info=error, task_id=task.task_id)
    message = f"the agent failed while executing: {type(error).__name__}: {error}"
    return TaskOutcome(TaskState.FAILED, FailureReason.UNKNOWN, message, runtime_handle=runtime_handle)


def _failed(fault: NotReady, known: _Known) -> TaskOutcome:
    handle = known.reporter.runtime_handle
    return TaskOutcome(TaskState.FAILED, fault.reason, fault.message, runtime_handle=handle)


def _cancelled(message: str, known: _Known) -> TaskOutcome:
    handle = known.reporter.runtime_handle
    return TaskOutcome(TaskState.CANCELLED, FailureReason.CANCELLED, message, runtime_handle=handle)
