"""Rack, backend and agent started by hand, a run by plain HTTP: the words of README.md, tried."""

import asyncio
import hashlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.processes import Process, muster, run_muster

pytestmark = [pytest.mark.system, pytest.mark.timeout(400), pytest.mark.xdist_group("processes")]

RUN_SEC_MAX = 150.0


@dataclass
class Rig:
    """Three processes and where they answer."""

    url: str
    control: str
    data: Path
    rack: Process
    backend: Process
    agent: Process


@asynccontextmanager
async def rig(folder: Path, *, devices: int, vendor: bool = True, options: tuple[str, ...] = ()) -> AsyncIterator[Rig]:
    """A rack, a backend and an agent, each a process of its own."""
    data = folder / "data"
    rack_options = ["--devices", str(devices), "--latency", "none", "--adb-server", "127.0.0.1:0"]
    async with (
        muster("sim", *rack_options, "--vendor-port", "0", "--control-port", "0", cwd=folder) as rack,
        muster("backend", "--port", "0", "--data", str(data), cwd=folder) as backend,
    ):
        places = await rack.wait_for_line(r"muster sim ready: .*adb server (?P<adb>[^,\s]+)(?P<rest>.*)")
        vendor_url = re.search(r"vendor ([^,\s]+)", places["rest"])
        control = re.search(r"control ([^,\s]+)", places["rest"])
        assert control is not None
        url = (await backend.wait_for_line(r"muster backend ready on (\S+)"))[1]
        agent_options = [
            "--backend",
            url,
            "--node-id",
            "PC-01",
            "--data",
            str(data / "agent"),
            "--adb-server",
            places["adb"],
        ]
        agent_options += ["--vendor-url", vendor_url[1] if vendor and vendor_url else "none", *options]
        async with muster("agent", *agent_options, cwd=folder) as agent:
            await agent.wait_for_line("muster agent PC-01 ready")
            await until(lambda: count_online(url), devices)
            yield Rig(url, control[1], data, rack, backend, agent)
            for process in (agent, backend, rack):
                process.interrupt()
                assert await process.ended() == 0, process.output
    for process in (rack, backend, agent):
        assert "Traceback" not in process.output, process.output


def ask(method: str, url: str, body: object = None) -> Any:
    """What curl does."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.loads(answer.read())


async def get(url: str) -> Any:
    return await asyncio.to_thread(ask, "GET", url)


async def post(url: str, body: object) -> Any:
    return await asyncio.to_thread(ask, "POST", url, body)


async def count_online(url: str) -> int:
    return int((await get(f"{url}/api/devices?limit=1"))["counts"]["online"])


async def until(look: Any, wanted: object, *, limit_sec: float = 90.0) -> None:
    """Looks again and again until what it sees is `wanted`."""
    seen = None
    try:
        async with asyncio.timeout(limit_sec):
            while True:
                seen = await look()
                if seen == wanted:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{seen!r} is still not {wanted!r} after {limit_sec} s") from None


async def finished_run(url: str, run_id: str) -> Any:
    """The run when it has ended."""

    async def has_ended() -> bool:
        return (await get(f"{url}/api/runs/{run_id}"))["status"] not in ("queued", "running")

    await until(has_ended, True, limit_sec=RUN_SEC_MAX)
    return await get(f"{url}/api/runs/{run_id}")


async def test_a_run_by_plain_http_gives_a_picture_of_each_phone(tmp_path: Path) -> None:
    async with rig(tmp_path, devices=3) as rigged:
        created = await post(
            f"{rigged.url}/api/runs",
            {"workflow_id": "login_settings_screenshot_v1", "youtubeVideoId": "dQw4w9WgXcQ", "trigger": "youtube"},
        )
        run = await finished_run(rigged.url, created["run_id"])
        assert (run["status"], run["counts"]["succeeded"]) == ("completed", 3)
        steps = (await get(f"{rigged.url}/api/runs/{created['run_id']}/steps?limit=200"))["steps"]
        shots = [step["artifact"] for step in steps if step["artifact"]]
        for shot in shots:
            path = rigged.data / "objects" / "artifacts" / shot["storage_path"]
            assert hashlib.sha256(path.read_bytes()).hexdigest() == shot["sha256"]
        assert len({shot["sha256"] for shot in shots}) == 3
        nodes = (await get(f"{rigged.url}/api/nodes"))["nodes"]
        assert [(node["node_id"], node["status"], node["vendor_ws_ok"]) for node in nodes] == [
            ("PC-01", "online", True)
        ]


async def test_without_a_vendor_tool_devices_come_by_adb_and_pictures_by_screencap(tmp_path: Path) -> None:
    async with rig(tmp_path, devices=3, vendor=False) as rigged:
        nodes = (await get(f"{rigged.url}/api/nodes"))["nodes"]
        assert [node["vendor_ws_ok"] for node in nodes] == [False]
        created = await post(f"{rigged.url}/api/runs", {"workflow_id": "login_settings_screenshot_v1"})
        run = await finished_run(rigged.url, created["run_id"])
        assert run["status"] == "completed", run
        assert len(list((rigged.data / "objects" / "artifacts" / "manual" / "PC-01").glob("*/*/*.png"))) == 3
        commands = [
            record["text"]
            for task in run["tasks"]
            for record in (await get(f"{rigged.control}/phones/{task['device_id']}/commands"))["commands"]
        ]
        assert sum("screencap" in text for text in commands) >= 3


async def test_a_workflow_of_ones_own_is_applied_and_run(tmp_path: Path) -> None:
    marker = {"id": "mark", "kind": "adb", "command": "echo applied-by-hand"}
    check = {"id": "check", "kind": "assert", "assert": {"step": "mark", "output": {"equals": "applied-by-hand"}}}
    recipe = tmp_path / "mine.json"
    recipe.write_text(json.dumps({"workflow_id": "mine", "steps": [marker, check]}))
    async with rig(tmp_path, devices=2) as rigged:
        applied = await run_muster("workflow", "apply", str(recipe), "--url", rigged.url, cwd=tmp_path)
        assert applied.status == 0, applied.stderr
        ran = await run_muster("run", "start", "mine", "--watch", "--json", "--url", rigged.url, cwd=tmp_path)
        assert ran.status == 0, ran.stderr
        run = json.loads(ran.stdout)
        assert (run["workflow_id"], run["counts"]["succeeded"]) == ("mine", 2)


async def test_a_watched_run_survives_a_restart_of_the_backend(tmp_path: Path) -> None:
    slow = [{"id": f"wait{number}", "kind": "adb", "command": "sleep 2"} for number in range(3)]
    recipe = tmp_path / "slow.json"
    recipe.write_text(json.dumps({"workflow_id": "slow", "steps": slow}))
    async with rig(tmp_path, devices=2) as rigged:
        await run_muster("workflow", "apply", str(recipe), "--url", rigged.url, cwd=tmp_path)
        async with muster("run", "start", "slow", "--watch", "--url", rigged.url, cwd=tmp_path) as watching:
            await watching.wait_for_line(r"running: 0/2 finished")
            rigged.backend.interrupt()
            assert await rigged.backend.ended() == 0
            await watching.wait_for_line("waiting for the backend")
            port = rigged.url.rpartition(":")[2]
            async with muster("backend", "--port", port, "--data", str(rigged.data), cwd=tmp_path) as again:
                await again.wait_for_line("muster backend ready")
                await watching.wait_for_line(r"completed: 2/2 finished", limit_sec=120)
                assert await watching.ended() == 0, watching.output


async def test_twenty_slots_for_a_hundred_phones_never_two_on_a_phone(tmp_path: Path) -> None:
    slow = [
        {"id": "first", "kind": "adb", "command": "sleep 0.3"},
        {"id": "second", "kind": "adb", "command": "sleep 0.1"},
    ]
    recipe = tmp_path / "paced.json"
    recipe.write_text(json.dumps({"workflow_id": "paced", "steps": slow}))
    async with rig(tmp_path, devices=100) as rigged:
        await run_muster("workflow", "apply", str(recipe), "--url", rigged.url, cwd=tmp_path)
        runs = [await post(f"{rigged.url}/api/runs", {"workflow_id": "paced"}) for _ in range(2)]
        ended = [await finished_run(rigged.url, created["run_id"]) for created in runs]
        assert [run["counts"]["succeeded"] for run in ended] == [100, 100]
        spans = await command_spans(rigged, [task["device_id"] for task in ended[0]["tasks"]])
    # That all slots are in use is asked of longer tasks (test_hundred_phones): these may end before the last begins.
    assert 1 < max(overlaps([span for of_phone in spans.values() for span in of_phone])) <= 20
    for texts_of_phone in spans.values():
        assert max(overlaps(texts_of_phone)) == 1, "never two on a phone"
    orders = {
        tuple(
            sorted(
                (task["started_at"], run["run_id"])
                for run in ended
                for task in run["tasks"]
                if task["device_id"] == phone
            )
        )
        for phone in spans
    }
    assert all([run_id for _, run_id in order] == [created["run_id"] for created in runs] for order in orders)


async def command_spans(rigged: Rig, device_ids: list[str]) -> dict[str, list[tuple[float, float]]]:
    """When the recipe's own commands ran on each phone, by the phones' own records."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for device_id in device_ids:
        records = (await get(f"{rigged.control}/phones/{device_id}/commands"))["commands"]
        own = [record for record in records if "sleep 0." in record["text"]]
        assert len(own) == 4, f"two steps of two runs, each once: {own}"
        spans[device_id] = [(record["started"], record["ended"]) for record in own]
    return spans


def overlaps(spans: list[tuple[float, float]]) -> list[int]:
    """How many spans are open after each beginning."""
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    counts, now = [], 0
    for _, change in edges:
        now += change
        counts.append(now)
    return counts


async def test_up_runs_backend_and_agent_and_stops_both(tmp_path: Path) -> None:
    rack_options = ["--devices", "2", "--adb-server", "127.0.0.1:0", "--vendor-port", "0", "--control-port", "0"]
    async with muster("sim", *rack_options, cwd=tmp_path) as rack:
        adb = (await rack.wait_for_line(r"adb server ([^,\s]+)"))[1]
        options = ["--port", "0", "--data", str(tmp_path / "up"), "--adb-server", adb, "--vendor-url", "none"]
        async with muster("up", *options, cwd=tmp_path) as up:
            url = (await up.wait_for_line(r"muster up ready on (\S+)"))[1]
            await until(lambda: count_online(url), 2)
            up.interrupt()
            assert await up.ended() == 0, up.output
        with pytest.raises(urllib.error.URLError):
            await get(f"{url}/healthz")


async def test_no_child_outlives_a_killed_parent(tmp_path: Path) -> None:
    async with muster("demo", "--devices", "1", "--port", "0", "--data", str(tmp_path / "demo"), cwd=tmp_path) as demo:
        url = (await demo.wait_for_line(r"console: (\S+)", limit_sec=170))[1]
        demo.process.kill()
        await demo.ended()

    async def answers() -> bool:
        try:
            await get(f"{url}/healthz")
        except urllib.error.URLError:
            return False
        return True

    await until(answers, False)


async def test_when_the_agent_of_up_dies_the_backend_is_stopped_and_the_exit_status_tells(tmp_path: Path) -> None:
    rack_options = ["--devices", "1", "--adb-server", "127.0.0.1:0", "--vendor-port", "0", "--control-port", "0"]
    async with muster("sim", *rack_options, cwd=tmp_path) as rack:
        adb = (await rack.wait_for_line(r"adb server ([^,\s]+)"))[1]
        options = ["--port", "0", "--data", str(tmp_path / "up"), "--adb-server", adb, "--vendor-url", "none"]
        async with muster("up", *options, cwd=tmp_path) as up:
            url = (await up.wait_for_line(r"muster up ready on (\S+)"))[1]
            (agent,) = [child for child in psutil.Process(up.process.pid).children() if "agent" in child.cmdline()[:4]]
            agent.kill()
            assert await up.ended() == 2
    assert "muster: agent ended with exit status -9" in up.output
    with pytest.raises(urllib.error.URLError):
        await get(f"{url}/healthz")
