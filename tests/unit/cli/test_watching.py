from muster.cli.watching import PlainLines, counts_text, exit_status
from muster.client.follow import RunProgress
from muster.contracts.api import RunListItem, TaskCounts, TaskView
from muster.domain.failure import FailureReason
from muster.domain.run import RunState, RunTrigger
from muster.domain.task import TaskState

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def progress(counts: TaskCounts, *tasks: TaskView, trouble: str | None = None) -> RunProgress:
    run = RunListItem(
        run_id=RUN_ID,
        workflow_id="w",
        version=1,
        trigger=RunTrigger.API,
        status=RunState.RUNNING,
        created_at=1,
        counts=counts,
    )
    return RunProgress(run=run, tasks={task.task_id: task for task in tasks}, trouble=trouble)


def failed(message: str) -> TaskView:
    return TaskView(
        task_id=RUN_ID,
        run_id=RUN_ID,
        node_id="PC-01",
        device_id="PHONE1",
        status=TaskState.FAILED,
        step_id="login",
        failure_reason=FailureReason.STEP_TIMEOUT,
        error_message=message,
        updated_at=1,
    )


def test_a_line_is_written_when_the_number_of_finished_phones_changes_and_not_otherwise() -> None:
    lines: list[str] = []
    view = PlainLines(lines.append)
    view.show(progress(TaskCounts(total=2, queued=2)))
    view.show(progress(TaskCounts(total=2, queued=1, running=1)))
    view.show(progress(TaskCounts(total=2, running=1, succeeded=1)))
    assert lines == [
        "run 01890a5d-ac96 running: 0/2 finished (2 queued)",
        "run 01890a5d-ac96 running: 1/2 finished (1 succeeded, 1 running)",
    ]


def test_a_failure_is_told_once_and_cannot_forge_a_line() -> None:
    lines: list[str] = []
    view = PlainLines(lines.append)
    for _ in range(2):
        view.show(progress(TaskCounts(total=1, failed=1), failed("no\nanswer")))
    assert lines[0] == "PHONE1 step_timeout at login: no answer"
    assert len(lines) == 2


def test_trouble_with_the_backend_and_its_end_are_told_once_each() -> None:
    lines: list[str] = []
    view = PlainLines(lines.append)
    counts = TaskCounts(total=1, running=1)
    for trouble in (None, "gone", "gone", None, None):
        view.show(progress(counts, trouble=trouble))
    assert lines[1:] == ["waiting for the backend: gone", "connected again"]


def test_trouble_before_the_first_answer_is_told_too() -> None:
    lines: list[str] = []
    PlainLines(lines.append).show(RunProgress(trouble="gone"))
    assert lines == ["waiting for the backend: gone"]


def test_only_a_run_in_which_all_succeeded_ends_with_0() -> None:
    assert [state for state in RunState if exit_status(state) == 0] == [RunState.COMPLETED]


def test_counts_name_only_states_that_have_phones() -> None:
    assert counts_text(TaskCounts(total=3, succeeded=2, skipped_offline=1)) == "2 succeeded, 1 skipped_offline"
    assert counts_text(TaskCounts()) == "no phones"
