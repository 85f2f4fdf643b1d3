"""The real backend over a real SQLite file, driven through its ASGI application, under a clock of the test's own."""

import asyncio
import json
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from fastapi import FastAPI
from tests.support.manual_clock import ManualClock

from muster.backend.api.app import create_app
from muster.backend.live import LiveStream
from muster.backend.parts import BackendSettings, Parts, open_parts
from muster.contracts.api import RunDetail
from muster.domain.limits import TASK_TIMEOUT_MS_DEFAULT
from muster.runtime.ids import NewId, id_source

SECRET = "a-shared-secret-of-the-tests"
NODE_HEADERS = {"Authorization": f"Bearer {SECRET}"}
WAIT_SEC = 90
T = TypeVar("T")

RECIPE: dict[str, Any] = {
    "workflow_id": "tour",
    "name": "Tour",
    "globalTimeoutMs": 120_000,
    "params": {"PACKAGE": "com.example.app"},
    "steps": [
        {"id": "wake", "phase": "BOOTSTRAP", "kind": "adb", "command": "input keyevent 224", "onFailure": "continue"},
        {"id": "launch", "phase": "LOGIN_FLOW", "kind": "adb", "command": "monkey -p {{PACKAGE}} 1"},
        {"id": "shot", "phase": "SCREENSHOT", "kind": "screenshot"},
        {"id": "upload", "phase": "UPLOAD", "kind": "upload", "source": "shot"},
    ],
}


@dataclass
class Rig:
    """A backend at work, and a node's side of the conversation."""

    parts: Parts
    app: FastAPI
    http: httpx2.AsyncClient
    clock: ManualClock
    new_id: NewId = field(repr=False)

    # ---- as a node ----

    async def heartbeat(
        self, node_id: str, device_ids: Sequence[str], *, age_ms: int | None = 0, **fields: Any
    ) -> None:
        """Makes the phones known, and online when `age_ms` is young."""
        answer = await self.callback(self.heartbeat_event(node_id, device_ids, age_ms=age_ms, **fields))
        assert answer.status_code == 200, answer.text

    def heartbeat_event(
        self, node_id: str, device_ids: Sequence[str], *, age_ms: int | None = 0, **fields: Any
    ) -> dict[str, Any]:
        devices = [
            {"device_id": device_id, "runtime_handle": f"usb:{device_id}", "state": "device", "age_ms": age_ms}
            for device_id in device_ids
        ]
        return self.event(
            "node_heartbeat",
            node_id=node_id,
            **{
                "connected_devices_count": len(devices),
                "running_devices_count": 0,
                "queue_devices_count": 0,
                "vendor_ws_ok": True,
                "agent_version": "0.1.0",
                "outbox_depth": 0,
                "devices": devices,
            }
            | fields,
        )

    def event(self, kind: str, **payload: Any) -> dict[str, Any]:
        return {
            "event_id": self.new_id(),
            "type": kind,
            "payload": {"node_id": "PC-01", "timestamp": self.clock.now_ms()} | payload,
        }

    def task_event(self, kind: str, task: "NodeTask", seq: int, **payload: Any) -> dict[str, Any]:
        return self.event(kind, **task.payload | {"seq": seq, "attempt": 1} | payload)

    def started(self, task: "NodeTask", seq: int = 1, **payload: Any) -> dict[str, Any]:
        fields = {"runtime_handle": f"usb:{task.device_id}", "workflow_id": "tour", "timeoutMs": 90_000}
        return self.task_event("task_started", task, seq, **fields | payload)

    def progress(self, task: "NodeTask", seq: int, step_id: str, status: str, **payload: Any) -> dict[str, Any]:
        ids = [step["id"] for step in RECIPE["steps"]]
        index = ids.index(step_id)
        fields = {
            "status": status,
            "step": RECIPE["steps"][index]["phase"],
            "step_id": step_id,
            "step_index": index,
            "steps_total": len(ids),
        }
        return self.task_event("task_progress", task, seq, **fields | payload)

    def finished(self, task: "NodeTask", seq: int, status: str = "succeeded", **payload: Any) -> dict[str, Any]:
        now = self.clock.now_ms()
        fields = {
            "status": status,
            "runtime_handle": f"usb:{task.device_id}",
            "timings": {"startedAt": now - 5_000, "endedAt": now, "durationMs": 5_000},
        }
        return self.task_event("task_finished", task, seq, **fields | payload)

    async def callback(self, *events: object) -> httpx2.Response:
        """One event by itself, several as a batch."""
        return await self._callback(events[0] if len(events) == 1 else {"events": list(events)})

    async def _callback(self, body: object) -> httpx2.Response:
        # As ASCII: half a surrogate pair can be sent by its escape only.
        return await self.http.post("/api/nodes/callback", content=json.dumps(body).encode(), headers=NODE_HEADERS)

    async def verdicts(self, *events: object) -> list[dict[str, Any]]:
        """What became of each event of a batch."""
        answer = await self._callback({"events": list(events)})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["results"])

    async def tell(self, *events: object, but: tuple[int, ...] = ()) -> None:
        """A batch in which every event must be accepted, or refused with one of the statuses `but`."""
        refused = [verdict for verdict in await self.verdicts(*events) if not verdict["ok"]]
        assert all(verdict["status"] in but for verdict in refused), refused

    async def pull(
        self, node_id: str = "PC-01", instance_id: str = "one", wait_ms: int = 0, **params: str
    ) -> httpx2.Response:
        return await self.http.get(
            "/api/nodes/pull",
            params={"node_id": node_id, "instance_id": instance_id, "wait_ms": str(wait_ms)} | params,
            headers=NODE_HEADERS,
        )

    async def take_tasks(self, node_id: str = "PC-01") -> list["NodeTask"]:
        """Pulls the next run_start and gives its tasks."""
        answer = await self.pull(node_id)
        assert answer.status_code == 200, answer.text
        return [
            NodeTask(node_id, command["run_id"], task["task_id"], task["device_id"], command["command_id"])
            for command in answer.json()["commands"]
            for task in command.get("tasks", [])
        ]

    # ---- as an operator ----

    async def start_run(self, **body: Any) -> str:
        answer = await self.http.post("/api/runs", json={"workflow_id": "tour"} | body)
        assert answer.status_code == 201, answer.text
        run_id: str = answer.json()["run_id"]
        return run_id

    async def run(self, run_id: str) -> RunDetail:
        answer = await self.http.get(f"/api/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        return RunDetail.model_validate_json(answer.content)

    async def next_frame(self, stream: LiveStream, event: bytes) -> bytes:
        """The stream's next frame of this kind."""
        while not (frame := await self.advance_until(anext(stream), 0.1)).startswith(b"event: " + event):
            continue
        return frame

    async def advance_until(self, work: Awaitable[T], step_sec: float = 0.5) -> T:
        """Lets the test's clock run until `work` is done."""
        task = asyncio.ensure_future(work)
        deadline = time.monotonic() + WAIT_SEC
        while not task.done():
            assert time.monotonic() < deadline, "it never ended"
            await self.clock.advance(step_sec)
            await asyncio.wait({task}, timeout=0.001)
        return task.result()


@dataclass(frozen=True)
class NodeTask:
    """A task as its node knows it."""

    node_id: str
    run_id: str
    task_id: str
    device_id: str
    command_id: str = ""

    @property
    def payload(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "run_id": self.run_id,
            "task_id": self.task_id,
            "device_id": self.device_id,
        }


@asynccontextmanager
async def open_rig(
    folder: Path,
    *,
    clock: ManualClock | None = None,
    seeds: Sequence[dict[str, Any]] = (RECIPE,),
    host: str = "127.0.0.1",
    database_url: str | None = None,
    task_timeout_ms: int = TASK_TIMEOUT_MS_DEFAULT,
) -> AsyncIterator[Rig]:
    """A backend whose data lie in `folder`; opened a second time on one folder it is the same backend restarted."""
    clock = clock or ManualClock()
    settings = BackendSettings(
        host=host, port=0, data_dir=folder, secret=SECRET, database_url=database_url, task_timeout_ms=task_timeout_ms
    )
    async with open_parts(settings, seeds=seeds, clock=clock) as parts:
        app = create_app(parts)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8700") as http:
            yield Rig(parts, app, http, clock, id_source(clock, random.Random(7)))


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits until `condition` holds."""
    deadline = time.monotonic() + WAIT_SEC
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.002)


class RigThread:
    """One backend for many examples of a property: `with` it, then `run` coroutines on its loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: Future[tuple[Rig, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)

    async def _live(self) -> None:
        stop = asyncio.Event()
        async with open_rig(self._folder) as rig:
            self._ready.set_result((rig, asyncio.get_running_loop(), stop))
            await stop.wait()

    def __enter__(self) -> "RigThread":
        self._thread.start()
        self.rig, self._loop, self._stop = self._ready.result(WAIT_SEC)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SEC)
        assert not self._thread.is_alive(), "the backend did not stop"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, run where the backend lives."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SEC)
