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
from muster.domain.limits import NODE_LOST_AFTER_SEC_DEFAULT, ONLINE_WINDOW_SEC
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
    await rig.tell(rig.progress(task, 2, "wake", "running"))
    assert (await shown(rig, task)).status is TaskState.FAILED, "only an end replaces an end"
    await rig.tell(rig.finished(task, 3))
    run = await rig.run(task.run_id)
    found = run.tasks[0]
    assert (run.status, run.counts.succeeded, run.ended_at) == (RunState.COMPLETED, 1, before.ended_at)
    assert (found.status, found.presumed, found.failure_reason) == (TaskState.SUCCEEDED, False, None)
    assert found.error_message is None
    await rig.tell(rig.finished(task, 4, "failed", failure_reason="step_failed"))
    assert (await rig.run(task.run_id)).status is RunState.COMPLETED, "the truth is final"


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
        assert (await rig.run(run_id)).tasks[0].presumed


async def test_a_backend_that_slept_gives_everybody_time_to_speak(rig: Rig, task: NodeTask) -> None:
    rig.clock.jump(LOST * 10)
    await rig.parts.watch.look()
    assert (await shown(rig, task)).status is TaskState.RUNNING
    await rig.heartbeat("PC-01", ["A"])
    await silence(rig, WINDOW)
    assert (await shown(rig, task)).status is TaskState.RUNNING


times = st.integers(min_value=0, max_value=2_000_000)


@given(st.none() | times, times, times, st.integers(1, 60_000), st.integers(60_001, 700_000))
def test_a_lost_node_is_always_unreachable_and_never_before_its_chance(
    heard: int | None, awake: int, now: int, window: int, lost_after: int
) -> None:
    patience = Patience(window, lost_after)
    unreachable, lost = patience.is_unreachable(heard, awake, now), patience.is_lost(heard, awake, now)
    assert unreachable or not lost
    assert not unreachable or now - awake > window, "no verdict before the backend has listened for the window"
    assert not lost or heard is None or now - heard > lost_after
    assert lost or not unreachable or now - (awake if heard is None else heard) <= lost_after
