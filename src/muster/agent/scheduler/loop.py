"""The only place that acts on the scheduler's decisions: it holds the state and runs the executor.

A slot and a device's lock are given back when the executor's teardown has ended and the outcome is in the journal.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from muster.agent.ports import NotReady, Task, TaskOutcome
from muster.agent.scheduler.attempt import Attempt, StopReason
from muster.agent.scheduler.decide import decide
from muster.agent.scheduler.model import (
    Again,
    Cancel,
    DeviceReady,
    Drain,
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
from muster.domain.failure import FailureReason
from muster.domain.limits import DEVICE_LOCK_WAIT_SEC
from muster.runtime.logs import bind_context, get_logger
from muster.runtime.supervision import Background

__all__ = ["DeviceLocks", "LoopParts", "SchedulerLoop"]

log = get_logger()
LOCK_LOOK_SEC: Final = 1.0
STOP_TEARDOWN_SEC: Final = 10.0
# So long a stop lets the teardown of a step that has run out of its time go on undisturbed.
TEARDOWN_SEC_MAX: Final = 5.0
TEARDOWN_LOOK_SEC: Final = 0.05


class SchedulerLoop:
    """Starts are immediate: each event is decided and acted on in the call that brings it."""

    def __init__(self, slots: int, parts: LoopParts, background: Background) -> None:
        self._state = SchedulerState(slots)
        self._parts = parts
        self._background = background
        self._known: dict[str, Attempt] = {}
        # In the order of their starts: a set's would be another in each process.
        self._held: dict[str, None] = {}
        # Withdrawn tasks whose end is on its way into the journal.
        self._ending: dict[str, None] = {}
        self._draining = False
        # Set while the starts are made that a slot given back allows (monotonic seconds).
        self._freed_at: float | None = None
        self._at_rest = asyncio.Event()
        self._at_rest.set()

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
        known = self._known.get(task_id)
        if known is not None:
            self._end(known, StopReason.CANCELLED)

    def fence(self, task_id: str, attempt: int) -> None:
        """The backend says that this attempt is stale: it stops, and nothing more is told of it."""
        known = self._known.get(task_id)
        if known is not None and known.task.attempt <= attempt:
            self._end(known, StopReason.FENCED)

    async def drain(self, grace_sec: float) -> None:
        """Starts nothing more; running tasks get `grace_sec` to end, then are stopped and end `node_restarted`.

        Parked ones stay in the journal as they are: the next start takes them up.
        """
        self._draining = True
        self._apply(Drain())
        for known in self._known.values():
            known.stop_waiting()
        if await self._at_rest_within(grace_sec):
            return
        for task_id in self._held:
            self._known[task_id].want_end(StopReason.SHUTDOWN)
            self._stop_execution(self._known[task_id])
        await self._at_rest_within(STOP_TEARDOWN_SEC)

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
                self._stop_execution(self._known[task_id])
            case Withdrawn(task_id):
                self._end_unstarted(self._known[task_id])
        return ()

    def _know(self, task: Task) -> None:
        self._known[task.task_id] = Attempt(task, TaskReporter(task, self._parts), self._parts.grace_sec)

    def _supersede(self, known: Attempt, task: Task) -> None:
        """The journal has the new attempt already; what the old one does from now on is not told."""
        if task.task_id in self._held or task.task_id in self._ending:
            known.successor = task
            known.want_end(StopReason.FENCED)
            self._stop_execution(known)
            return
        known.stop_waiting()
        self._know(task)
        self._apply(Again(task.task_id))

    def _end(self, known: Attempt, reason: StopReason) -> None:
        known.want_end(reason)
        self._apply(Cancel(known.task_id))

    def _start(self, known: Attempt, device_id: str) -> Sequence[Effect]:
        if not self._parts.locks.acquire(device_id):
            _ = self._background.start(f"lock of {device_id}", self._await_lock(known))
            return decide(self._state, PutBack(known.task_id))
        self._held[known.task_id] = None
        known.begin(self._parts.clock.monotonic())
        known.reporter.slot_freed_at = self._freed_at
        self._at_rest.clear()
        _ = self._background.start(f"task {known.task_id}", self._run(known))
        return ()

    async def _run(self, known: Attempt) -> None:
        task = known.task
        try:
            with bind_context(run_id=task.run.run_id, device_id=task.device_id):
                following = await self._conclude(known, await self._execute(known))
                self._note_use(known, following)
        finally:
            self._is_concluded(self._held, known)
            self._parts.locks.release(task.device_id)
        self._freed_at = self._parts.clock.monotonic()
        self._hand_on(known, following)
        self._freed_at = None

    def _is_concluded(self, among: dict[str, None], known: Attempt) -> None:
        among.pop(known.task_id, None)
        known.held_since = None
        if not self._held and not self._ending:
            self._at_rest.set()

    def _hand_on(self, known: Attempt, following: Event) -> None:
        """Tells the scheduler what the journal has: the end of an attempt, its parking, or that another follows."""
        task_id = known.task_id
        if known.successor is not None:
            self._know(known.successor)
            following = Again(task_id)
        elif isinstance(following, Again):
            self._know(replace(known.task, attempt=known.task.attempt + 1, deadline=None))
        elif isinstance(following, Finished):
            del self._known[task_id]
        self._parts.on_ended()
        self._apply(following)
        if isinstance(following, Finished):
            return
        # What was asked while the journal took note is done now.
        if known.is_cancelled:
            self._end(self._known[task_id], StopReason.CANCELLED)
        elif isinstance(following, Park) and known.stop is StopReason.FENCED:
            self._end(known, StopReason.FENCED)
        elif isinstance(following, Park) and not self._draining:
            known.recovery = self._background.start(f"grace of {task_id}", self._await_recovery(known))

    def _note_use(self, known: Attempt, following: Event) -> None:
        """The record from which a rack's use of its slots can be computed; the line's own time is the end."""
        assert known.held_since is not None, "it has a slot"
        log.info(
            "Slot given back",
            task_id=known.task_id,
            attempt=known.task.attempt,
            held_ms=round((self._parts.clock.monotonic() - known.held_since) * 1000),
            then=type(following).__name__.lower(),
        )

    async def _execute(self, known: Attempt) -> TaskOutcome | NotReady | None:
        """None: stopped as stale."""
        if known.is_stopped():
            return known.stopped()
        # A task of its own: cancelling it cannot hit the recording of its outcome, nor come before its first step.
        known.is_struck = False
        known.execution = asyncio.create_task(
            self._parts.executor.execute(known.task, known.reporter), name=f"execute {known.task_id}"
        )
        try:
            return await known.execution
        except asyncio.CancelledError as error:
            if known.is_stopped():
                return known.stopped()
            if _is_being_cancelled():
                raise
            return known.bug(error)
        except StaleAttemptError as error:
            log.warning("Not started", error=str(error))
            return None
        except Exception as error:  # noqa: BLE001 - one bug must not take nineteen neighbours along
            return known.bug(error)
        finally:
            known.execution = None

    def _stop_execution(self, known: Attempt) -> None:
        """Once: a second blow would hit the teardown. So would the first, when a time-out's teardown is under way."""
        execution = known.execution
        if execution is None or known.is_struck:
            return
        known.is_struck = True
        if execution.cancelling():
            _ = self._background.start(f"stop of {known.task_id}", self._stop_after_teardown(execution))
        else:
            execution.cancel()

    async def _stop_after_teardown(self, execution: asyncio.Task[TaskOutcome | NotReady]) -> None:
        clock = self._parts.clock
        deadline = clock.monotonic() + TEARDOWN_SEC_MAX
        while execution.cancelling() and not execution.done() and clock.monotonic() < deadline:
            await clock.sleep(TEARDOWN_LOOK_SEC)
        execution.cancel()

    async def _conclude(self, known: Attempt, result: TaskOutcome | NotReady | None) -> Event:
        """Journals how the attempt ended, or that it waits; answers what the scheduler is told."""
        reporter, task_id = known.reporter, known.task_id
        if known.stop is StopReason.FENCED or (isinstance(result, NotReady) and known.is_cancelled):
            result = known.stopped()
        if result is None:
            if known.successor is None:
                await reporter.fenced()
            return Finished(task_id)
        if isinstance(result, NotReady):
            if (wait_sec := known.may_wait_sec(self._parts.clock.monotonic())) > 0:
                known.fault = result
                is_parked = await reporter.parked(result, wait_sec)
                return Park(task_id) if is_parked else Finished(task_id)
            result = known.not_recovered(result)
        if known.may_follow(result):
            return Again(task_id) if await reporter.retried(result) else Finished(task_id)
        await reporter.ended(result)
        return Finished(task_id)

    # ---- without a slot ----------------------------------------------------------------------------------------------

    async def _await_recovery(self, known: Attempt) -> None:
        """The grace of a parked task (R8.3). Cancelled when the task is withdrawn, superseded, or the agent drains."""
        task, clock, began = known.task, self._parts.clock, self._parts.clock.monotonic()
        assert known.fault is not None, "it was parked for a fault"
        with bind_context(run_id=task.run.run_id, device_id=task.device_id):
            fault = await self._parts.readiness.wait_ready(task.device_id, known.fault, known.may_wait_sec(began))
            # From here on nobody cancels this half-way.
            known.recovery = None
            known.grace_left_sec -= clock.monotonic() - began
            if fault is None:
                log.info("The phone answers again")
                self._apply(Recover(task.task_id))
            else:
                self._withdraw(known, known.not_recovered(fault))

    def _withdraw(self, known: Attempt, verdict: TaskOutcome) -> None:
        known.verdict = verdict
        self._apply(Cancel(known.task_id))

    def _end_unstarted(self, known: Attempt) -> None:
        """Until its end is in the journal, its phone is given to none of its later tasks."""
        known.stop_waiting()
        self._ending[known.task_id] = None
        self._at_rest.clear()
        _ = self._background.start(f"end {known.task_id}", self._record_unstarted(known))

    async def _record_unstarted(self, known: Attempt) -> None:
        try:
            with bind_context(run_id=known.task.run.run_id, device_id=known.task.device_id):
                following = await self._conclude(known, known.verdict or known.stopped())
        finally:
            self._is_concluded(self._ending, known)
        self._hand_on(known, following)

    async def _await_lock(self, known: Attempt) -> None:
        """Another agent on this PC works on the phone: its slot is given to others until the phone is free."""
        clock, locks, task = self._parts.clock, self._parts.locks, known.task
        device_id = task.device_id
        deadline = clock.monotonic() + DEVICE_LOCK_WAIT_SEC
        with bind_context(run_id=task.run.run_id, device_id=device_id):
            park = known.reporter.parking(_refused(locks.why_refused(device_id)), DEVICE_LOCK_WAIT_SEC)
        is_parked = False
        while task.task_id in self._known and clock.monotonic() < deadline:
            is_parked = is_parked or await park()
            await clock.sleep(LOCK_LOOK_SEC)
            if locks.acquire(device_id):
                locks.release(device_id)
                break
        else:
            self._give_up_on_lock(task)
        self._apply(DeviceReady(device_id))

    def _give_up_on_lock(self, task: Task) -> None:
        known = self._known.get(task.task_id)
        if known is not None and task.task_id not in self._ending:
            why = self._parts.locks.why_refused(task.device_id)
            self._withdraw(known, known.not_recovered(_refused(f"after {DEVICE_LOCK_WAIT_SEC:.0f} s, {why}")))

    async def _at_rest_within(self, seconds: float) -> bool:
        """Nothing has a slot, and no end is on its way into the journal."""
        try:
            async with asyncio.timeout(seconds):
                await self._at_rest.wait()
        except TimeoutError:
            return False
        return True


def _refused(why: str) -> NotReady:
    return NotReady(FailureReason.DEVICE_RESERVED, why)


def _is_being_cancelled() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0
