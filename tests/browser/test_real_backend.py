"""The console over the real backend: a node's callbacks on one side, Chromium on the other."""

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from tests.support.backend_thread import SECRET, backend_in_thread

from muster.contracts import events
from muster.domain.device import AttachState
from muster.domain.task import StepState, TaskState
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
PHONES = ("R58-1", "R58-2")


class Node:
    """A node's side of the conversation, over HTTP."""

    def __init__(self, url: str) -> None:
        self.http = httpx2.Client(
            base_url=url, headers={"Authorization": f"Bearer {SECRET}"}, timeout=20, trust_env=False
        )
        self._new_id = id_source(SystemClock())

    def tell(self, payload: events.Payload) -> None:
        answer = self.http.post("/api/nodes/callback", json=events.envelope(self._new_id(), payload))
        assert answer.status_code == 200, answer.text

    def show_phones(self) -> None:
        devices = [
            events.DeviceReport(device_id=phone, runtime_handle=phone, state=AttachState.DEVICE, age_ms=0)
            for phone in PHONES
        ]
        counts = dict.fromkeys(("running_devices_count", "queue_devices_count", "outbox_depth"), 0)
        self.tell(
            events.NodeHeartbeat(
                **self._now(),
                **counts,
                connected_devices_count=2,
                vendor_ws_ok=True,
                agent_version="0.1.0",
                devices=devices,
            )
        )

    def pull(self) -> dict[str, Any]:
        params: dict[str, str | int] = {"node_id": "PC-01", "instance_id": "one", "wait_ms": 10_000}
        [command] = self.http.get("/api/nodes/pull", params=params).json()["commands"]
        return dict(command)

    def upload(self, task_id: str, picture: bytes) -> events.ArtifactRef:
        digest = hashlib.sha256(picture).hexdigest()
        body = {"task_id": task_id, "step_id": "shot", "sha256": digest, "size": len(picture)}
        ticket = self.http.post("/api/nodes/uploads", json=body | {"taken_at": self._now()["timestamp"]}).json()
        stored = self.http.put(ticket["url"], content=picture, headers=ticket["headers"])
        assert stored.is_success, stored.text
        return events.ArtifactRef(step_id="shot", storage_path=ticket["key"], sha256=digest, size=len(picture))

    def of_task(self, run_id: str, task: dict[str, Any], seq: int) -> dict[str, Any]:
        named = {"run_id": run_id, "task_id": task["task_id"], "device_id": task["device_id"]}
        return self._now() | named | {"seq": seq, "attempt": 1}

    def _now(self) -> dict[str, Any]:
        return {"node_id": "PC-01", "timestamp": time.time_ns() // 1_000_000}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with backend_in_thread(tmp_path) as url:
        yield url


@pytest.fixture
def node(url: str) -> Iterator[Node]:
    node = Node(url)
    with node.http:
        yield node


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (108, 234), (31, 79, 216)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_run_is_seen_from_its_start_to_its_screenshot(url: str, node: Node, open_page: Callable[..., Page]) -> None:
    node.show_phones()
    workflow_id = "bootstrap_only_v1"
    created = node.http.post("/api/runs", json={"workflow_id": workflow_id, "trigger": "manual"})
    run_id = created.json()["run_id"]
    page = open_page(f"{url}/")
    page.locator("tbody a").first.click()
    expect(page).to_have_url(f"{url}/runs/{run_id}")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    first, second = (page.locator(".tile", has_text=phone) for phone in PHONES)
    expect(first).to_contain_text("Queued")

    tasks = {task["device_id"]: task for task in node.pull()["tasks"]}
    task = tasks[PHONES[0]]
    node.tell(
        events.TaskStarted(
            **node.of_task(run_id, task, 1), runtime_handle=PHONES[0], workflow_id=workflow_id, timeoutMs=90_000
        )
    )
    expect(first).to_contain_text("Running")
    first.click()
    node.tell(
        events.TaskProgress(
            **node.of_task(run_id, task, 2),
            status=StepState.COMPLETED,
            step="BOOTSTRAP",
            step_id="wake",
            steps_total=4,
            duration_ms=120,
            log_snippet="Physical size: 1080x2340",
        )
    )
    expect(page.locator("#phone .steps li")).to_contain_text("wake")
    expect(page.locator("#phone pre")).to_contain_text("1080x2340")
    expect(first).to_contain_text("1/4 wake")

    node.tell(
        events.TaskFinished(
            **node.of_task(run_id, task, 3),
            status=TaskState.SUCCEEDED,
            timings=events.Timings(ended_at=time.time_ns() // 1_000_000),
            artifact=node.upload(task["task_id"], picture()),
        )
    )
    expect(first).to_contain_text("Succeeded")
    image = page.locator("#phone .shot img")
    expect(image).to_be_visible()
    expect(image).to_have_js_property("naturalWidth", 108)
    node.tell(
        events.TaskFinished(
            **node.of_task(run_id, tasks[PHONES[1]], 1),
            status=TaskState.SKIPPED_OFFLINE,
            timings=events.Timings(ended_at=time.time_ns() // 1_000_000),
        )
    )
    expect(second).to_contain_text("SKIPPED(offline)")
    expect(page.locator("#run-badge")).to_have_text("Completed with errors")
    node.http.close()


def test_stopping_says_what_it_will_touch_and_asks_once(url: str, node: Node, open_page: Callable[..., Page]) -> None:
    node.show_phones()
    run_id = node.http.post("/api/runs", json={"workflow_id": "bootstrap_only_v1"}).json()["run_id"]
    task = node.pull()["tasks"][0]
    started = {"runtime_handle": PHONES[0], "workflow_id": "bootstrap_only_v1", "timeoutMs": 90_000}
    node.tell(events.TaskStarted(**node.of_task(run_id, task, 1), **started))
    page = open_page(f"{url}/runs/{run_id}")
    expect(page.locator("#chips [data-s=running] b")).to_have_text("1")
    page.locator("#stop").click()
    told = page.locator("#stop-touches li:visible")
    expect(told).to_have_text(["1 queued: cancelled at once", "1 at work: ended by their node within seconds"])
    page.keyboard.press("Escape")
    assert node.http.get(f"/api/runs/{run_id}").json()["stop_requested_at"] is None, "asked, not answered"
    page.locator("#stop").click()
    page.locator("#stop-now").click()
    expect(page.locator("#stop")).to_have_text("Stopping…")
    expect(page.locator("#stop-ask")).to_be_hidden()
    page.reload()
    expect(page.locator("#stop")).to_have_text("Stopping…")
    for task in node.http.get(f"/api/runs/{run_id}").json()["tasks"]:
        ended = events.Timings(ended_at=time.time_ns() // 1_000_000)
        node.tell(events.TaskFinished(**node.of_task(run_id, task, 2), status=TaskState.CANCELLED, timings=ended))
    expect(page.locator("#run-badge")).to_have_text("Stopped")
    expect(page.locator("#stop")).to_be_hidden()


def test_a_wrong_address_answers_a_person_with_a_page_and_a_program_with_a_problem(
    url: str, open_page: Callable[..., Page], complaints: list[str]
) -> None:
    page = open_page(f"{url}/no/such/page")
    expect(page.get_by_role("heading")).to_have_text("There is nothing here")
    assert httpx2.get(f"{url}/api/nothing", trust_env=False).json()["status"] == 404
    complaints[:] = [text for text in complaints if "404" not in text]
