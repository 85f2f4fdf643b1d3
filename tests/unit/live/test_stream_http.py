"""The stream over a real uvicorn and a real socket."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest
from fastapi import FastAPI
from tests.support.runs import MemoryRuns
from tests.support.web import WebServer

from muster.backend.api.stream import stream_router
from muster.backend.live import LiveRuns
from muster.client.sse import SseEvent, SseParser
from muster.domain.task import TaskState
from muster.runtime.clock import SystemClock


class Backend:
    def __init__(self, *, devices: int = 3, coalesce_ms: int = 200) -> None:
        clock = SystemClock()
        self.runs = MemoryRuns(clock)
        self.run_id = self.runs.add("one", devices=devices)
        self.live = LiveRuns(
            self.runs.snapshot, self.runs.delta, clock, coalesce_ms=coalesce_ms, heartbeat_sec=0.05, viewers_max=3
        )
        app = FastAPI()
        app.include_router(stream_router(self.live))
        self.server = WebServer(app, before_shutdown=self.live.close)

    @property
    def path(self) -> str:
        return f"/api/runs/{self.run_id}/events"

    def move(self, device_id: str, status: TaskState, **fields: object) -> None:
        async def moved() -> None:
            self.live.changed(self.run_id, [self.runs.move(self.run_id, device_id, status, **fields)])

        self.server.call(moved())


@pytest.fixture
def backend() -> Iterator[Backend]:
    backend = Backend()
    with backend.server:
        yield backend


@pytest.fixture
def http(backend: Backend) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=backend.server.url, timeout=10, trust_env=False) as client:
        yield client


def events(response: httpx2.Response) -> Iterator[SseEvent]:
    parser = SseParser()
    for chunk in response.iter_bytes():
        yield from parser.feed(chunk)


def test_a_stream_sends_snapshot_delta_and_heartbeat(backend: Backend, http: httpx2.Client) -> None:
    with http.stream("GET", backend.path) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        stream = events(response)
        first = next(stream)
        assert first.event == "snapshot"
        backend.move("SIM-0002", TaskState.RUNNING)
        seen: dict[str, SseEvent] = {}
        while not {"delta", "heartbeat"} <= seen.keys():
            event = next(stream)
            seen[event.event] = event
        assert json.loads(seen["delta"].data)["tasks"][0]["device_id"] == "SIM-0002"
        assert "now" in json.loads(seen["heartbeat"].data)


def test_an_unknown_run_is_a_404_problem(http: httpx2.Client) -> None:
    answer = http.get("/api/runs/0190d4d2-0000-7000-8000-000000000000/events")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:muster:problem:unknown-run"


@pytest.mark.parametrize("by_header", [True, False])
def test_both_ways_to_resume_leave_no_gap(backend: Backend, http: httpx2.Client, by_header: bool) -> None:
    with http.stream("GET", backend.path) as keeps_the_watch:
        first = events(keeps_the_watch)  # held: a reader that is thrown away closes its response
        seen = next(first).id
        backend.move("SIM-0003", TaskState.RUNNING)
        headers, params = ({"Last-Event-ID": seen}, {}) if by_header else ({}, {"resume": seen})
        with http.stream("GET", backend.path, headers=headers, params=params) as response:
            event = next(event for event in events(response) if event.event != "heartbeat")
            assert event.event == "delta"


def test_one_viewer_too_many_is_a_503_that_says_when_to_come_back(backend: Backend, http: httpx2.Client) -> None:
    with (
        http.stream("GET", backend.path) as one,
        http.stream("GET", backend.path) as two,
        http.stream("GET", backend.path) as three,
    ):
        open_readers = [events(response) for response in (one, two, three)]
        assert [next(reader).event for reader in open_readers] == ["snapshot"] * 3
        answer = http.get(backend.path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["type"] == "urn:muster:problem:too-many-viewers"


def until_no_viewer_is_left(backend: Backend) -> None:
    async def wait() -> None:
        while backend.live.viewers:
            await backend.live.clock.sleep(0.01)

    backend.server.call(wait())


def test_a_viewer_that_hangs_up_is_forgotten(backend: Backend, http: httpx2.Client) -> None:
    with http.stream("GET", backend.path) as response:
        reader = events(response)
        next(reader)
        assert backend.live.viewers == 1
    until_no_viewer_is_left(backend)


def test_a_viewer_that_stops_reading_is_cut_off() -> None:
    backend = Backend(devices=500, coalesce_ms=1)
    with backend.server, closing(socket.create_connection(("127.0.0.1", backend.server.port))) as viewer:
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        viewer.sendall(f"GET {backend.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert viewer.recv(64).startswith(b"HTTP/1.1 200")

        async def flood() -> None:
            everything = [task.task_id for task in backend.runs.tasks(backend.run_id)]
            while backend.live.viewers:
                backend.live.changed(backend.run_id, everything)
                await backend.live.clock.sleep(0.001)

        backend.server.call(flood())
        assert backend.live.viewers == 0


def test_the_server_stops_at_once_though_streams_are_open(backend: Backend, http: httpx2.Client) -> None:
    with http.stream("GET", backend.path) as response:
        stream = events(response)
        next(stream)
        backend.server.stop()
        assert {event.event for event in stream} <= {"heartbeat"}
