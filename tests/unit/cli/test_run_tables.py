"""What the tables of `muster run` say of phones whose node does not answer."""

import pytest

from muster.cli.run import tell_tasks
from muster.contracts.api import TaskView
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState

UUID = "01890000-0000-7000-8000-000000000000"


def task(device_id: str, status: TaskState, **fields: object) -> TaskView:
    known = {"task_id": UUID, "run_id": UUID, "node_id": "PC-01", "updated_at": 1}
    return TaskView.model_validate({**known, "device_id": device_id, "status": status, **fields})


def rows(capsys: pytest.CaptureFixture[str], *tasks: TaskView) -> list[str]:
    tell_tasks(list(tasks))
    return capsys.readouterr().out.splitlines()


def test_a_state_that_may_be_out_of_date_has_a_question_mark_and_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = rows(capsys, task("A", TaskState.RUNNING, unreachable=True), task("B", TaskState.SUCCEEDED))
    assert [line.split()[2] for line in told[1:3]] == ["running?", "succeeded"]
    assert told[3] == "?: their node does not answer now; the state is the last that it told"


def test_an_end_that_nobody_has_told_has_a_question_mark_and_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = rows(capsys, task("A", TaskState.FAILED, presumed=True, failure_reason=FailureReason.NODE_LOST))
    assert told[1].split()[2] == "failed?"
    assert told[2] == "?: presumed; their node's own result replaces it when it comes"


def test_what_somebody_has_to_do_by_hand_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = rows(capsys, task("A", TaskState.SUCCEEDED, requires_manual_accessibility=True))
    assert told[2] == "A: switch its accessibility service on by hand"


def test_what_is_known_needs_no_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(rows(capsys, task("A", TaskState.RUNNING))) == 2
