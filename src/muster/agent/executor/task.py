"""One task as a readable pipeline: gates, steps, outcome; teardown always; the task's limit bounds everything."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.kinds import StepKinds
from muster.agent.executor.pictures import VerifyPicture, whole_png_in_thread
from muster.agent.executor.silence import Silence
from muster.agent.file_library import FileRefused
from muster.agent.ports import (
    ExecutorSettings,
    NotReady,
    PhoneError,
    Phones,
    Reporter,
    Spool,
    StepProgress,
    Task,
    TaskOutcome,
)
from muster.agent.preflight.device import TRANSIENT
from muster.agent.preflight.gate import Gate, Refused, Subject, Wait
from muster.agent.preflight.gates import GATES, pass_gates
from muster.agent.readiness import ProbedReadiness, Readiness
from muster.domain import limits
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState
from muster.recipe.conditions import DeviceFacts
from muster.recipe.interpreter import (
    Finish,
    Program,
    RunStep,
    SkipStep,
    State,
    StepOutcome,
    begin_again,
    failure_reason,
    is_idempotent,
    next_action,
    record,
    record_skip,
)
from muster.recipe.model import Step
from muster.recipe.render import RenderError
from muster.recipe.template import TemplateError
from muster.runtime.clock import Clock
from muster.runtime.logs import bind_context, get_logger
from muster.runtime.masking import Mask
from muster.runtime.supervision import raise_first

log = get_logger()


class TaskExecutor:
    """Implements `ports.Executor`. One serves all the node's tasks: it holds nothing of any of them."""

    def __init__(
        self,
        phones: Phones,
        spool: Spool,
        settings: ExecutorSettings,
        clock: Clock,
        *,
        gates: Sequence[Gate] = GATES,
        verify: VerifyPicture = whole_png_in_thread,
        readiness: Readiness | None = None,
    ) -> None:
        self._phones = phones
        self._spool = spool
        self._settings = settings
        self._clock = clock
        self._gates = gates
        self._readiness = readiness or ProbedReadiness(phones, clock)
        self._kinds = StepKinds(verify)
        self._mask = Mask(settings.secrets.values())

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:
        """From preflight to the outcome. Cancelling ends the work at once."""
        whole_sec = task.run.global_timeout_ms / 1000
        deadline = self._clock.monotonic() + whole_sec if task.deadline is None else task.deadline
        context = TaskContext(
            task, self._phones, self._spool, self._settings, self._mask, self._clock, task_deadline=deadline
        )
        silence = Silence(context, self._readiness, self._clock)
        execution = _Execution(context, report, self._clock, self._gates, self._kinds, silence)
        with bind_context(run_id=task.run.run_id, node_id=self._settings.node_id, device_id=task.device_id):
            log.info("Task started", attempt=task.attempt, workflow_id=task.run.workflow_id)
            # How it ended is told by who journals it: the one line `Task finished`.
            return await self._run_masked(execution)

    async def _run_masked(self, execution: "_Execution") -> TaskOutcome | NotReady:
        """A bug's own words are told too, so they pass the mask as well."""
        try:
            return await execution.run()
        except Exception as error:
            if self._mask(text := f"{type(error).__name__}: {error}") != text:
                raise RuntimeError(self._mask(text)) from None
            raise


@dataclass(slots=True)
class _Running:
    """The try that is going on."""

    action: RunStep
    started_at_ms: int
    started: float


@dataclass(slots=True)
class _Execution:
    """One task while it runs."""

    context: TaskContext
    report: Reporter
    clock: Clock
    gates: Sequence[Gate]
    kinds: StepKinds
    silence: Silence
    state: State = field(default_factory=State)
    running: _Running | None = None
    last_error: str | None = None

    async def run(self) -> TaskOutcome | NotReady:
        """The task within its own limit."""
        handle = self._handle()
        left_sec = self.context.task_deadline - self.clock.monotonic()
        try:
            async with asyncio.timeout(left_sec) as limit:
                outcome = await self._preflight_and_steps()
        except TimeoutError:
            if not limit.expired():
                raise
            outcome = await self._out_of_time()
        if isinstance(outcome, NotReady):
            return outcome
        message = outcome.error_message and self.context.mask(outcome.error_message)
        return replace(
            outcome, error_message=message, runtime_handle=handle or self._handle(), artifact=self.context.stored
        )

    def _handle(self) -> str | None:
        status = self.context.phones.status(self.context.task.device_id)
        return status.runtime_handle if status else None

    async def _preflight_and_steps(self) -> TaskOutcome | NotReady:
        task, phones = self.context.task, self.context.phones
        subject = Subject(
            task.device_id,
            phones,
            self.clock,
            self.context.settings.preflight_timeout_ms,
            DeviceFacts(task.device_id),
            deadline=self.context.task_deadline,
            online_window_sec=self.context.settings.online_window_sec,
        )
        verdict = await self._gated(subject)
        if isinstance(verdict, Wait):
            return NotReady(verdict.reason, self._tidy(verdict.message))
        if isinstance(verdict, Refused):
            return TaskOutcome(verdict.status, verdict.reason, self._tidy(verdict.message))
        self.context.phone_clock = subject.phone_clock
        return await self._steps(verdict)

    async def _gated(self, subject: Subject) -> DeviceFacts | Refused | Wait:
        """The gates' verdict, told when `task_started` is on the disk too.

        The phone is asked while that is being written: an fsync takes as long as the probe, which changes nothing.
        """
        phone = subject.phones.find(subject.device_id)
        if phone is None:
            return await self._brought_back(subject)
        try:
            async with asyncio.TaskGroup() as both:
                _ = both.create_task(self.report.started(phone.runtime_handle))
                return await pass_gates(subject, self.gates)
        except ExceptionGroup as failed:
            raise_first(failed)

    async def _brought_back(self, subject: Subject) -> DeviceFacts | Refused | Wait:
        """A phone that is not there may be by the time the gates have passed it: an emulator is started (R2.1)."""
        verdict = await pass_gates(subject, self.gates)
        if not isinstance(verdict, DeviceFacts):
            return verdict
        phone = subject.phones.find(subject.device_id)
        if phone is None:
            return Wait(FailureReason.ADB_MISSING, "the phone went away just before its first step")
        await self.report.started(phone.runtime_handle)
        return verdict

    async def _steps(self, facts: DeviceFacts) -> TaskOutcome:
        run = self.context.task.run
        program = Program(
            run.recipe, run.run_id, facts, run.timeout_overrides_ms, self.context.settings.upload_timeout_ms
        )
        while True:
            action = next_action(program, self.state)
            match action:
                case Finish(reason, failed_steps):
                    return self._finished(reason, failed_steps)
                case SkipStep():
                    await self._skip(program.recipe.steps[action.index], action)
                    self.state = record_skip(program, self.state)
                case RunStep():
                    outcome = await self._try(program, action)
                    self.state = record(program, self.state, outcome)

    def _finished(self, reason: FailureReason | None, failed_steps: tuple[str, ...]) -> TaskOutcome:
        if reason is None:
            return TaskOutcome(TaskState.SUCCEEDED, failed_steps=failed_steps)
        message = f"step {failed_steps[-1]}: {self.last_error}"
        return TaskOutcome(TaskState.FAILED, reason, self._tidy(message), failed_steps)

    async def _skip(self, step: Step, action: SkipStep) -> None:
        await self._tell(
            StepProgress(
                step_id=step.id,
                phase=step.phase,
                status=StepState.SKIPPED,
                step_index=action.index,
                steps_total=len(self.context.task.run.recipe.steps),
                log_snippet=action.why,
            )
        )

    async def _try(self, program: Program, action: RunStep) -> StepOutcome:
        """One try of one step within its limit, told before and after. A phone that goes away in it gets its grace."""
        step = program.recipe.steps[action.index]
        if action.pause_ms:
            await self.clock.sleep(action.pause_ms / 1000)
        result, timed_out = await self._begin(step, action)
        if await self._has_recovered(step, result, timed_out=timed_out):
            self.state, action = begin_again(program, self.state, self._elapsed_ms())
            result, timed_out = await self._begin(step, action)
        result = self.silence.explain(result)
        outcome = StepOutcome(self._elapsed_ms(), result.reason, timed_out, result.fate_unknown or timed_out)
        await self._tell_end(step, result, outcome)
        self.running = None
        return outcome

    async def _begin(self, step: Step, action: RunStep) -> tuple[StepResult, bool]:
        self.running = _Running(action, self.clock.now_ms(), self.clock.monotonic())
        await self._tell(self._progress(step, StepState.RUNNING))
        if action.limit_ms <= 0:
            return StepResult(FailureReason.STEP_TIMEOUT, f"phase {step.phase} had used up its time before"), True
        result, timed_out = await self._within_limit(step, action)
        with self._unpaid():
            return await self.silence.examine(step, result, timed_out=timed_out), timed_out

    async def _has_recovered(self, step: Step, result: StepResult, *, timed_out: bool) -> bool:
        """The phone went away in a step that may be begun again: waits here, slot in hand (R8.5), for it to answer."""
        if timed_out or result.reason not in TRANSIENT or (result.fate_unknown and not is_idempotent(step)):
            return False
        grace_ms = self.context.settings.device_grace_wait_ms
        waiting = replace(self._progress(step, StepState.WAITING), wait_until_ms=self.clock.now_ms() + grace_ms)
        await self._tell(replace(waiting, failure_reason=result.reason, error_message=self._tidy(result.message)))
        with self._unpaid():
            return await self.silence.has_ended(grace_ms / 1000)

    @contextmanager
    def _unpaid(self) -> Iterator[None]:
        """The phase pays for its steps, not for the phone's absence."""
        assert self.running is not None, "the step is going on"
        began = self.clock.monotonic()
        yield
        self.running.started += self.clock.monotonic() - began

    async def _within_limit(self, step: Step, action: RunStep) -> tuple[StepResult, bool]:
        """What the step answered, and whether it ran out of time instead."""
        self.context.begin_try(action.limit_ms)
        try:
            async with asyncio.timeout(action.limit_ms / 1000) as limit:
                return await self.kinds.run(step, self.context), False
        except TimeoutError:
            if not limit.expired():
                raise
            told = f"; {self.context.waits_for}" if self.context.waits_for else ""
            return StepResult(FailureReason.STEP_TIMEOUT, f"not done within {action.limit_ms / 1000:g} s{told}"), True
        except PhoneError as error:
            return StepResult(error.reason, str(error), fate_unknown=error.fate_unknown), False
        except RenderError as error:
            return StepResult(error.reason, str(error)), False
        except (FileRefused, TemplateError) as error:
            return StepResult(FailureReason.STEP_FAILED, str(error)), False

    async def _tell(self, step: StepProgress) -> None:
        """The one way out for what a step says: no secret passes, whoever forgot to mask it (R7.2)."""
        mask = self.context.mask
        await self.report.progress(
            replace(
                step,
                log_snippet=step.log_snippet and mask(step.log_snippet),
                error_message=step.error_message and mask(step.error_message),
            )
        )

    async def _tell_end(self, step: Step, result: StepResult, outcome: StepOutcome) -> None:
        if result.reason is None:
            done = self._progress(step, StepState.COMPLETED)
            await self._tell(replace(done, exit_code=result.exit_code, log_snippet=result.snippet))
            return
        self.last_error = result.message
        reason = failure_reason(step, outcome)
        log.warning("Step failed", step_id=step.id, reason=reason.value, error=self._tidy(result.message))
        await self._tell(
            replace(
                self._progress(step, StepState.FAILED),
                exit_code=result.exit_code,
                log_snippet=result.snippet,
                failure_reason=reason,
                error_message=self._tidy(result.message),
            )
        )

    async def _out_of_time(self) -> TaskOutcome:
        """The task's limit struck: during preflight, between steps or in one, which then is what failed."""
        seconds = self.context.task.run.global_timeout_ms / 1000
        message, failed_steps = f"the task was not done within {seconds:g} s", self.state.failed_steps
        if self.running is not None:
            step = self.context.task.run.recipe.steps[self.running.action.index]
            message, failed_steps = f"{message}; it was in step {step.id}", (*failed_steps, step.id)
            await self._tell(
                replace(
                    self._progress(step, StepState.FAILED),
                    failure_reason=FailureReason.TASK_TIMEOUT,
                    error_message=message,
                )
            )
        return TaskOutcome(TaskState.FAILED, FailureReason.TASK_TIMEOUT, message, failed_steps)

    def _progress(self, step: Step, status: StepState) -> StepProgress:
        assert self.running is not None, "progress is told of a try that is going on"
        ended = status not in (StepState.RUNNING, StepState.WAITING)
        return StepProgress(
            step_id=step.id,
            phase=step.phase,
            status=status,
            step_index=self.running.action.index,
            steps_total=len(self.context.task.run.recipe.steps),
            try_number=self.running.action.try_number,
            started_at_ms=self.running.started_at_ms,
            ended_at_ms=self.clock.now_ms() if ended else None,
            duration_ms=self._elapsed_ms() if ended else None,
        )

    def _elapsed_ms(self) -> int:
        assert self.running is not None, "time is measured of a try that is going on"
        return round((self.clock.monotonic() - self.running.started) * 1000)

    def _tidy(self, message: str | None) -> str:
        return self.context.mask(message or "no cause was told")[: limits.ERROR_MESSAGE_CHARS_MAX]
