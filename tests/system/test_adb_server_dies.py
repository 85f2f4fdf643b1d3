"""The adb server dies under twenty phones at work: one event of the node, and no phone's failure (spec/10)."""

import asyncio
import io
import json
from pathlib import Path

import psutil
import pytest
from tests.support.phones import MemorySpool, Told, executor_settings, plan
from tests.support.waiting import until

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import Task, TaskOutcome
from muster.agent.rack import AttachedRack, RackSettings
from muster.domain.task import TaskState
from muster.runtime.clock import SystemClock
from muster.runtime.logs import configure_logs
from muster.sim.main import Rack
from muster.sim.main import RackSettings as SimSettings

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
PHONES = 20
STEPS = (
    {"id": "first", "kind": "adb", "command": "echo begun"},
    # Its command is cut off, and it may be begun again: the phone's grace is used where it stands, slot in hand (R8.5).
    {"id": "cut-off", "kind": "adb", "command": "test -n \"$(getprop debug.go)\" || sleep 600", "idempotent": True,
     "timeoutMs": 120_000},
    {"id": "waits", "kind": "wait", "until": "test -n \"$(getprop debug.go)\"", "timeoutMs": 120_000},
    {"id": "last", "kind": "adb", "command": "echo done"},
)  # fmt: skip


def kill_server(port: int) -> None:
    """As a crash does."""
    (server,) = (
        child
        for child in psutil.Process().children(recursive=True)
        if "adb" in child.name() and str(port) in child.cmdline()
    )
    server.kill()


async def test_twenty_tasks_outlive_the_death_of_the_adb_server_and_the_node_tells_of_it_once(tmp_path: Path) -> None:
    log = io.StringIO()
    configure_logs(json_lines=True, stream=log)
    sim = SimSettings(devices=PHONES, latency="none", control_port=None, vendor_port=None, data_dir=tmp_path / "sim")
    async with (
        Rack(sim) as rack,
        AttachedRack(RackSettings(*rack.adb_address, None, tmp_path / "agent"), SystemClock()) as attached,
    ):
        await attached.wait_settled()
        settings = executor_settings(device_grace_wait_ms=60_000)
        executor = TaskExecutor(attached.phones, MemorySpool(), settings, SystemClock())
        names = [status.device_id for status in attached.all()]
        stories = {name: Told() for name in names}
        run = plan(*STEPS, global_timeout_ms=200_000)
        work = [asyncio.create_task(executor.execute(Task(name, name, 1, run), stories[name])) for name in names]
        await until(lambda: all("cut-off:running" in told.story for told in stories.values()), within_sec=60)
        kill_server(rack.adb_address[1])
        await until(lambda: "The adb server is gone" in log.getvalue(), within_sec=60)
        for phone in rack.phones.values():
            phone.properties.put("debug.go", "1")
        outcomes = await asyncio.gather(*work)
    assert len(outcomes) == PHONES
    for outcome in outcomes:
        assert isinstance(outcome, TaskOutcome)
        assert (outcome.status, outcome.failed_steps, outcome.error_message) == (TaskState.SUCCEEDED, (), None)
    assert {tuple(story for story in told.story if story.startswith("cut-off")) for told in stories.values()} == {
        ("cut-off:running", "cut-off:waiting", "cut-off:running", "cut-off:completed")
    }
    events = [json.loads(line)["event"] for line in log.getvalue().splitlines()]
    assert events.count("The adb server is gone") == events.count("The adb server is back") == 1
    assert "Step failed" not in events
