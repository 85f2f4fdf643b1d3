"""`serve`: the backend behind a real socket, from ready to a graceful stop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.support.backend import NODE_HEADERS, SECRET

from muster.backend.main import BackendSettings, serve

WAIT_SEC = 90


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    """A backend on a free port: its address and the task that is it."""
    line: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    settings = BackendSettings(host="127.0.0.1", port=0, data_dir=folder, secret=SECRET)
    task = asyncio.create_task(serve(settings, on_ready=line.set_result))
    async with asyncio.timeout(WAIT_SEC):
        either: list[asyncio.Future[Any]] = [task, line]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    prefix, _, url = line.result().rpartition(" ")
    assert prefix == "muster backend ready on"
    try:
        yield url, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, WAIT_SEC)


async def test_it_answers_when_it_says_that_it_is_ready_and_has_its_seed_recipes(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as (url, _), httpx2.AsyncClient(base_url=url) as http:
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        workflows = (await http.get("/api/workflows")).json()["workflows"]
        assert {"bootstrap_only_v1", "login_settings_screenshot_v1", "demo_20steps_v1"} <= {
            workflow["workflow_id"] for workflow in workflows
        }
        assert (await http.get("/runs")).headers["content-type"].startswith("text/html")


async def test_a_ten_megabyte_body_is_answered_not_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as (url, _), httpx2.AsyncClient(base_url=url) as http:
        for content in (b" " * 10_000_000, _pieces()):
            answer = await http.post("/api/runs", content=content, headers={"Content-Type": "application/json"})
            assert answer.status_code == 413
            assert answer.json()["type"] == "urn:muster:problem:body-too-large"
        assert (await http.get("/healthz")).status_code == 200


async def test_a_stop_ends_long_polls_with_an_answer_and_closes_the_database(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as (url, task), httpx2.AsyncClient(base_url=url, timeout=WAIT_SEC) as http:
        params = {"node_id": "PC-01", "instance_id": "one", "wait_ms": "60000"}
        poll = asyncio.create_task(http.get("/api/nodes/pull", params=params, headers=NODE_HEADERS))
        while not (await http.get("/api/nodes")).json()["nodes"]:
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, WAIT_SEC)
        assert (await poll).json()["commands"] == []
    assert not list((tmp_path / "data").glob("muster.db-wal")), "the journal was checkpointed on the last close"


async def test_a_client_that_hangs_up_ends_its_poll(tmp_path: Path) -> None:
    async with serving(tmp_path / "data") as (url, _), httpx2.AsyncClient(base_url=url, timeout=WAIT_SEC) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        head = "GET /api/nodes/pull?node_id=PC-01&instance_id=one&wait_ms=60000 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        writer.write(f"{head}X-Node-Auth: {SECRET}\r\n\r\n".encode())
        await writer.drain()
        while not (await http.get("/api/nodes")).json()["nodes"]:
            pass
        writer.close()
        await writer.wait_closed()
        params = {"node_id": "PC-01", "instance_id": "one", "wait_ms": "0"}
        assert (await http.get("/api/nodes/pull", params=params, headers=NODE_HEADERS)).json()["commands"] == []
        assert await reader.read() == b""


async def test_a_port_that_is_taken_is_an_error_before_anything_is_touched(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = BackendSettings(host="127.0.0.1", port=port, data_dir=tmp_path / "data", secret=SECRET)
        with pytest.raises(OSError, match="in use"):
            await serve(settings, on_ready=lambda _: None)
    assert not (tmp_path / "data").exists()


async def _pieces() -> AsyncIterator[bytes]:
    for _ in range(10):
        yield b" " * 1_000_000
