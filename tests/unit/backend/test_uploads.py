import asyncio
import hashlib
import stat
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import ClientDisconnect
from tests.support.backend import NODE_HEADERS, NodeTask, Rig, open_rig

from muster.domain.limits import ARTIFACT_BYTES_MAX

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 1_000
TAKEN_AT = 1_739_012_345_678


@pytest.fixture
async def task(rig: Rig) -> NodeTask:
    await rig.heartbeat("PC-01", ["SIM 1/ä"])
    await rig.start_run(youtubeVideoId="dQw4w9WgXcQ")
    (found,) = await rig.take_tasks()
    return found


async def ask(rig: Rig, task: NodeTask, content: bytes = PNG, **change: Any) -> httpx2.Response:
    body = {
        "task_id": task.task_id,
        "step_id": "shot",
        "taken_at": TAKEN_AT,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    return await rig.http.post("/api/nodes/uploads", json=body | change, headers=NODE_HEADERS)


async def put(rig: Rig, ticket: dict[str, Any], content: Any = PNG) -> httpx2.Response:
    return await rig.http.put(ticket["url"], content=content, headers=ticket["headers"])


def stored_files(rig: Rig) -> list[str]:
    folder = rig.parts.settings.data_dir / "objects" / "artifacts"
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def test_what_a_kill_left_of_a_picture_is_gone_when_the_backend_is_there_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "data" / "objects" / "artifacts" / "+unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "0a1b#1").write_bytes(b"half a pic")
    async with open_rig(tmp_path / "data"):
        assert list(unfinished.iterdir()) == []


async def test_a_store_that_cannot_be_tidied_keeps_no_backend_from_starting(tmp_path: Path) -> None:
    (tmp_path / "data" / "objects" / "artifacts" / "+unfinished" / "a folder").mkdir(parents=True)
    async with open_rig(tmp_path / "data") as rig:
        assert (await rig.http.get("/healthz")).status_code == 200


async def test_a_picture_lies_where_the_rules_say_and_is_given_out_again(rig: Rig, task: NodeTask) -> None:
    ticket = (await ask(rig, task)).json()
    key = f"dQw4w9WgXcQ/PC-01/SIM%201%2F%C3%A4/{task.run_id}/1739012345.png"
    assert ticket["key"] == key
    assert (await put(rig, ticket)).status_code == 204
    assert stored_files(rig) == [key]
    answer = await rig.http.get(f"/api/artifacts/{ticket['artifact_id']}")
    assert (answer.status_code, answer.content) == (200, PNG)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "immutable" in answer.headers["cache-control"]
    again = await rig.http.get(
        f"/api/artifacts/{ticket['artifact_id']}", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


async def test_the_upload_itself_needs_no_secret_only_its_token(rig: Rig, task: NodeTask) -> None:
    ticket = (await ask(rig, task)).json()
    assert "authorization" not in {name.lower() for name in ticket["headers"]}
    forged = ticket["url"][:-1] + ("0" if ticket["url"][-1] != "0" else "1")
    assert (await put(rig, ticket | {"url": forged})).status_code == 403
    assert (await put(rig, ticket)).status_code == 204


async def test_a_token_expires(rig: Rig, task: NodeTask) -> None:
    ticket = (await ask(rig, task)).json()
    await rig.clock.advance(301)
    answer = await put(rig, ticket)
    assert (answer.status_code, answer.json()["type"]) == (410, "urn:muster:problem:upload-expired")
    assert (await put(rig, (await ask(rig, task)).json())).status_code == 204


@pytest.mark.parametrize(
    "content", [PNG[:-1], PNG + b"x", b"y" * len(PNG), b""], ids=["short", "long", "other", "none"]
)
async def test_bytes_that_were_not_announced_are_refused_and_leave_nothing(
    rig: Rig, task: NodeTask, content: bytes
) -> None:
    ticket = (await ask(rig, task)).json()
    answer = await put(rig, ticket, content)
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:muster:problem:upload-mismatch")
    assert stored_files(rig) == []
    assert (await rig.http.get(f"/api/artifacts/{ticket['artifact_id']}")).status_code == 404
    assert (await put(rig, ticket)).status_code == 204


async def test_an_upload_that_breaks_off_leaves_nothing_and_can_be_repeated(rig: Rig, task: NodeTask) -> None:
    async def broken() -> Any:
        yield PNG[:100]
        raise ClientDisconnect

    ticket = (await ask(rig, task)).json()
    with pytest.raises(ClientDisconnect):
        await rig.parts.uploads.receive(ticket["url"].rpartition("/")[2], broken())
    assert stored_files(rig) == []
    assert (await put(rig, ticket)).status_code == 204


async def test_a_picture_of_several_parts_is_stored_whole(rig: Rig, task: NodeTask) -> None:
    content = bytes(range(256)) * 50_000

    async def pieces() -> Any:
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    ticket = (await ask(rig, task, content)).json()
    assert (await put(rig, ticket, pieces())).status_code == 204
    assert (await rig.http.get(f"/api/artifacts/{ticket['artifact_id']}")).content == content


async def test_more_than_a_picture_may_have_is_cut_off(rig: Rig, task: NodeTask) -> None:
    ticket = (await ask(rig, task)).json()
    answer = await rig.http.put(ticket["url"], content=b"x", headers={"Content-Length": str(ARTIFACT_BYTES_MAX + 1)})
    assert answer.status_code == 413


async def test_the_same_picture_of_the_same_step_has_the_same_place_again(rig: Rig, task: NodeTask) -> None:
    first = (await ask(rig, task)).json()
    assert (await put(rig, first)).status_code == 204
    again = (await ask(rig, task, taken_at=TAKEN_AT + 60_000)).json()
    assert (again["artifact_id"], again["key"]) == (first["artifact_id"], first["key"])
    assert (await put(rig, again, b"whatever")).status_code == 204
    assert (await rig.http.get(f"/api/artifacts/{first['artifact_id']}")).content == PNG


async def test_a_second_shot_within_one_second_has_a_number(rig: Rig, task: NodeTask) -> None:
    contents = [b"one", b"two", b"three"]
    tickets = [answer.json() for answer in await asyncio.gather(*(ask(rig, task, content) for content in contents))]
    names = sorted(ticket["key"].rpartition("/")[2] for ticket in tickets)
    assert names == ["1739012345-2.png", "1739012345-3.png", "1739012345.png"]
    await asyncio.gather(*(put(rig, ticket, content) for ticket, content in zip(tickets, contents, strict=True)))
    assert len(stored_files(rig)) == 3


async def test_two_phones_whose_names_differ_in_case_alone_never_share_a_file(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["abc", "ABC"])
    await rig.start_run(target={"device_ids": ["abc", "ABC"]})
    keys = [(await ask(rig, task, b"x")).json()["key"] for task in await rig.take_tasks()]
    assert len({key.casefold() for key in keys}) == 2


async def test_a_run_without_a_video_uses_manual(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (task,) = await rig.take_tasks()
    assert (await ask(rig, task)).json()["key"].startswith("manual/PC-01/A/")


async def test_events_link_the_picture_to_its_task_and_its_step(rig: Rig, task: NodeTask) -> None:
    ticket = (await ask(rig, task)).json()
    await put(rig, ticket)
    artifact = {
        "step_id": "shot",
        "storage_path": ticket["key"],
        "sha256": hashlib.sha256(PNG).hexdigest(),
        "size": len(PNG),
    }
    await rig.tell(rig.progress(task, 1, "shot", "completed"), rig.finished(task, 2, artifact=artifact))
    (shown,) = (await rig.run(task.run_id)).tasks
    assert (shown.artifact_id, shown.storage_path) == (ticket["artifact_id"], ticket["key"])
    (step,) = (await rig.http.get(f"/api/runs/{task.run_id}/steps")).json()["steps"]
    assert step["artifact"]["artifact_id"] == ticket["artifact_id"]
    assert step["artifact"]["public_url"] == f"/api/artifacts/{ticket['artifact_id']}"


async def test_a_picture_that_comes_after_the_end_still_finds_its_task(rig: Rig, task: NodeTask) -> None:
    await rig.tell(rig.finished(task, 2, "failed", failure_reason="upload_error"))
    ticket = (await ask(rig, task)).json()
    await put(rig, ticket)
    artifact = {"step_id": "shot", "storage_path": ticket["key"], "sha256": "0" * 64, "size": 1}
    await rig.tell(rig.task_event("artifact_stored", task, 3, artifact=artifact))
    (shown,) = (await rig.run(task.run_id)).tasks
    assert (shown.artifact_id, shown.status.value) == (ticket["artifact_id"], "failed")


async def test_a_picture_of_another_task_is_not_linked(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    await rig.start_run()
    one, two = await rig.take_tasks()
    ticket = (await ask(rig, one)).json()
    artifact = {"step_id": "shot", "storage_path": ticket["key"], "sha256": "0" * 64, "size": 1}
    await rig.tell(rig.finished(two, 1, artifact=artifact))
    assert {task.artifact_id for task in (await rig.run(one.run_id)).tasks} == {None}


async def test_tokens_outlive_a_restart_and_their_key_is_private(tmp_path: Path) -> None:
    async with open_rig(tmp_path / "data") as rig:
        await rig.heartbeat("PC-01", ["A"])
        await rig.start_run()
        (task,) = await rig.take_tasks()
        ticket = (await ask(rig, task)).json()
    async with open_rig(tmp_path / "data", clock=rig.clock) as rig:
        assert (await put(rig, ticket)).status_code == 204
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "data" / "upload.key").stat().st_mode) == 0o600


async def test_a_picture_that_somebody_deleted_is_a_404(rig: Rig, task: NodeTask) -> None:
    ticket = (await ask(rig, task)).json()
    await put(rig, ticket)
    (rig.parts.settings.data_dir / "objects" / "artifacts" / ticket["key"]).unlink()
    assert (await rig.http.get(f"/api/artifacts/{ticket['artifact_id']}")).status_code == 404
