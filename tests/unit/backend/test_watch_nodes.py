"""A silent node: its open tasks look unreachable, then count as lost, and the truth replaces the presumption."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.backend import NodeTask, Rig, open_rig
from tests.support.manual_clock import ManualClock

from muster.backend.live import LiveStream
from muster.backend.watch_nodes import Patience
from muster.contracts.api import TaskView
from muster.domain.failure import FailureReason
from muster.domain.limits import NODE_LOST_AFTER_SEC_DEFAULT, ONLINE_WINDOW_SEC, STOP_OVERDUE_SEC
from muster.domain.run import RunState
from muster.domain.task import TaskState

LOST, WINDOW = NODE_LOST_AFTER_SEC_DEFAULT, ONLINE_WINDOW_SEC


@pytest.fixture
async def task(rig: Rig) -> NodeTask:
    """A running task on PC-01."""
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (found,) = await rig.take_tasks()
    await rig.tell(rig.started(found, 1))
    return found


async def silence(rig: Rig, seconds: float) -> None:
    """Time passes, and the watch has looked at its end."""
    for _ in range(int(seconds // WINDOW)):
        rig.clock.jump(WINDOW)
        await rig.parts.watch.look()
    rig.clock.jump(seconds % WINDOW)
    await rig.parts.watch.look()


async def shown(rig: Rig, task: NodeTask) -> TaskView:
    return (await rig.run(task.run_id)).tasks[0]


async def test_open_tasks_of_a_silent_node_look_unreachable_and_heal_by_themselves(rig: Rig, task: NodeTask) -> None:
    await silence(rig, WINDOW)
    assert not (await shown(rig, task)).unreachable
    await silence(rig, 1)
    run = await rig.run(task.run_id)
    assert (run.tasks[0].unreachable, run.tasks[0].status, run.nodes[0].unreachable) == (True, TaskState.RUNNING, True)
    await rig.heartbeat("PC-01", ["A"])
    run = await rig.run(task.run_id)
    assert (run.tasks[0].unreachable, run.nodes[0].unreachable) == (False, False)


async def test_what_has_ended_never_looks_unreachable(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.finished(task, 2))
    await silence(rig, WINDOW + 1)
    run = await rig.run(task.run_id)
    assert (run.tasks[0].unreachable, run.nodes[0].unreachable) == (False, False)


async def test_who_watches_is_told_when_a_node_goes_silent_and_when_it_is_back(rig: Rig, task: NodeTask) -> None:
    stream = await rig.parts.live.subscribe(task.run_id)
    assert isinstance(stream, LiveStream)
    try:
        assert b'"unreachable":false' in await anext(stream)
        await silence(rig, WINDOW + 1)
        assert b'"unreachable":true' in await rig.next_frame(stream, b"delta")
        await rig.heartbeat("PC-01", ["A"])
        await rig.parts.watch.look()
        assert b'"unreachable":false' in await rig.next_frame(stream, b"delta")
    finally:
        stream.close()


async def test_who_watches_is_told_when_a_node_falls_into_trouble_and_when_it_is_well_again(
    rig: Rig, task: NodeTask
) -> None:
    full = {"reason": "disk_full", "message": "12 MB are free", "stops_work": True}
    await rig.parts.watch.look()
    stream = await rig.parts.live.subscribe(task.run_id)
    assert isinstance(stream, LiveStream)
    try:
        assert b'"node_id":"PC-01","status":"online"' in await anext(stream)
        await rig.heartbeat("PC-01", ["A"], degraded=True, troubles=[full])
        await rig.parts.watch.look()
        frame = await rig.next_frame(stream, b"delta")
        assert b'"status":"degraded"' in frame
        assert b'"message":"12 MB are free"' in frame
        await rig.heartbeat("PC-01", ["A"])
        await rig.parts.watch.look()
        assert b'"troubles":[]' in await rig.next_frame(stream, b"delta")
    finally:
        stream.close()
    (part,) = (await rig.run(task.run_id)).nodes
    assert (part.status, part.troubles, part.online) == ("online", [], True)


async def test_a_lost_node_s_tasks_end_as_presumed_and_so_does_the_run(rig: Rig, task: NodeTask) -> None:
    await silence(rig, LOST)
    assert (await shown(rig, task)).status is TaskState.RUNNING
    await silence(rig, 1)
    run = await rig.run(task.run_id)
    found = run.tasks[0]
    assert (run.status, found.status) == (RunState.FAILED, TaskState.FAILED)
    assert (found.failure_reason, found.presumed) == (FailureReason.NODE_LOST, True)
    assert (found.error_message or "").startswith("presumed: PC-01 has not been heard of for 601 s")


async def test_another_node_s_tasks_go_on(rig: Rig, task: NodeTask) -> None:
    await silence(rig, LOST - WINDOW)
    await rig.heartbeat("PC-02", ["B"])
    other = await rig.start_run(target={"device_ids": ["B"]})
    await silence(rig, WINDOW + 1)
    assert (await shown(rig, task)).presumed
    assert (await rig.run(other)).status is RunState.QUEUED


async def test_the_truth_replaces_the_presumption_and_corrects_the_run(rig: Rig, task: NodeTask) -> None:
    await silence(rig, LOST + 1)
    before = await rig.run(task.run_id)
    await rig.heartbeat("PC-01", ["A"])
    await rig.tell(rig.finished(task, 3))
    run = await rig.run(task.run_id)
    found = run.tasks[0]
    assert (run.status, run.counts.succeeded, run.ended_at) == (RunState.COMPLETED, 1, before.ended_at)
    assert (found.status, found.presumed, found.failure_reason) == (TaskState.SUCCEEDED, False, None)
    assert found.error_message is None
    await rig.tell(rig.finished(task, 4, "failed", failure_reason="step_failed"))
    assert (await rig.run(task.run_id)).status is RunState.COMPLETED, "the truth is final"


async def test_a_task_that_goes_on_after_all_opens_its_run_again_until_it_ends(rig: Rig, task: NodeTask) -> None:
    await silence(rig, LOST + 1)
    stream = await rig.parts.live.subscribe(task.run_id)
    assert isinstance(stream, LiveStream)
    await anext(stream)
    await rig.heartbeat("PC-01", ["A"])
    await rig.tell(rig.progress(task, 2, "wake", "running"))
    run = await rig.run(task.run_id)
    found = run.tasks[0]
    assert (run.status, run.ended_at, found.status, found.presumed) == (
        RunState.RUNNING,
        None,
        TaskState.RUNNING,
        False,
    )
    assert (found.failure_reason, found.error_message, found.ended_at) == (None, None, None)
    assert b'"status":"running"' in await rig.next_frame(stream, b"delta")
    stream.close()
    await rig.http.post(f"/api/runs/{task.run_id}/stop")
    assert [one["type"] for one in (await rig.pull()).json()["commands"]] == ["run_stop"]
    await rig.tell(rig.finished(task, 3, "cancelled", failure_reason="cancelled"))
    assert (await rig.run(task.run_id)).status is RunState.STOPPED


async def test_a_report_from_before_the_silence_opens_nothing(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.progress(task, 3, "launch", "running"))
    await silence(rig, LOST + 1)
    await rig.tell(rig.progress(task, 2, "wake", "running"))
    assert (await shown(rig, task)).presumed


async def test_a_node_that_speaks_once_more_and_is_gone_again_is_given_up_again(rig: Rig, task: NodeTask) -> None:
    await silence(rig, LOST + 1)
    await rig.tell(rig.progress(task, 2, "wake", "running"))
    assert (await shown(rig, task)).status is TaskState.RUNNING
    await silence(rig, 1)
    assert (await shown(rig, task)).presumed


async def test_what_a_lost_node_never_took_is_over_for_good(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    run_id = await rig.start_run()
    await silence(rig, LOST + 1)
    (found,) = (await rig.run(run_id)).tasks
    assert (found.status, found.failure_reason, found.presumed) == (TaskState.FAILED, FailureReason.NODE_LOST, False)
    assert found.error_message == (
        "PC-01 has not been heard of for 601 s and never took this task: nothing was done to the phone"
    )
    await rig.heartbeat("PC-01", ["A"])
    assert (await rig.pull()).json()["commands"] == [], "hours later, nobody wants it to begin"


async def test_a_start_that_a_lost_node_may_have_is_not_handed_out_again(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    run_id = await rig.start_run()
    (task,) = await rig.take_tasks()
    await silence(rig, LOST + 1)
    assert (await rig.run(run_id)).tasks[0].presumed
    await rig.heartbeat("PC-01", ["A"])
    assert (await rig.pull()).json()["commands"] == []
    await rig.tell(rig.event("command_ack", command_id=task.command_id), rig.started(task, 1))
    assert (await rig.run(run_id)).status is RunState.RUNNING


# ---- a node that is there and knows nothing of its tasks ------------------------------------------------------------


async def acknowledge(rig: Rig, instance_id: str, *, replaces: str | None = None) -> list[str]:
    """Takes what is due to this instance; gives the commands' types."""
    spoke = {"replaces": replaces} if replaces else {}
    found = (await rig.pull("PC-01", instance_id, 0, **spoke)).json()["commands"]
    if found:
        await rig.tell(*(rig.event("command_ack", command_id=one["command_id"]) for one in found))
    return [one["type"] for one in found]


async def test_a_node_that_comes_back_without_its_journal_ends_its_tasks(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    before = await rig.start_run(target={"device_ids": ["A"]})
    assert await acknowledge(rig, "one") == ["run_start"]
    after = await rig.start_run(target={"device_ids": ["B"]})
    rig.clock.jump(61)
    assert await acknowledge(rig, "two") == ["run_start"]
    run = await rig.run(before)
    assert (run.status, run.tasks[0].failure_reason, run.tasks[0].presumed) == ("failed", FailureReason.NODE_LOST, True)
    assert (run.tasks[0].error_message or "").startswith("presumed: PC-01 came back without its journal")
    assert (await rig.run(after)).status is RunState.QUEUED, "what the new agent took up is its own"
    await acknowledge(rig, "two")
    assert (await rig.run(after)).status is RunState.QUEUED


async def test_an_agent_that_is_restarted_keeps_its_tasks(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    run_id = await rig.start_run()
    await acknowledge(rig, "one")
    await acknowledge(rig, "two", replaces="one")
    await acknowledge(rig, "two", replaces="two")
    assert (await rig.run(run_id)).status is RunState.QUEUED


async def test_a_stop_that_a_node_took_note_of_and_did_not_obey_ends_the_tasks(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.event("command_ack", command_id=task.command_id))
    await rig.http.post(f"/api/runs/{task.run_id}/stop")
    await acknowledge(rig, "one", replaces="one")
    for waited in (STOP_OVERDUE_SEC, 1):
        assert (await shown(rig, task)).status is TaskState.RUNNING
        rig.clock.jump(waited)
        await rig.heartbeat("PC-01", ["A"])
        await rig.parts.watch.look()
        await rig.parts.watch.look()
    run = await rig.run(task.run_id)
    assert (run.status, run.tasks[0].status, run.tasks[0].presumed) == (RunState.STOPPED, TaskState.CANCELLED, True)
    assert (run.tasks[0].error_message or "").startswith("presumed: PC-01 was told to stop and has not said")
    await rig.tell(rig.finished(task, 2))
    assert (await rig.run(task.run_id)).status is RunState.COMPLETED, "the truth replaces the presumption"


async def test_a_stop_that_a_silent_node_took_note_of_waits_for_it(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.event("command_ack", command_id=task.command_id))
    await rig.http.post(f"/api/runs/{task.run_id}/stop")
    await acknowledge(rig, "one", replaces="one")
    await silence(rig, STOP_OVERDUE_SEC + 10)
    assert (await shown(rig, task)).status is TaskState.RUNNING


async def test_the_truth_of_an_older_attempt_replaces_nothing(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.started(task, 2, attempt=2))
    await silence(rig, LOST + 1)
    await rig.tell(rig.finished(task, 3, attempt=1), but=(409,))
    assert (await shown(rig, task)).presumed


async def test_a_presumed_run_that_was_asked_to_stop_is_corrected_to_stopped(rig: Rig, task: NodeTask) -> None:
    await rig.http.post(f"/api/runs/{task.run_id}/stop")
    await silence(rig, LOST + 1)
    assert (await rig.run(task.run_id)).status is RunState.FAILED
    await rig.tell(rig.finished(task, 2, "cancelled", failure_reason="cancelled"))
    assert (await rig.run(task.run_id)).status is RunState.STOPPED


async def test_after_a_restart_nobody_is_lost_before_it_could_be_heard(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_rig(tmp_path / "data", clock=clock) as rig:
        await rig.heartbeat("PC-01", ["A"])
        run_id = await rig.start_run()
    clock.jump(24 * 3600)
    async with open_rig(tmp_path / "data", clock=clock) as rig:
        await silence(rig, WINDOW)
        found = (await rig.run(run_id)).tasks[0]
        assert (found.status, found.unreachable) == (TaskState.QUEUED, False)
        await silence(rig, 1)
        assert (await rig.run(run_id)).tasks[0].failure_reason is FailureReason.NODE_LOST


async def test_a_backend_that_slept_gives_everybody_time_to_speak(rig: Rig, task: NodeTask) -> None:
    rig.clock.jump(LOST * 10)
    await rig.parts.watch.look()
    assert (await shown(rig, task)).status is TaskState.RUNNING
    await rig.heartbeat("PC-01", ["A"])
    await silence(rig, WINDOW)
    assert (await shown(rig, task)).status is TaskState.RUNNING


ages = st.integers(min_value=0, max_value=2_000_000)


@given(st.none() | ages, ages, st.integers(1, 60_000), st.integers(60_001, 700_000))
def test_a_lost_node_is_always_unreachable_and_never_before_its_chance(
    silent: int | None, awake: int, window: int, lost_after: int
) -> None:
    patience = Patience(window, lost_after)
    unreachable, lost = patience.is_unreachable(silent, awake), patience.is_lost(silent, awake)
    assert unreachable or not lost
    assert not unreachable or awake > window, "no verdict before the backend has listened for the window"
    assert not lost or silent is None or silent > lost_after
    assert lost or not unreachable or (awake if silent is None else silent) <= lost_after
