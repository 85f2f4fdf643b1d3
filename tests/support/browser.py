"""A backend in memory for the browser tests: the real console and the real stream over `MemoryRuns`."""

import io
import random
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from PIL import Image, ImageDraw
from tests.support.runs import MemoryRuns, RandomPhones
from tests.support.web import WebServer

from muster.backend.api.stream import stream_router
from muster.backend.console.pages import SECURITY_HEADERS, console_router
from muster.backend.live import LiveRuns
from muster.contracts.api import NodeView
from muster.domain.task import TaskState
from muster.runtime.clock import SystemClock

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class DemoBackend:
    """Runs in memory, served on a loopback port. A test moves phones; the page sees it through the stream."""

    def __init__(self, *, heartbeat_sec: float = 0.2, stale_sec: float = 1.0) -> None:
        self.runs = MemoryRuns(SystemClock())
        self._heartbeat_sec = heartbeat_sec
        self._stale_sec = stale_sec
        self._port = 0
        self.live: LiveRuns
        self.server: WebServer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts serving; after `stop` on the same port and with no memory of its viewers, as a restarted backend."""
        self.live = LiveRuns(self.runs.snapshot, self.runs.delta, self.runs.clock, heartbeat_sec=self._heartbeat_sec)
        self.server = WebServer(self._app(), port=self._port, before_shutdown=self.live.close)
        self.server.__enter__()
        self._port = self.server.port

    def stop(self) -> None:
        self.server.stop()

    def move(self, run_id: str, device_id: str, status: TaskState, **fields: Any) -> None:
        """Moves a phone and tells the stream, as an accepted callback does."""

        async def moved() -> None:
            self.live.changed(run_id, [self.runs.move(run_id, device_id, status, **fields)])

        self.server.call(moved())

    def touch(self, run_id: str, device_ids: Iterable[str]) -> None:
        """Tells the stream that something about these phones was written."""

        async def touched() -> None:
            self.live.changed(run_id, [self.runs.task(run_id, device_id).task_id for device_id in device_ids])

        self.server.call(touched())

    def tell_node(self, run_id: str, node: NodeView) -> None:
        """A node falls ill or gets well, and the stream of a run with open phones there hears of it."""
        self.runs.conditions[node.node_id] = node
        self.touch(run_id, [task.device_id for task in self.runs.tasks(run_id) if task.node_id == node.node_id])

    def viewers(self) -> int:
        async def count() -> int:
            return self.live.viewers

        return self.server.call(count())

    def shuffle(self, run_id: str, moves: int, *, seed: int = 1) -> None:
        """So many random changes at once."""

        async def moved() -> None:
            phones = RandomPhones(self.runs, run_id, random.Random(seed))
            ids = [phones.step() for _ in range(moves)]
            self.live.changed(run_id, [task_id for task_id in ids if task_id])

        self.server.call(moved())

    def _app(self) -> FastAPI:
        app = FastAPI()
        app.include_router(console_router(self.runs, self.runs.node_views, stale_sec=self._stale_sec))
        app.include_router(stream_router(self.live))

        @app.get("/api/runs/{run_id}/steps")
        async def steps(run_id: str, device_id: str | None = None, limit: int = 50) -> JSONResponse:
            page = await self.runs.steps(run_id, device_id, limit=limit)
            return JSONResponse(page.model_dump(mode="json", exclude_none=True))

        @app.get("/api/artifacts/{artifact_id}")
        async def artifact(artifact_id: str) -> Response:
            return Response(_picture(artifact_id), media_type="image/png", headers=SECURITY_HEADERS)

        return app


def _picture(seed: str) -> bytes:
    """A phone's screen, different for each seed."""
    hue = int(seed[:2], 16)
    image = Image.new("RGB", (270, 570), (245, 246, 248))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 270, 90), fill=(hue, 90, 200 - hue // 2))
    for row in range(7):
        top = 115 + row * 62
        draw.rounded_rectangle((16, top, 254, top + 48), 10, fill="white", outline=(215, 219, 226))
        draw.ellipse((28, top + 10, 56, top + 38), fill=(180, 200, 255 - hue // 3))
        draw.rectangle((70, top + 14, 70 + (hue * (row + 3)) % 150, top + 22), fill=(90, 96, 107))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
