"""Any recipe, any phone: what a workflow may and may not do."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muster.domain import limits
from muster.domain.failure import FailureReason
from muster.recipe.conditions import DeviceFacts
from muster.recipe.interpreter import (
    Action,
    Finish,
    Program,
    RunStep,
    SkipStep,
    State,
    StepOutcome,
    is_idempotent,
    next_action,
    record,
    record_skip,
)
from muster.recipe.model import OnFailure, Recipe, StepOutcomeIs
from muster.recipe.parse import parse_recipe

PHASES = st.sampled_from(["PREFLIGHT", "BOOTSTRAP", "LOGIN_FLOW", "SCREENSHOT", "UPLOAD", "own words"])
REASONS = st.sampled_from(
    [
        FailureReason.STEP_FAILED,
        FailureReason.PARAM_MISSING,
        FailureReason.ASSERTION_FAILED,
        FailureReason.ADB_MISSING,
        FailureReason.UPLOAD_ERROR,
        FailureReason.SCREENSHOT_ERROR,
    ]
)
OUTCOMES = st.one_of(
    st.builds(StepOutcome, duration_ms=st.integers(0, 40_000)),
    st.builds(StepOutcome, duration_ms=st.integers(0, 40_000), reason=REASONS, fate_unknown=st.booleans()),
    st.builds(
        StepOutcome,
        duration_ms=st.integers(5_000, 40_000),
        reason=st.just(FailureReason.STEP_TIMEOUT),
        timed_out=st.just(True),
        fate_unknown=st.just(True),
    ),
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    steps: list[Any] = []
    for index in range(draw(st.integers(1, 8))):
        step = draw(_steps(index, steps))
        steps.append(step)
    return {
        "workflow_id": "w",
        "defaultOnFailure": draw(st.sampled_from(["stop", "continue"])),
        "defaultStepTimeoutMs": draw(st.integers(5_000, 60_000)),
        "steps": steps,
    }


@st.composite
def _steps(draw: st.DrawFn, index: int, earlier: list[Any]) -> dict[str, Any]:
    step: dict[str, Any] = {"id": f"s{index}", "phase": draw(PHASES)}
    shots = [other["id"] for other in earlier if other["kind"] == "screenshot"]
    step["kind"] = draw(st.sampled_from(["adb", "screenshot", *(["upload"] if shots else [])]))
    if step["kind"] == "adb":
        step["command"] = "true"
    if step["kind"] == "upload":
        step["source"] = draw(st.sampled_from(shots))
    step |= draw(st.fixed_dictionaries({}, optional=_OPTIONS))
    if draw(st.booleans()) and earlier:
        step["when"] = {"step": draw(st.sampled_from(earlier))["id"], "is": draw(st.sampled_from(list(StepOutcomeIs)))}
    return step


_OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "onFailure": st.sampled_from(["stop", "continue", "retry"]),
    "retryCount": st.integers(0, 10),
    "idempotent": st.booleans(),
    "probability": st.floats(0, 1),
    "timeoutMs": st.integers(5_000, 600_000),
}
PROGRAMS = st.builds(
    lambda document, overrides, device: Program(_recipe(document), "run-1", DeviceFacts(device), overrides),
    documents(),
    st.dictionaries(
        st.sampled_from(["s0", "s1", "UPLOAD", "own words", "adb", "screenshot"]), st.integers(5_000, 60_000)
    ),
    st.sampled_from(["A", "B", "C"]),
)


def _recipe(document: dict[str, Any]) -> Recipe:
    parsed = parse_recipe(document)
    assert parsed.recipe is not None, parsed.errors
    return parsed.recipe


@dataclass
class Walk:
    """One device's way through a program."""

    program: Program
    state: State = field(default_factory=State)
    actions: list[Action] = field(default_factory=list)
    outcomes: list[tuple[RunStep, StepOutcome]] = field(default_factory=list)

    def go(self, data: st.DataObject) -> Finish:
        for _ in range(len(self.program.recipe.steps) * (limits.RETRY_COUNT_MAX + 1) + 1):
            action = next_action(self.program, self.state)
            self.actions.append(action)
            if isinstance(action, Finish):
                return action
            if isinstance(action, SkipStep):
                self.state = record_skip(self.program, self.state)
                continue
            outcome = data.draw(OUTCOMES)
            self.outcomes.append((action, outcome))
            self.state = record(self.program, self.state, outcome)
        raise AssertionError("it never ends")


@given(PROGRAMS, st.data())
def test_a_workflow_always_ends_and_visits_its_steps_in_order(program: Program, data: st.DataObject) -> None:
    walk = Walk(program)
    finish = walk.go(data)
    visited = [action.index for action in walk.actions if not isinstance(action, Finish)]
    assert visited == sorted(visited)
    assert set(visited) == set(range(len(set(visited)))), "none is left out without a word"
    if finish.reason is None:
        assert len(set(visited)) == len(program.recipe.steps)


@given(PROGRAMS, st.data())
def test_tries_never_pass_the_retry_count_and_count_from_one(program: Program, data: st.DataObject) -> None:
    walk = Walk(program)
    walk.go(data)
    for index, step in enumerate(program.recipe.steps):
        tries = [action.try_number for action, _ in walk.outcomes if action.index == index]
        assert tries == list(range(1, len(tries) + 1))
        allowed = step.retry_count if step.on_failure is OnFailure.RETRY else 0
        assert len(tries) <= 1 + allowed


@given(PROGRAMS, st.data())
def test_what_may_have_happened_is_done_again_only_if_it_is_idempotent(program: Program, data: st.DataObject) -> None:
    walk = Walk(program)
    walk.go(data)
    for (action, outcome), (following, _) in itertools.pairwise(walk.outcomes):
        if following.index != action.index:
            continue
        assert outcome.reason is not None, "what succeeded is never done again"
        assert outcome.reason is not FailureReason.PARAM_MISSING, "it would be missing again"
        if outcome.timed_out or outcome.fate_unknown:
            assert is_idempotent(program.recipe.steps[action.index])


@given(PROGRAMS, st.data())
def test_the_verdict_is_of_the_last_failure_and_failed_steps_are_those_that_failed_for_good(
    program: Program, data: st.DataObject
) -> None:
    walk = Walk(program)
    finish = walk.go(data)
    last_try = {action.index: outcome for action, outcome in walk.outcomes}
    failed = tuple(
        program.recipe.steps[index].id for index, outcome in sorted(last_try.items()) if outcome.reason is not None
    )
    assert finish.failed_steps == failed
    if finish.reason is not None:
        step = program.recipe.steps[walk.outcomes[-1][0].index]
        assert failed[-1] == step.id
        stops = step.on_failure in (None, OnFailure.RETRY) and program.recipe.default_on_failure is OnFailure.STOP
        assert stops or step.on_failure is OnFailure.STOP


@given(PROGRAMS, st.data())
def test_a_phase_with_a_limit_of_its_own_never_gets_more_time_than_that(program: Program, data: st.DataObject) -> None:
    walk = Walk(program)
    walk.go(data)
    spent: dict[str, int] = {}
    for action, outcome in walk.outcomes:
        phase = program.recipe.steps[action.index].phase
        if phase in program.overrides_ms:
            assert action.limit_ms == max(0, min(action.limit_ms, program.overrides_ms[phase] - spent.get(phase, 0)))
        else:
            assert action.limit_ms >= limits.STEP_TIMEOUT_MS_MIN
        spent[phase] = spent.get(phase, 0) + outcome.duration_ms


@given(PROGRAMS, st.data())
def test_reasons_follow_the_phase(program: Program, data: st.DataObject) -> None:
    walk = Walk(program)
    finish = walk.go(data)
    if finish.reason is None:
        return
    action, outcome = walk.outcomes[-1]
    step = program.recipe.steps[action.index]
    own = {
        FailureReason.PARAM_MISSING,
        FailureReason.ASSERTION_FAILED,
        FailureReason.ADB_MISSING,
        FailureReason.UPLOAD_ERROR,
    }
    if outcome.reason in own:
        assert finish.reason is outcome.reason
    elif step.phase == "BOOTSTRAP":
        assert finish.reason is FailureReason.BOOTSTRAP_CRITICAL_FAILED
    elif step.phase == "SCREENSHOT" or step.kind == "screenshot":
        assert finish.reason is FailureReason.SCREENSHOT_ERROR
    elif step.phase == "UPLOAD" or step.kind == "upload":
        assert finish.reason is FailureReason.UPLOAD_ERROR
    elif outcome.timed_out and step.phase == "LOGIN_FLOW":
        assert finish.reason is FailureReason.LOGIN_FLOW_TIMEOUT
    else:
        assert finish.reason in {outcome.reason, FailureReason.DEVICE_UNRESPONSIVE}
    assert finish.reason is not FailureReason.UNKNOWN
