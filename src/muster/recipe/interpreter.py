"""How a workflow goes on: (state, outcome of the last try) → what to do next. No clock, no I/O.

action = next_action(program, state)
state  = record(program, state, outcome)       after RunStep
state  = record_skip(program, state)           after SkipStep
state, action = begin_again(program, state, ms)  instead of recording a try that had to be broken off
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from muster.domain import limits
from muster.domain.failure import FailureReason
from muster.recipe.conditions import DeviceFacts, holds
from muster.recipe.model import AssertStep, OnFailure, Recipe, ScreenshotStep, Step, StepOutcomeIs, UploadStep, WaitStep
from muster.recipe.sampling import is_sampled

_T = TypeVar("_T")

# Reasons that tell more than the phase could: kept wherever the step stands.
_OWN_REASONS: Final = frozenset(
    {
        FailureReason.PARAM_MISSING,
        FailureReason.RAW_NOT_ALLOWED,
        FailureReason.ASSERTION_FAILED,
        FailureReason.NEEDS_USB_AUTHORIZATION,
        FailureReason.ADB_OFFLINE,
        FailureReason.ADB_MISSING,
        FailureReason.DEVICE_UNRESPONSIVE,
        FailureReason.IDENTITY_CONFLICT,
        # The infrastructure's, in whatever phase: it must not pass for a fault of the phone.
        FailureReason.UPLOAD_ERROR,
    }
)
# These fail the same way however often they are tried.
_FINAL_REASONS: Final = frozenset({FailureReason.PARAM_MISSING, FailureReason.RAW_NOT_ALLOWED})
_IDEMPOTENT_KINDS: Final = (ScreenshotStep, UploadStep, AssertStep, WaitStep)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """How one try ended. `reason` None = it succeeded; `fate_unknown`: cut off, so it may or may not have happened."""

    duration_ms: int
    reason: FailureReason | None = None
    timed_out: bool = False
    fate_unknown: bool = False


@dataclass(frozen=True, slots=True)
class RunStep:
    """Run step `index` for the `try_number`-th time, after `pause_ms`, for at most `limit_ms`."""

    index: int
    try_number: int
    limit_ms: int
    pause_ms: int = 0


@dataclass(frozen=True, slots=True)
class SkipStep:
    """Step `index` is not for this device; `why` is for the log."""

    index: int
    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The workflow is over. `reason` None = it succeeded, perhaps with failures that were continued."""

    reason: FailureReason | None
    failed_steps: tuple[str, ...]


Action = RunStep | SkipStep | Finish


@dataclass(frozen=True, slots=True)
class Program:
    """A recipe as one device runs it in one run. `upload_timeout_ms` is the node's default for uploads (R1.6)."""

    recipe: Recipe
    run_id: str
    device: DeviceFacts
    overrides_ms: Mapping[str, int] = field(default_factory=dict)
    upload_timeout_ms: int = limits.UPLOAD_TIMEOUT_MS_DEFAULT

    def step_limit_ms(self, step: Step) -> int:
        """The most specific of: override by step id, by phase, by kind; the step's own; the upload's; the recipe's."""
        for name in (step.id, step.phase, step.kind):
            if name in self.overrides_ms:
                return self.overrides_ms[name]
        if step.timeout_ms is not None:
            return step.timeout_ms
        return self.upload_timeout_ms if isinstance(step, UploadStep) else self.recipe.default_step_timeout_ms


@dataclass(frozen=True, slots=True)
class State:
    """Where a workflow stands. `spent_ms`: time used so far by each phase, all its steps and tries."""

    index: int = 0
    try_number: int = 1
    stopped: FailureReason | None = None
    failed_steps: tuple[str, ...] = ()
    outcomes: Mapping[str, StepOutcomeIs] = field(default_factory=dict)
    spent_ms: Mapping[str, int] = field(default_factory=dict)


def next_action(program: Program, state: State) -> Action:
    """What to do now."""
    steps = program.recipe.steps
    if state.stopped is not None or state.index >= len(steps):
        return Finish(state.stopped, state.failed_steps)
    step = steps[state.index]
    if state.try_number == 1 and (why := _why_skipped(program, state, step)):
        return SkipStep(state.index, why)
    pause_ms = limits.STEP_RETRY_PAUSE_MS * (state.try_number - 1)
    return RunStep(state.index, state.try_number, _limit_ms(program, state, step), pause_ms)


def record(program: Program, state: State, outcome: StepOutcome) -> State:
    """The state after a try of the step at `state.index`."""
    step = program.recipe.steps[state.index]
    state = _spend(state, step, outcome.duration_ms)
    if outcome.reason is None:
        return _after(state, step, StepOutcomeIs.COMPLETED)
    if _may_retry(program, state, step, outcome):
        return replace(state, try_number=state.try_number + 1)
    state = _after(replace(state, failed_steps=(*state.failed_steps, step.id)), step, StepOutcomeIs.FAILED)
    if _verdict(program, step) is OnFailure.STOP:
        return replace(state, stopped=failure_reason(step, outcome))
    return state


def begin_again(program: Program, state: State, spent_ms: int) -> tuple[State, RunStep]:
    """The same try of the same step from its beginning, at once; its phase pays for both parts."""
    step = program.recipe.steps[state.index]
    state = _spend(state, step, spent_ms)
    return state, RunStep(state.index, state.try_number, _limit_ms(program, state, step))


def record_skip(program: Program, state: State) -> State:
    """The state after the step at `state.index` was skipped."""
    return _after(state, program.recipe.steps[state.index], StepOutcomeIs.SKIPPED)


def failure_reason(step: Step, outcome: StepOutcome) -> FailureReason:
    """The reason that a failed step gives its task, by its phase and kind (spec/02)."""
    reason = outcome.reason or FailureReason.STEP_FAILED
    if reason in _OWN_REASONS:
        return reason
    if step.phase == "BOOTSTRAP":
        return FailureReason.BOOTSTRAP_CRITICAL_FAILED
    if step.phase == "SCREENSHOT" or isinstance(step, ScreenshotStep):
        return FailureReason.SCREENSHOT_ERROR
    if step.phase == "UPLOAD" or isinstance(step, UploadStep):
        return FailureReason.UPLOAD_ERROR
    if not outcome.timed_out:
        return reason
    by_phase = {"LOGIN_FLOW": FailureReason.LOGIN_FLOW_TIMEOUT, "PREFLIGHT": FailureReason.DEVICE_UNRESPONSIVE}
    return by_phase.get(step.phase, FailureReason.STEP_TIMEOUT)


def _limit_ms(program: Program, state: State, step: Step) -> int:
    """The step's own limit, and never more than an override of its phase leaves (0: the phase has used it up)."""
    limit = program.step_limit_ms(step)
    if step.phase not in program.overrides_ms:
        return limit
    return max(0, min(limit, program.overrides_ms[step.phase] - state.spent_ms.get(step.phase, 0)))


def _spend(state: State, step: Step, duration_ms: int) -> State:
    spent = state.spent_ms.get(step.phase, 0) + duration_ms
    return replace(state, spent_ms=_with(state.spent_ms, step.phase, spent))


def _why_skipped(program: Program, state: State, step: Step) -> str | None:
    if step.when is not None and not holds(step.when, state.outcomes, program.device):
        return "its condition does not hold"
    if not is_sampled(program.run_id, program.device.device_id, step.id, step.probability):
        return "not sampled"
    needs = step.source if isinstance(step, UploadStep) else step.expect.step if isinstance(step, AssertStep) else None
    if needs is not None and state.outcomes.get(needs) is StepOutcomeIs.SKIPPED:
        return f"{needs} was skipped"
    return None


def _may_retry(program: Program, state: State, step: Step, outcome: StepOutcome) -> bool:
    if step.on_failure is not OnFailure.RETRY or state.try_number > step.retry_count:
        return False
    if outcome.reason in _FINAL_REASONS or _limit_ms(program, state, step) == 0:
        return False
    return is_idempotent(step) or not (outcome.timed_out or outcome.fate_unknown)


def is_idempotent(step: Step) -> bool:
    """Whether it may be tried again when nobody knows if it happened; by its kind unless the step says."""
    return step.idempotent if step.idempotent is not None else isinstance(step, _IDEMPOTENT_KINDS)


def _verdict(program: Program, step: Step) -> OnFailure:
    if step.on_failure in (None, OnFailure.RETRY):
        return program.recipe.default_on_failure
    return OnFailure(step.on_failure)


def _after(state: State, step: Step, outcome: StepOutcomeIs) -> State:
    outcomes = _with(state.outcomes, step.id, outcome)
    return replace(state, index=state.index + 1, try_number=1, outcomes=outcomes)


def _with(mapping: Mapping[str, _T], key: str, value: _T) -> Mapping[str, _T]:
    return {**mapping, key: value}
