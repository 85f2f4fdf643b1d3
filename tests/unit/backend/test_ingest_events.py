import asyncio
from typing import Any

import httpx2
import pytest
from tests.support.backend import NODE_HEADERS, NodeTask, Rig, open_rig

from muster.domain.failure import FailureClass, FailureReason
from muster.domain.run import RunState
from muster.domain.task import StepState, TaskState


@pytest.fixture
async def task(rig: Rig) -> NodeTask:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (found,) = await rig.take_tasks()
    return found


async def test_a_task_goes_from_started_to_succeeded_and_its_run_with_it(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.started(task, 1))
    run = await rig.run(task.run_id)
    assert (run.status, run.started_at) == (RunState.RUNNING, rig.clock.now_ms())
    assert (run.tasks[0].status, run.tasks[0].started_at) == (TaskState.RUNNING, rig.clock.now_ms())
    await rig.tell(rig.progress(task, 2, "launch", "running", started_at=rig.clock.now_ms()))
    shown = (await rig.run(task.run_id)).tasks[0]
    assert (shown.step_id, shown.phase, shown.step_index, shown.steps_total) == ("launch", "LOGIN_FLOW", 1, 4)
    await rig.clock.advance(7)
    await rig.tell(rig.finished(task, 3))
    run = await rig.run(task.run_id)
    assert (run.status, run.ended_at) == (RunState.COMPLETED, rig.clock.now_ms())
    assert (run.tasks[0].status, run.tasks[0].duration_ms) == (TaskState.SUCCEEDED, 5_000)
    assert run.summary.succeeded == 1


async def test_a_failed_task_tells_its_reason_and_who_has_to_act(rig: Rig, task: NodeTask) -> None:
    await rig.tell(
        rig.started(task, 1),
        rig.progress(
            task, 2, "launch", "failed", error_message="exit status 1", exit_code=1, failure_reason="step_failed"
        ),
        rig.finished(
            task, 3, "failed", failure_reason="login_flow_timeout", error_message="too slow", failed_steps=["launch"]
        ),
    )
    run = await rig.run(task.run_id)
    assert run.status is RunState.FAILED
    assert (run.summary.failed, run.summary.timeout) == (1, 1)
    shown = run.tasks[0]
    assert (shown.failure_reason, shown.failure_class) == (FailureReason.LOGIN_FLOW_TIMEOUT, FailureClass.DEVICE)
    assert (shown.error_message, shown.failed_steps, shown.step_id) == ("too slow", ["launch"], "launch")


async def test_a_run_ends_with_its_last_task_and_not_before(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    await rig.heartbeat("PC-02", ["C"])
    run_id = await rig.start_run()
    tasks = await rig.take_tasks("PC-01") + await rig.take_tasks("PC-02")
    for done, (task, status) in enumerate(zip(tasks, ["succeeded", "failed", "cancelled"], strict=True), start=1):
        run = await rig.run(run_id)
        assert not run.status.is_terminal
        await rig.tell(rig.started(task), rig.finished(task, 2, status, failure_reason=None))
        assert (await rig.run(run_id)).counts.finished == done
    run = await rig.run(run_id)
    assert run.status is RunState.COMPLETED_WITH_ERRORS
    assert [node.counts.total for node in run.nodes] == [2, 1]


async def test_a_parked_task_waits_until_a_moment_and_goes_on(rig: Rig, task: NodeTask) -> None:
    until = rig.clock.now_ms() + 15_000
    why = {"failure_reason": "adb_offline", "error_message": "no answer"}
    await rig.tell(rig.started(task, 1), rig.progress(task, 2, "launch", "waiting", wait_until=until, **why))
    shown = (await rig.run(task.run_id)).tasks[0]
    assert (shown.status, shown.wait_until) == (TaskState.WAITING, until)
    assert (shown.failure_reason, shown.error_message) == (FailureReason.ADB_OFFLINE, "no answer")
    await rig.tell(rig.progress(task, 3, "launch", "waiting", wait_until=until + 1))
    assert (await rig.run(task.run_id)).tasks[0].wait_until == until + 1
    await rig.tell(rig.progress(task, 4, "launch", "running"))
    shown = (await rig.run(task.run_id)).tasks[0]
    assert (shown.status, shown.wait_until) == (TaskState.RUNNING, None)
    assert (shown.failure_reason, shown.error_message) == (None, None)


async def test_an_event_seen_before_is_answered_ok_and_changes_nothing(rig: Rig, task: NodeTask) -> None:
    started, finished = rig.started(task), rig.finished(task, 2, "failed", failure_reason="step_failed")
    await rig.tell(started, finished)
    before = await rig.run(task.run_id)
    await rig.clock.advance(60)
    again = await rig.callback(started, finished, finished)
    assert [(result["ok"], result["duplicate"]) for result in again.json()["results"]] == [(True, True)] * 3
    assert (await rig.callback(finished)).json() == {"ok": True}
    assert await _comparable(rig, task.run_id) == before.model_dump(exclude={"nodes"})


async def test_an_event_twice_in_one_batch_lands_once(rig: Rig, task: NodeTask) -> None:
    started = rig.started(task)
    results = (await rig.callback(started, started)).json()["results"]
    assert [result["duplicate"] for result in results] == [False, True]


async def test_the_memory_of_events_outlives_a_restart(tmp_path: Any) -> None:
    async with open_rig(tmp_path / "data") as rig:
        await rig.heartbeat("PC-01", ["A"])
        await rig.start_run()
        (task,) = await rig.take_tasks()
        started = rig.started(task)
        await rig.tell(started)
    async with open_rig(tmp_path / "data", clock=rig.clock) as rig:
        results = (await rig.callback(started, rig.finished(task, 2))).json()["results"]
        assert [result["duplicate"] for result in results] == [True, False]
        assert (await rig.run(task.run_id)).status is RunState.COMPLETED


async def test_a_late_report_never_overwrites_a_newer_one_but_keeps_its_place(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.progress(task, 4, "shot", "running"))
    await rig.tell(rig.progress(task, 3, "launch", "completed", exit_code=0, log_snippet="Events injected: 1"))
    await rig.tell(rig.progress(task, 2, "launch", "running"), rig.started(task, 1))
    shown = (await rig.run(task.run_id)).tasks[0]
    assert (shown.step_id, shown.started_at) == ("shot", rig.clock.now_ms())
    steps = (await rig.http.get(f"/api/runs/{task.run_id}/steps")).json()["steps"]
    assert [(step["step_id"], step["status"]) for step in steps] == [("launch", "completed"), ("shot", "running")]
    assert (steps[0]["log_snippet"], steps[0]["kind"]) == ("Events injected: 1", "adb")


async def test_a_terminal_state_is_final(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.finished(task, 5))
    await rig.tell(
        rig.progress(task, 6, "launch", "running"), rig.finished(task, 7, "failed", failure_reason="unknown")
    )
    run = await rig.run(task.run_id)
    assert (run.status, run.tasks[0].status) == (RunState.COMPLETED, TaskState.SUCCEEDED)


async def test_an_attempt_that_was_given_up_changes_nothing_any_more(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.started(task, 5, attempt=2), rig.progress(task, 6, "wake", "running", attempt=2))
    late = [rig.progress(task, 7, "shot", "running"), rig.finished(task, 8, "failed", failure_reason="unknown")]
    assert [verdict["status"] for verdict in await rig.verdicts(*late)] == [409, 409]
    shown = (await rig.run(task.run_id)).tasks[0]
    assert (shown.status, shown.attempt, shown.step_id) == (TaskState.RUNNING, 2, "wake")


async def test_a_new_attempt_begins_with_a_clean_tile(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.started(task, 1), rig.progress(task, 2, "launch", "failed"))
    await rig.clock.advance(3)
    await rig.tell(rig.started(task, 3, attempt=2))
    shown = (await rig.run(task.run_id)).tasks[0]
    assert (shown.attempt, shown.step_id, shown.started_at) == (2, None, rig.clock.now_ms())
    assert (await rig.http.get(f"/api/runs/{task.run_id}/steps")).json()["steps"] == []


async def test_a_malformed_event_is_refused_by_itself_and_its_neighbours_land(rig: Rig, task: NodeTask) -> None:
    broken = rig.progress(task, 2, "launch", "running") | {"payload": {"seq": 0}}
    nameless = {"type": "task_started"}
    answer = await rig.callback(rig.started(task), broken, "rubbish", nameless, rig.finished(task, 3))
    assert answer.status_code == 200
    assert answer.json()["ok"] is False
    results = answer.json()["results"]
    assert [(result["ok"], result["status"]) for result in results] == [
        (True, 200),
        (False, 422),
        (False, 422),
        (False, 422),
        (True, 200),
    ]
    assert results[1]["event_id"] == broken["event_id"]
    assert results[1]["field"].startswith("payload.")
    assert results[3]["field"] == "event_id"
    assert (await rig.run(task.run_id)).status is RunState.COMPLETED


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"task_id": "01890000-0000-7000-8000-000000000000"}, 422, "payload.task_id"),
        ({"run_id": "01890000-0000-7000-8000-000000000000"}, 422, "payload.run_id"),
        ({"device_id": "B"}, 422, "payload.device_id"),
        ({"node_id": "PC-02"}, 403, "payload.node_id"),
        ({"seq": 2**40}, 422, "payload.seq"),
        ({"status": "happy"}, 422, "payload.status"),
        ({"runtime_handle": "\ud800"}, 422, "payload.runtime_handle"),
    ],
)
async def test_an_event_about_what_is_not_there_is_refused_for_good_or_as_foreign(
    rig: Rig, task: NodeTask, change: dict[str, Any], status: int, field: str
) -> None:
    event = rig.started(task, **change)
    single = await rig.callback(event)
    assert single.status_code == status
    assert [error["field"] for error in single.json()["errors"]] == [field]
    batch = (await rig.callback(event, rig.heartbeat_event("PC-01", ["A"]))).json()["results"]
    assert [(result["ok"], result["status"]) for result in batch] == [(False, status), (True, 200)]
    assert batch[0]["field"] == field
    assert (await rig.run(task.run_id)).tasks[0].status is TaskState.QUEUED


async def test_a_refused_event_is_not_remembered_and_may_come_again_when_it_fits(rig: Rig, task: NodeTask) -> None:
    event = rig.started(task)
    foreign = event | {"payload": event["payload"] | {"node_id": "PC-02"}}
    assert (await rig.callback(foreign)).status_code == 403
    assert (await rig.callback(event)).json() == {"ok": True}
    assert (await rig.run(task.run_id)).tasks[0].status is TaskState.RUNNING


@pytest.mark.parametrize(
    "change",
    [
        {"event": "run_started", "run_id": "01890000-0000-7000-8000-000000000000", "field": "payload.run_id"},
        {"event": "command_ack", "command_id": "01890000-0000-7000-8000-000000000000", "field": "payload.command_id"},
    ],
)
async def test_news_of_an_unknown_run_or_command_is_refused(rig: Rig, change: dict[str, str]) -> None:
    kind, field = change.pop("event"), change.pop("field")
    answer = await rig.callback(rig.event(kind, **change | {"target_devices_count": 1, "max_concurrency": 20}))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


async def test_broken_text_from_a_phone_is_mended_not_refused(rig: Rig, task: NodeTask) -> None:
    body = rig.progress(task, 2, "launch", "failed", log_snippet="a\x00b\ud800c" + "x" * 5_000)
    await rig.tell(body)
    (step,) = (await rig.http.get(f"/api/runs/{task.run_id}/steps")).json()["steps"]
    assert step["log_snippet"].startswith("a\ufffdb?cx")
    assert len(step["log_snippet"]) == 2_000


async def test_a_node_that_refuses_a_command_ends_its_tasks_with_the_reason(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.event("command_ack", command_id=task.command_id, error_message="recipe of another version"))
    run = await rig.run(task.run_id)
    assert run.status is RunState.FAILED
    assert run.tasks[0].error_message == "PC-01 refused the run: recipe of another version"
    assert await rig.take_tasks() == []


async def test_a_nodes_own_word_on_a_task_goes_before_the_refusal_of_its_command(rig: Rig, task: NodeTask) -> None:
    await rig.tell(
        rig.event("command_ack", command_id=task.command_id, error_message="unreadable"),
        rig.finished(task, 1, "failed", failure_reason="raw_not_allowed", error_message="raw shell is off here"),
    )
    shown = (await rig.run(task.run_id)).tasks[0]
    assert shown.failure_reason is FailureReason.RAW_NOT_ALLOWED


async def test_the_live_stream_is_told_after_each_batch(rig: Rig, task: NodeTask) -> None:
    stream = await rig.parts.live.subscribe(task.run_id)
    frames = aiter(stream)  # type: ignore[arg-type]
    assert b"event: snapshot" in await anext(frames)
    await rig.tell(rig.started(task))
    delta = await rig.advance_until(anext(frames), step_sec=0.1)
    assert b"event: delta" in delta and b'"running":1' in delta


async def test_steps_are_paged_by_device_and_recipe_order(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B", "C"])
    run_id = await rig.start_run()
    for task in reversed(await rig.take_tasks()):
        seqs = enumerate(["upload", "shot", "launch", "wake"], start=1)
        await rig.tell(*(rig.progress(task, seq, step, "completed") for seq, step in seqs))
    seen: list[tuple[str, str]] = []
    place: dict[str, str] | None = {}
    while place is not None:
        page = (await rig.http.get(f"/api/runs/{run_id}/steps", params={"limit": "5"} | place)).json()
        seen += [(step["device_id"], step["step_id"]) for step in page["steps"]]
        assert len(page["steps"]) <= 5
        place = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert seen == [(device, step) for device in "ABC" for step in ("wake", "launch", "shot", "upload")]
    only = (await rig.http.get(f"/api/runs/{run_id}/steps", params={"device_id": "B"})).json()["steps"]
    assert {step["device_id"] for step in only} == {"B"}
    assert {step["status"] for step in only} == {StepState.COMPLETED}


async def test_what_is_told_beside_the_recipe_has_no_number_and_comes_before_its_steps(
    rig: Rig, task: NodeTask
) -> None:
    beside = {"status": "waiting", "step": "PREFLIGHT", "step_id": "device-preflight", "steps_total": 4}
    await rig.tell(rig.task_event("task_progress", task, 1, **beside))
    (waiting,) = (await rig.run(task.run_id)).tasks
    assert (waiting.step_id, waiting.step_index, waiting.steps_total) == ("device-preflight", None, None)
    await rig.tell(rig.progress(task, 2, "wake", "completed"))
    assert (await rig.run(task.run_id)).tasks[0].step_index == 0
    place: dict[str, str] | None = {}
    seen: list[str] = []
    while place is not None:
        page = (await rig.http.get(f"/api/runs/{task.run_id}/steps", params={"limit": "1"} | place)).json()
        seen += [step["step_id"] for step in page["steps"]]
        place = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert seen == ["device-preflight", "wake"]


async def test_twenty_batches_at_once_with_readers_all_succeed(rig: Rig) -> None:
    devices = [f"phone-{number:03d}" for number in range(100)]
    await rig.heartbeat("PC-01", devices)
    run_id = await rig.start_run()
    tasks = await rig.take_tasks()

    async def tell(batch: list[dict[str, Any]]) -> httpx2.Response:
        while True:
            answer = await rig.http.post("/api/nodes/callback", json={"events": batch}, headers=NODE_HEADERS)
            if answer.status_code != 503:  # a database that is kept waiting by a slow machine; a node asks again, too
                return answer

    async def report(some: list[NodeTask]) -> list[int]:
        events = [event for task in some for event in (rig.started(task), rig.progress(task, 2, "wake", "completed"))]
        answers = [await tell(batch) for batch in (events, [rig.finished(task, 3) for task in some])]
        assert all(answer.json()["ok"] for answer in answers)
        return [answer.status_code for answer in answers]

    async def read(path: str) -> list[int]:
        return [(await rig.http.get(path)).status_code for _ in range(10)]

    writers = [report(tasks[start : start + 5]) for start in range(0, 100, 5)]
    readers = [read(path) for path in ("/api/runs", f"/api/runs/{run_id}", f"/api/runs/{run_id}/steps", "/readyz")]
    statuses = await asyncio.gather(*writers, *readers)
    assert {status for some in statuses for status in some} == {200}
    run = await rig.run(run_id)
    assert (run.status, run.counts.succeeded) == (RunState.COMPLETED, 100)


async def _comparable(rig: Rig, run_id: str) -> dict[str, Any]:
    return (await rig.run(run_id)).model_dump(exclude={"nodes"})
