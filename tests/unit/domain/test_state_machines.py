"""The life of tasks and runs (spec/03)."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.device import is_online
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.run import RunState, conclude
from muster.domain.task import OPEN_TASK_STATES, TERMINAL_TASK_STATES, TaskState, may_become

S = TaskState


def test_terminal_states_are_final() -> None:
    assert not any(may_become(last, following) for last, following in product(TERMINAL_TASK_STATES, TaskState))


def test_every_open_state_can_end_in_every_way() -> None:
    for state, end in product(OPEN_TASK_STATES, TERMINAL_TASK_STATES):
        assert may_become(state, end), (state, end)


def test_nothing_becomes_queued_again() -> None:
    assert not any(may_become(state, S.QUEUED) for state in TaskState)


@pytest.mark.parametrize(
    ("counts", "stop", "expected"),
    [
        ({S.SUCCEEDED: 20}, False, RunState.COMPLETED),
        ({S.SUCCEEDED: 19, S.FAILED: 1}, False, RunState.COMPLETED_WITH_ERRORS),
        ({S.SUCCEEDED: 19, S.SKIPPED_OFFLINE: 1}, False, RunState.COMPLETED_WITH_ERRORS),
        ({S.FAILED: 3}, False, RunState.FAILED),
        ({S.FAILED: 3, S.SKIPPED_OFFLINE: 2}, False, RunState.FAILED),
        ({S.SKIPPED_OFFLINE: 5}, False, RunState.COMPLETED_WITH_ERRORS),
        ({S.SUCCEEDED: 1, S.CANCELLED: 4}, True, RunState.STOPPED),
        ({S.SUCCEEDED: 5}, True, RunState.COMPLETED),
        ({S.SUCCEEDED: 5, S.RUNNING: 1}, True, None),
        ({S.WAITING: 1}, False, None),
    ],
)
def test_a_run_ends_as_its_tasks_did(counts: dict[TaskState, int], stop: bool, expected: RunState | None) -> None:
    assert conclude(counts, stop_requested=stop) is expected


@given(st.dictionaries(st.sampled_from(TaskState), st.integers(0, 5)), st.booleans())
def test_a_run_ends_exactly_when_no_task_is_open(counts: dict[TaskState, int], stop: bool) -> None:
    any_open = any(counts.get(state, 0) for state in OPEN_TASK_STATES)
    ended = conclude(counts, stop_requested=stop)
    assert (ended is None) == any_open
    assert ended is None or ended.is_terminal


def test_every_reason_says_who_has_to_act() -> None:
    assert {reason.failure_class for reason in FailureReason} == set(FailureClass)


def test_the_timeout_count_of_a_summary_is_by_reason() -> None:
    assert {reason for reason in FailureReason if reason.is_timeout} == {
        FailureReason.LOGIN_FLOW_TIMEOUT,
        FailureReason.STEP_TIMEOUT,
        FailureReason.TASK_TIMEOUT,
    }


@pytest.mark.parametrize(("age_ms", "online"), [(0, True), (30_000, True), (30_001, False)])
def test_a_phone_is_online_for_thirty_seconds_after_its_last_sign(age_ms: int, online: bool) -> None:
    assert is_online(age_ms) is online


def test_a_phone_never_seen_is_offline() -> None:
    assert not is_online(None)
