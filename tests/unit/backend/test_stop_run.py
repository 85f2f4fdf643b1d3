"""Stopping a run: what no node knows of ends at once, the rest when its node says so."""

import asyncio
from typing import Any

import pytest
from tests.support.backend import Rig

from muster.backend.live import LiveStream
from muster.domain.failure import FailureReason
from muster.domain.run import RunState
from muster.domain.task import TaskState
from muster.store import audit


async def stop(rig: Rig, run_id: str) -> dict[str, Any]:
    answer = await rig.http.post(f"/api/runs/{run_id}/stop")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def commands(rig: Rig, node_id: str = "PC-01") -> list[str]:
    return [command["type"] for command in (await rig.pull(node_id)).json()["commands"]]


async def states(rig: Rig, run_id: str) -> dict[str, TaskState]:
    return {task.device_id: task.status for task in (await rig.run(run_id)).tasks}


@pytest.fixture
async def run_id(rig: Rig) -> str:
    """A run on two nodes: nobody has fetched anything yet."""
    await rig.heartbeat("PC-01", ["A", "B"])
    await rig.heartbeat("PC-02", ["C"])
    return await rig.start_run()


async def test_what_was_not_handed_out_ends_at_once_and_is_never_handed_out(rig: Rig, run_id: str) -> None:
    answer = await stop(rig, run_id)
    assert (answer["status"], answer["cancelled"], answer["nodes"]) == ("stopped", 3, [])
    run = await rig.run(run_id)
    assert (run.status, run.ended_at, run.stop_requested_at) == (RunState.STOPPED, rig.clock.now_ms(), run.ended_at)
    assert {task.failure_reason for task in run.tasks} == {FailureReason.CANCELLED}
    assert await commands(rig) == await commands(rig, "PC-02") == []


async def test_a_node_that_has_the_run_is_told_and_ends_its_tasks(rig: Rig, run_id: str) -> None:
    tasks = await rig.take_tasks("PC-01")
    await rig.tell(rig.event("command_ack", command_id=tasks[0].command_id), rig.started(tasks[0], 1))
    answer = await stop(rig, run_id)
    assert (answer["status"], answer["cancelled"], answer["nodes"]) == ("running", 1, ["PC-01"])
    assert await states(rig, run_id) == {"A": "running", "B": "queued", "C": "cancelled"}
    assert await commands(rig) == ["run_stop"]
    await rig.tell(rig.finished(tasks[1], 1, "cancelled", failure_reason="cancelled"))
    assert (await rig.run(run_id)).status is RunState.RUNNING
    await rig.tell(rig.finished(tasks[0], 2, "cancelled", failure_reason="cancelled"))
    assert (await rig.run(run_id)).status is RunState.STOPPED


async def test_who_stopped_a_run_is_kept(rig: Rig, run_id: str) -> None:
    for _ in range(2):
        await rig.http.post(f"/api/runs/{run_id}/stop", headers={"User-Agent": "muster/1"})
    async with rig.parts.database.reading() as tx:
        entry, begun = await audit.of_subject(tx, run_id, 10)
    assert begun.action == "run.create"
    assert (entry.actor, entry.action, entry.detail) == ("127.0.0.1 muster/1", "run.stop", {"cancelled": 3})


async def test_a_start_that_may_be_lost_comes_again_before_the_stop(rig: Rig, run_id: str) -> None:
    await rig.take_tasks("PC-01")
    await stop(rig, run_id)
    assert await commands(rig) == ["run_start", "run_stop"]


async def test_asked_twice_it_is_one_stop(rig: Rig, run_id: str) -> None:
    await rig.take_tasks("PC-01")
    first = await stop(rig, run_id)
    await rig.clock.advance(3)
    again = await stop(rig, run_id)
    assert again == first | {"cancelled": 0}
    assert (await commands(rig)).count("run_stop") == 1


async def test_a_run_that_has_ended_stays_as_it_ended(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    ended = await rig.start_run()
    (task,) = await rig.take_tasks()
    await rig.tell(rig.finished(task, 1))
    answer = await stop(rig, ended)
    assert (answer["status"], answer["stop_requested_at"], answer["cancelled"]) == ("completed", None, 0)


async def test_a_run_whose_phones_all_succeeded_before_the_stop_reached_them_is_completed(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    run_id = await rig.start_run()
    (task,) = await rig.take_tasks()
    await stop(rig, run_id)
    await rig.tell(rig.finished(task, 1))
    assert (await rig.run(run_id)).status is RunState.COMPLETED


async def test_an_agent_that_does_not_know_the_command_keeps_its_tasks(rig: Rig, run_id: str) -> None:
    tasks = await rig.take_tasks("PC-01")
    await stop(rig, run_id)
    stops = [one for one in (await rig.pull()).json()["commands"] if one["type"] == "run_stop"]
    await rig.tell(rig.event("command_ack", command_id=stops[0]["command_id"], error_message="unknown command"))
    assert (await states(rig, run_id))["A"] == "queued"
    await rig.tell(*(rig.finished(task, 1) for task in tasks))
    assert (await rig.run(run_id)).status is RunState.STOPPED


async def test_another_run_of_the_same_node_goes_on(rig: Rig, run_id: str) -> None:
    other = await rig.start_run(target={"device_ids": ["A"]})
    await stop(rig, run_id)
    found = await rig.take_tasks()
    assert [(task.run_id, task.device_id) for task in found] == [(other, "A")]


async def test_a_run_that_does_not_exist_is_404(rig: Rig) -> None:
    answer = await rig.http.post("/api/runs/01890000-0000-7000-8000-000000000000/stop")
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:muster:problem:unknown-run")


async def test_who_watches_sees_the_stop(rig: Rig, run_id: str) -> None:
    stream = await rig.parts.live.subscribe(run_id)
    assert isinstance(stream, LiveStream)
    try:
        assert b'"cancelled":0' in await anext(stream)
        await stop(rig, run_id)
        frame = await rig.advance_until(anext(stream))
        assert frame.count(b'"status":"cancelled"') == 3
        assert b'"stop_requested_at":' in frame
    finally:
        stream.close()


async def test_a_stop_reaches_a_node_that_waits_for_work(rig: Rig, run_id: str) -> None:
    tasks = await rig.take_tasks("PC-01")
    await rig.tell(rig.event("command_ack", command_id=tasks[0].command_id))
    waiting = asyncio.ensure_future(rig.pull(wait_ms=60_000))
    await stop(rig, run_id)
    answer = await asyncio.wait_for(waiting, 20)
    assert [command["type"] for command in answer.json()["commands"]] == ["run_stop"]
