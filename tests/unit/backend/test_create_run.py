import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.support.backend import Rig, eventually, open_rig

from muster.domain.run import RunState
from muster.domain.task import TaskState
from muster.store import audit
from muster.store.tables import audit_log


async def test_a_run_has_one_queued_task_for_each_known_device(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["B", "A"])
    await rig.heartbeat("PC-02", ["C"])
    answer = await rig.http.post("/api/runs", json={"workflow_id": "tour"})
    assert answer.status_code == 201
    created = answer.json()
    assert (created["workflow_id"], created["version"], created["status"]) == ("tour", 1, "queued")
    assert answer.headers["location"] == f"/api/runs/{created['run_id']}"
    detail = await rig.run(created["run_id"])
    assert [(task.node_id, task.device_id, task.status) for task in detail.tasks] == [
        ("PC-01", "A", TaskState.QUEUED),
        ("PC-01", "B", TaskState.QUEUED),
        ("PC-02", "C", TaskState.QUEUED),
    ]
    assert [(node.node_id, node.online, node.counts.total) for node in detail.nodes] == [
        ("PC-01", True, 2),
        ("PC-02", True, 1),
    ]
    assert detail.global_timeout_ms == 120_000


async def test_a_tasks_limit_is_the_runs_else_the_recipes_else_the_backends_setting(tmp_path: Path) -> None:
    steps = [{"id": "a", "kind": "adb", "command": "true"}]
    async with open_rig(tmp_path, task_timeout_ms=77_000) as rig:
        await rig.heartbeat("PC-01", ["A"])
        for name, limits in (("mute", {}), ("own", {"globalTimeoutMs": 90_000})):
            answer = await rig.http.put(f"/api/workflows/{name}", json={"workflow_id": name, "steps": steps} | limits)
            assert answer.status_code == 201, answer.text

        async def limit_ms(**asked: Any) -> int:
            run = await rig.run(await rig.start_run(**asked))
            (command,) = (await rig.pull()).json()["commands"]
            assert command["globalTimeoutMs"] == run.global_timeout_ms
            return run.global_timeout_ms

        assert await limit_ms(workflow_id="mute") == 77_000
        assert await limit_ms(workflow_id="own") == 90_000
        assert await limit_ms(workflow_id="mute", globalTimeoutMs=60_000) == 60_000


async def test_an_emulator_that_is_down_is_left_to_the_node_that_can_start_it(rig: Rig) -> None:
    """R2.1: started when its turn comes, and skipped only when that fails."""

    async def phones(starts_emulators: bool) -> None:
        devices = [
            {"device_id": name, "runtime_handle": name, "state": "missing", "age_ms": 3_600_000}
            for name in ("emulator-5554", "R3CW0ABC123")
        ]
        await rig.heartbeat("PC-01", [], devices=devices, starts_emulators=starts_emulators)

    async def born() -> list[TaskState]:
        return [task.status for task in (await rig.run(await rig.start_run())).tasks]

    await phones(starts_emulators=False)
    assert await born() == [TaskState.SKIPPED_OFFLINE] * 2
    await phones(starts_emulators=True)
    assert await born() == [TaskState.SKIPPED_OFFLINE, TaskState.QUEUED]
    assert [task.device_id for task in await rig.take_tasks()] == ["emulator-5554"]
    await rig.clock.advance(31)
    assert await born() == [TaskState.SKIPPED_OFFLINE] * 2, "its node is silent too"


async def test_devices_that_are_offline_at_that_moment_are_born_skipped(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["young"], age_ms=29_000)
    await rig.heartbeat("PC-01", ["old"], age_ms=31_000)
    await rig.heartbeat("PC-01", ["never"], age_ms=None)
    run_id = await rig.start_run()
    detail = await rig.run(run_id)
    by_device = {task.device_id: task for task in detail.tasks}
    assert by_device["young"].status is TaskState.QUEUED
    assert by_device["old"].status is TaskState.SKIPPED_OFFLINE
    assert by_device["old"].error_message == "offline: last seen 31 s before the run was created"
    assert by_device["never"].error_message == "offline: it never answered"
    assert (detail.counts.total, detail.counts.queued, detail.counts.skipped_offline) == (3, 1, 2)
    assert detail.summary.skipped_offline == 2
    assert [task.device_id for task in await rig.take_tasks()] == ["young"]


async def test_a_run_whose_devices_are_all_offline_is_created_and_finished_at_once(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"], age_ms=60_000)
    answer = await rig.http.post("/api/runs", json={"workflow_id": "tour"})
    assert answer.status_code == 201
    assert answer.json()["status"] == "completed_with_errors"
    detail = await rig.run(answer.json()["run_id"])
    assert detail.status is RunState.COMPLETED_WITH_ERRORS
    assert detail.ended_at == detail.created_at
    assert await rig.take_tasks() == []


async def test_the_command_to_a_node_holds_all_that_it_needs(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    body = {
        "workflow_id": "tour",
        "youtubeVideoId": "dQw4w9WgXcQ",
        "params": {"PACKAGE": "other", "UNKNOWN_TO_THE_RECIPE": "fine"},
        "timeoutOverrides": {"launch": 6_000, "BOOTSTRAP": 120_000, "upload": 600_000, "screenshot": 5_000},
        "globalTimeoutMs": 180_000,
        "maxAttempts": 3,
    }
    run_id = await rig.start_run(**body)
    (command,) = (await rig.pull()).json()["commands"]
    assert command["type"] == "run_start"
    assert command["run_id"] == run_id
    assert command["definition"]["steps"][1]["command"] == "monkey -p {{PACKAGE}} 1"
    assert command["version"] == 1
    assert {name: command[name] for name in body} == body
    assert [(task["device_id"], task["attempt"]) for task in command["tasks"]] == [("A", 1)]


async def test_a_target_intersects_nodes_and_devices_and_tells_what_matched_nothing(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    await rig.heartbeat("PC-02", ["C"])
    target = {"node_ids": ["PC-01", "PC-99"], "device_ids": ["B", "C", "ghost"]}
    answer = await rig.http.post("/api/runs", json={"workflow_id": "tour", "target": target})
    assert answer.status_code == 201
    assert [warning["field"] for warning in answer.json()["warnings"]] == ["target.node_ids[1]", "target.device_ids[2]"]
    detail = await rig.run(answer.json()["run_id"])
    assert [task.device_id for task in detail.tasks] == ["B"]
    assert detail.target == target


async def test_a_run_wakes_the_long_poll_of_its_node_alone(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.heartbeat("PC-02", ["B"])
    one = asyncio.create_task(rig.pull("PC-01", "x", wait_ms=60_000))
    two = asyncio.create_task(rig.pull("PC-02", "y", wait_ms=60_000))
    await eventually(lambda: rig.parts.bus.listened_to() == {"PC-01", "PC-02"})
    run_id = await rig.start_run(target={"node_ids": ["PC-02"]})
    answer = await asyncio.wait_for(two, 20)
    assert [command["run_id"] for command in answer.json()["commands"]] == [run_id]
    assert not one.done()
    assert (await rig.advance_until(one, step_sec=10)).json()["commands"] == []


async def test_the_same_key_and_body_give_the_first_answer_again_and_no_second_run(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    first = await _with_key(rig, "k1", {"workflow_id": "tour", "params": {"A": "1", "B": "2"}})
    (task,) = await rig.take_tasks()
    await rig.tell(rig.started(task), rig.finished(task, 2))
    again = await _with_key(rig, "k1", {"params": {"B": "2", "A": "1"}, "workflow_id": "tour"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert len((await rig.http.get("/api/runs")).json()["runs"]) == 1


async def test_the_same_key_with_another_body_is_refused(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await _with_key(rig, "k1", {"workflow_id": "tour"})
    other = await _with_key(rig, "k1", {"workflow_id": "tour", "maxAttempts": 2})
    assert other.status_code == 409
    assert other.json()["type"] == "urn:muster:problem:idempotency-key-reused"


async def test_a_refused_request_does_not_use_up_its_key(rig: Rig) -> None:
    assert (await _with_key(rig, "k1", {"workflow_id": "tour"})).status_code == 422
    await rig.heartbeat("PC-01", ["A"])
    assert (await _with_key(rig, "k1", {"workflow_id": "tour"})).status_code == 201


async def test_twenty_requests_with_one_key_at_once_make_one_run(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    answers = await asyncio.gather(*(_with_key(rig, "k1", {"workflow_id": "tour"}) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert len({answer.json()["run_id"] for answer in answers}) == 1


async def test_a_run_keeps_the_version_that_it_started_with(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    run_id = await rig.start_run()
    newer = (await rig.http.get("/api/workflows/tour")).json()["definition"] | {"name": "Tour, longer"}
    assert (await rig.http.put("/api/workflows/tour", json=newer)).status_code == 201
    (command,) = (await rig.pull()).json()["commands"]
    assert (command["version"], command["definition"]["name"]) == (1, "Tour")
    detail = await rig.run(run_id)
    assert (detail.version, detail.workflow_name) == (1, "Tour")
    assert (await rig.run(await rig.start_run())).version == 2
    assert (await rig.run(await rig.start_run(version=1))).version == 1


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"launch": 4_999}, "timeoutOverrides.launch"),
        ({"launch": 600_001}, "timeoutOverrides.launch"),
        ({"adb": 600_001}, "timeoutOverrides.adb"),
        ({"LOGIN_FLOW": 120_001}, "timeoutOverrides.LOGIN_FLOW"),
        ({"lunch": 10_000}, "timeoutOverrides.lunch"),
    ],
)
async def test_a_time_limit_is_bounded_by_what_it_names(rig: Rig, overrides: dict[str, Any], field: str) -> None:
    await rig.heartbeat("PC-01", ["A"])
    answer = await rig.http.post("/api/runs", json={"workflow_id": "tour", "timeoutOverrides": overrides})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_who_started_which_run_is_kept_once_however_often_it_was_asked(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    headers = {"Idempotency-Key": "k", "User-Agent": "muster/1"}
    for _ in range(2):
        run_id = (await rig.http.post("/api/runs", json={"workflow_id": "tour"}, headers=headers)).json()["run_id"]
    async with rig.parts.database.reading() as tx:
        (entry,) = await audit.of_subject(tx, run_id, 10)
    assert (entry.actor, entry.action, entry.node_id) == ("127.0.0.1 muster/1", "run.create", None)
    assert entry.detail == {"workflow_id": "tour", "version": 1, "trigger": "api", "phones": 2}


async def test_a_run_that_is_refused_leaves_no_trace_in_the_audit_log(rig: Rig) -> None:
    assert (await rig.http.post("/api/runs", json={"workflow_id": "tour"})).status_code == 422
    async with rig.parts.database.reading() as tx:
        assert (await tx.execute(select(func.count()).select_from(audit_log))).scalar_one() == 0


async def _with_key(rig: Rig, key: str, body: dict[str, Any]) -> Any:
    return await rig.http.post("/api/runs", json=body, headers={"Idempotency-Key": key})
