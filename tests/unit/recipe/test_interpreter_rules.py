"""The interpreter's rules that a table shows best."""

import subprocess
import sys
from typing import Any

import pytest

from muster.domain.failure import FailureReason
from muster.recipe.conditions import DeviceFacts, holds
from muster.recipe.interpreter import (
    Program,
    RunStep,
    State,
    StepOutcome,
    begin_again,
    failure_reason,
    next_action,
    record,
)
from muster.recipe.model import StepOutcomeIs
from muster.recipe.parse import parse_recipe
from muster.recipe.sampling import is_sampled


def program(*steps: dict[str, Any], overrides: dict[str, int] | None = None, **head: Any) -> Program:
    parsed = parse_recipe({"workflow_id": "w", "steps": list(steps), **head})
    assert parsed.recipe is not None, parsed.errors
    return Program(parsed.recipe, "run-1", DeviceFacts("A"), overrides or {}, upload_timeout_ms=44_000)


SHOT: dict[str, Any] = {"id": "shot", "kind": "screenshot", "phase": "SCREENSHOT"}
UPLOAD: dict[str, Any] = {"id": "up", "kind": "upload", "source": "shot", "phase": "UPLOAD"}


@pytest.mark.parametrize(
    ("step", "overrides", "limit_ms"),
    [
        ({**SHOT}, {}, 21_000),
        ({**SHOT, "timeoutMs": 7_000}, {}, 7_000),
        ({**SHOT, "timeoutMs": 7_000}, {"screenshot": 8_000}, 8_000),
        ({**SHOT, "timeoutMs": 7_000}, {"screenshot": 8_000, "SCREENSHOT": 9_000}, 9_000),
        ({**SHOT, "timeoutMs": 7_000}, {"screenshot": 8_000, "SCREENSHOT": 20_000, "shot": 10_000}, 10_000),
        ({**SHOT}, {"SCREENSHOT": 9_000, "shot": 60_000}, 9_000),
        ({**SHOT}, {"adb": 9_000, "other": 9_000}, 21_000),
    ],
)
def test_the_most_specific_limit_wins_and_a_phases_override_bounds_it(
    step: dict[str, Any], overrides: dict[str, int], limit_ms: int
) -> None:
    action = next_action(program(step, overrides=overrides, defaultStepTimeoutMs=21_000), State())
    assert action.limit_ms == limit_ms  # type: ignore[union-attr]  # a RunStep


def test_an_upload_without_a_limit_has_the_nodes_own_and_not_the_recipes_default() -> None:
    made = program(SHOT, UPLOAD, defaultStepTimeoutMs=21_000)
    state = record(made, State(), StepOutcome(10))
    assert next_action(made, state).limit_ms == 44_000  # type: ignore[union-attr]  # a RunStep


def test_a_try_that_is_begun_again_has_what_its_phase_has_left_and_the_phase_pays_for_both_parts() -> None:
    steps = [{"id": name, "kind": "adb", "command": "x", "phase": "TOUR"} for name in "ab"]
    made = program(*steps, overrides={"TOUR": 20_000})
    state, again = begin_again(made, State(), 12_000)
    assert again == RunStep(0, 1, 8_000)
    assert next_action(made, record(made, state, StepOutcome(3_000))) == RunStep(1, 1, 5_000)


@pytest.mark.parametrize(
    ("phase", "kind", "outcome", "reason"),
    [
        ("BOOTSTRAP", "adb", "failed", FailureReason.BOOTSTRAP_CRITICAL_FAILED),
        ("BOOTSTRAP", "adb", "timeout", FailureReason.BOOTSTRAP_CRITICAL_FAILED),
        ("BOOTSTRAP", "screenshot", "failed", FailureReason.BOOTSTRAP_CRITICAL_FAILED),
        ("LOGIN_FLOW", "adb", "failed", FailureReason.STEP_FAILED),
        ("LOGIN_FLOW", "adb", "timeout", FailureReason.LOGIN_FLOW_TIMEOUT),
        ("LOGIN_FLOW", "screenshot", "timeout", FailureReason.SCREENSHOT_ERROR),
        ("SCREENSHOT", "adb", "failed", FailureReason.SCREENSHOT_ERROR),
        ("SCREENSHOT", "screenshot", "timeout", FailureReason.SCREENSHOT_ERROR),
        ("UPLOAD", "adb", "timeout", FailureReason.UPLOAD_ERROR),
        ("PREFLIGHT", "adb", "timeout", FailureReason.DEVICE_UNRESPONSIVE),
        ("PREFLIGHT", "adb", "failed", FailureReason.STEP_FAILED),
        ("own words", "adb", "timeout", FailureReason.STEP_TIMEOUT),
    ],
)
def test_a_stop_is_named_by_its_phase(phase: str, kind: str, outcome: str, reason: FailureReason) -> None:
    step = {"id": "a", "kind": kind, "phase": phase, **({"command": "x"} if kind == "adb" else {})}
    timed_out = outcome == "timeout"
    given = FailureReason.STEP_TIMEOUT if timed_out else FailureReason.STEP_FAILED
    assert failure_reason(program(step).recipe.steps[0], StepOutcome(1, given, timed_out)) is reason


@pytest.mark.parametrize(
    "reason",
    [
        FailureReason.PARAM_MISSING,
        FailureReason.ASSERTION_FAILED,
        FailureReason.ADB_MISSING,
        FailureReason.UPLOAD_ERROR,
    ],
)
def test_reasons_that_tell_more_than_the_phase_are_kept(reason: FailureReason) -> None:
    step = {"id": "a", "kind": "adb", "phase": "BOOTSTRAP", "command": "x"}
    assert failure_reason(program(step).recipe.steps[0], StepOutcome(1, reason)) is reason


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"step": "login", "is": "failed"}, True),
        ({"step": "login", "is": "completed"}, False),
        ({"step": "never-run", "is": "skipped"}, False),
        ({"device": "sdk", "atLeast": 29}, True),
        ({"device": "sdk", "atLeast": 31}, False),
        ({"device": "sdk", "equals": "30"}, True),
        ({"device": "model", "matches": "^SM-.*"}, True),
        ({"device": "model", "matches": "^Pixel"}, False),
        ({"device": "manufacturer", "matches": ".*"}, False),
        ({"not": {"device": "manufacturer", "matches": ".*"}}, True),
        ({"all": [{"device": "device_id", "equals": "A"}, {"step": "login", "is": "failed"}]}, True),
        ({"any": [{"device": "device_id", "equals": "B"}, {"device": "sdk", "atLeast": 99}]}, False),
    ],
)
def test_conditions_are_judged_on_earlier_steps_and_on_the_phone(condition: dict[str, Any], expected: bool) -> None:
    login: dict[str, Any] = {"id": "login", "kind": "adb", "command": "x"}
    never: dict[str, Any] = {"id": "never-run", "kind": "adb", "command": "x"}
    step = program(login, never, {"id": "a", "kind": "adb", "command": "x", "when": condition}).recipe.steps[2]
    assert step.when is not None
    facts = DeviceFacts("A", sdk=30, model="SM-G991N", manufacturer=None)
    assert holds(step.when, {"login": StepOutcomeIs.FAILED}, facts) is expected


def test_sampling_is_the_same_in_every_process() -> None:
    here = [is_sampled("run", f"phone-{n}", "step", 0.3) for n in range(64)]
    code = (
        "from muster.recipe.sampling import is_sampled;"
        "print([is_sampled('run', f'phone-{n}', 'step', 0.3) for n in range(64)])"
    )
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(here)


def test_sampling_takes_about_the_share_it_was_told_and_all_or_none_at_the_ends() -> None:
    taken = sum(is_sampled("run", f"phone-{n}", "step", 0.3) for n in range(10_000))
    assert 2_800 < taken < 3_200
    assert all(is_sampled("run", f"phone-{n}", "step", 1.0) for n in range(1_000))
    assert not any(is_sampled("run", f"phone-{n}", "step", 0.0) for n in range(1_000))


def test_another_step_of_the_same_run_samples_other_phones() -> None:
    one = [is_sampled("run", f"phone-{n}", "a", 0.5) for n in range(64)]
    assert one != [is_sampled("run", f"phone-{n}", "b", 0.5) for n in range(64)]
