"""What the tables of `muster run` say of phones whose node does not answer."""

import pytest

from muster.cli.run import tell_run, tell_tasks
from muster.contracts.api import RunDetail, TaskView
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


def run_with(node: dict[str, object], *, finished: int) -> RunDetail:
    """A run of two phones on one node."""
    counts = {"total": 2, "succeeded": finished, "running": 2 - finished}
    return RunDetail.model_validate(
        {
            "run_id": UUID,
            "workflow_id": "tour",
            "version": 1,
            "trigger": "manual",
            "status": "running",
            "created_at": 1,
            "counts": counts,
            "globalTimeoutMs": 90_000,
            "summary": {},
            "nodes": [{"node_id": "PC-01", "online": True, "counts": counts, "summary": {}, **node}],
            "tasks": [],
        }
    )


def test_a_node_in_trouble_is_told_while_it_has_open_phones(capsys: pytest.CaptureFixture[str]) -> None:
    gone = {"reason": "adb_gone", "message": "the adb server does not answer", "stops_work": True}
    ill: dict[str, object] = {"status": "degraded", "troubles": [gone]}
    tell_run(run_with(ill, finished=1), json=False)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "PC-01 is degraded; `muster doctor --node` on that PC says more",
        "PC-01: the adb server does not answer",
    ]
    tell_run(run_with(ill, finished=2), json=False)
    assert "PC-01" not in capsys.readouterr().out
    tell_run(run_with({"status": "online"}, finished=1), json=False)
    assert "PC-01" not in capsys.readouterr().out


def test_what_a_phone_waits_for_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    told = rows(
        capsys,
        task("A", TaskState.WAITING, failure_reason=FailureReason.ADB_OFFLINE, error_message="check its cable"),
    )
    assert told[1].split()[2:] == ["waiting", "1", "-", "-", "adb_offline"]
    assert told[2] == "A: check its cable"
