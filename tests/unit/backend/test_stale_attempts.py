"""Fencing: what speaks of an attempt that is over changes nothing, and is told so."""

import pytest
from tests.support.backend import NodeTask, Rig

from muster.domain.task import TaskState


@pytest.fixture
async def task(rig: Rig) -> NodeTask:
    """A task at its second attempt."""
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (found,) = await rig.take_tasks()
    await rig.tell(rig.started(found, 5, attempt=2), rig.progress(found, 6, "wake", "running", attempt=2))
    return found


async def test_an_end_of_an_older_attempt_is_refused_and_changes_nothing(rig: Rig, task: NodeTask) -> None:
    before = await rig.run(task.run_id)
    end = rig.finished(task, 9, "failed", attempt=1, failure_reason="step_failed")
    (verdict,) = await rig.verdicts(end)
    assert (verdict["ok"], verdict["status"], verdict["field"]) == (False, 409, "payload.attempt")
    assert verdict["message"] == "attempt 1 of this task is over; it is at attempt 2"
    assert await rig.run(task.run_id) == before


async def test_told_by_itself_and_not_in_a_batch_it_is_refused_as_plainly(rig: Rig, task: NodeTask) -> None:
    answer = await rig.callback(rig.finished(task, 9, attempt=1))
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:muster:problem:stale-attempt")
    assert [error["field"] for error in answer.json()["errors"]] == ["payload.attempt"]


async def test_told_again_it_is_stale_again_and_never_a_success(rig: Rig, task: NodeTask) -> None:
    event = rig.finished(task, 9, attempt=1)
    assert [one["status"] for one in await rig.verdicts(event) + await rig.verdicts(event)] == [409, 409]


async def test_an_event_that_counted_in_its_time_is_a_duplicate_and_not_stale(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["B"])
    await rig.start_run(target={"device_ids": ["B"]})
    (task,) = await rig.take_tasks()
    first = rig.started(task, 1)
    await rig.tell(first, rig.started(task, 2, attempt=2))
    (verdict,) = await rig.verdicts(first)
    assert (verdict["ok"], verdict["duplicate"]) == (True, True)


async def test_what_follows_a_newer_attempt_in_its_batch_is_stale_and_holds_up_nothing(
    rig: Rig, task: NodeTask
) -> None:
    found = await rig.verdicts(
        rig.started(task, 7, attempt=3), rig.finished(task, 8, attempt=2), rig.finished(task, 9, attempt=3)
    )
    assert [one["status"] for one in found] == [200, 409, 200]
    shown = (await rig.run(task.run_id)).tasks[0]
    assert (shown.status, shown.attempt) == (TaskState.SUCCEEDED, 3)
