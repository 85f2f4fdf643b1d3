from pathlib import Path

import pytest
from tests.support.backend import RECIPE, NodeTask, Rig, open_rig

from muster.domain.task import TaskState
from muster.recipe.seeds import seed_documents


async def make(rig: Rig, end: str | None = None, **body: str) -> str:
    run_id = await rig.start_run(**body)
    (task,) = await rig.take_tasks()
    await rig.tell(rig.event("command_ack", command_id=task.command_id))
    if end:
        await rig.tell(rig.finished(task, 1, end, failure_reason=None if end == "succeeded" else "step_failed"))
    await rig.clock.advance(1)
    return run_id


async def listed(rig: Rig, **params: object) -> list[str]:
    answer = await rig.http.get("/api/runs", params=params)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return [run["run_id"] for run in answer.json()["runs"]]


async def test_failed_and_open_runs_come_first_then_the_newest(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    failed, done, open_, newest = [
        await make(rig, "failed"),
        await make(rig, "succeeded"),
        await make(rig),
        await make(rig, "succeeded"),
    ]
    page = (await rig.http.get("/api/runs")).json()
    assert [run["run_id"] for run in page["runs"]] == [open_, failed, newest, done]
    assert page["counts"] == {"queued": 1, "failed": 1, "completed": 2}
    assert page["runs"][0]["counts"]["queued"] == 1
    assert page["runs"][0]["workflow_name"] == "Tour"


async def test_runs_are_filtered_by_state_age_and_workflow(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.http.put("/api/workflows/other", json=RECIPE | {"workflow_id": "other"})
    old = await make(rig, "succeeded")
    await rig.clock.advance(3_600)
    await rig.heartbeat("PC-01", ["A"])
    failed, other = await make(rig, "failed"), await make(rig, "succeeded", workflow_id="other")
    assert await listed(rig, status=["completed", "failed"]) == [failed, other, old]
    assert await listed(rig, status="completed") == [other, old]
    assert await listed(rig, window="59m") == [failed, other]
    assert await listed(rig, window="2h") == [failed, other, old]
    assert await listed(rig, workflow_id="other") == [other]
    assert await listed(rig, status="stopped") == []


async def test_pages_follow_one_another_without_a_gap(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    made = {await make(rig, ("succeeded", "failed", None)[number % 3]) for number in range(7)}
    whole = await listed(rig)
    assert set(whole) == made
    seen: list[str] = []
    place: dict[str, str] | None = {}
    while place is not None:
        page = (await rig.http.get("/api/runs", params={"limit": "2"} | place)).json()
        seen += [run["run_id"] for run in page["runs"]]
        place = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert seen == whole


async def test_a_delta_has_the_named_tasks_and_the_counts_of_all(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B", "C"])
    run_id = await rig.start_run()
    one, *_ = await rig.take_tasks()
    await rig.tell(rig.started(one))
    delta = await rig.parts.queries.delta(run_id, frozenset({one.task_id}))
    assert delta is not None
    assert [task.task_id for task in delta.tasks] == [one.task_id]
    assert (delta.run.counts.running, delta.run.counts.queued, delta.now) == (1, 2, rig.clock.now_ms())
    snapshot = await rig.parts.queries.snapshot(run_id)
    assert snapshot is not None
    assert len(snapshot.tasks) == 3
    empty = await rig.parts.queries.delta(run_id, frozenset())
    assert empty is not None
    assert empty.tasks == []
    foreign = NodeTask("PC-01", run_id, "nope", "A")
    assert await rig.parts.queries.delta(foreign.task_id, frozenset()) is None


@pytest.mark.parametrize(
    ("failed_steps", "by_hand"), [([], False), (["density"], False), (["density", "accessibility"], True)]
)
async def test_a_phone_whose_accessibility_service_could_not_be_switched_on_says_so(
    tmp_path: Path, failed_steps: list[str], by_hand: bool
) -> None:
    (bootstrap,) = [document for document in seed_documents() if document["workflow_id"] == "bootstrap_only_v1"]
    async with open_rig(tmp_path, seeds=[bootstrap]) as rig:
        await rig.heartbeat("PC-01", ["A"])
        run_id = await rig.start_run(workflow_id="bootstrap_only_v1")
        (task,) = await rig.take_tasks()
        await rig.tell(rig.finished(task, 1, "succeeded", failed_steps=failed_steps))
        snapshot = await rig.parts.queries.snapshot(run_id)
        assert snapshot is not None
        for (found,) in ((await rig.run(run_id)).tasks, snapshot.tasks):
            assert (found.status, found.requires_manual_accessibility) == (TaskState.SUCCEEDED, by_hand)
