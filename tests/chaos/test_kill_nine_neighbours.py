"""`kill -9` of what the agent leans on: the backend, the adb server. The agent goes on and tells the truth."""

import asyncio
import contextlib
import os
import random
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests.chaos.ends import all_told, dismissed, say, summary, verdict
from tests.chaos.site import Site, site
from tests.support.processes import Process
from tests.support.waiting import until

KILLS = max(2, int(os.environ.get("KILLS", "8")) // 10)
ADB_KILLS = max(1, KILLS // 4)
DEVICES = 10
SEED = int(os.environ.get("CHAOS_SEED", "1"))
ADB_BACK = "The adb server is back"
# An upload has no retry in these recipes; its picture is stored later.
WITHOUT_BACKEND = ("failed", "upload_error")

pytestmark = [pytest.mark.system, pytest.mark.timeout(240 + 12 * KILLS), pytest.mark.xdist_group("processes")]


async def test_however_often_the_backend_is_killed_no_event_is_lost_or_applied_twice(tmp_path: Path) -> None:
    rng, began = random.Random(SEED), time.monotonic()
    async with site(tmp_path, DEVICES) as rig, rig.agent() as agent:
        await agent.wait_for_line("muster agent PC-01 ready")
        # All at once: a new backend knows the phones only from their next heartbeat on.
        for _ in range(KILLS):
            await rig.add_run("stored")
        for _ in range(KILLS):
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            rig.backend.process.kill()
            await rig.backend.ended()
            await asyncio.sleep(rng.uniform(0, 1))
            await rig.restart_backend()
        await all_told(rig, agent)
        wrong = await dismissed(rig, agent)
    end, found = verdict(rig, [], also=[WITHOUT_BACKEND])
    say(f"{KILLS} kills of the backend, {summary(end, time.monotonic() - began)}")
    assert not [*wrong, *found], f"seed {SEED}:\n" + "\n".join([*wrong, *found])


async def test_the_adb_servers_death_is_one_event_of_the_node_and_held_against_no_phone(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    async with site(tmp_path, DEVICES) as rig, rig.agent() as agent:
        await agent.wait_for_line("muster agent PC-01 ready")
        for _ in range(ADB_KILLS):
            await rig.add_run("steady")
            # A command whose fate nobody knows is not begun again, but its task may be tried again.
            rig.shaken.add(await rig.add_run("late", max_attempts=2))
            await asyncio.sleep(rng.uniform(0.3, 3.0))
            await kill_adb_server(rig, agent)
            await all_told(rig, agent)
        held_against = await hindered(rig)
        wrong = await dismissed(rig, agent)
    end, found = verdict(rig, [])
    assert not [*wrong, *found], f"seed {SEED}:\n" + "\n".join([*wrong, *found])
    assert {(task.state, task.reason) for task in end.tasks.values()} == {("succeeded", None)}
    assert not held_against
    assert count(agent, "The adb server is gone") == ADB_KILLS, agent.output
    assert not count(agent, "quarantine"), agent.output
    assert not count(agent, "Task finished status=failed"), agent.output


async def hindered(rig: Site) -> dict[str, str]:
    """What phones still have to say against themselves when adb has had a minute to list them all again."""
    told: dict[str, str] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            while True:
                devices = (await rig.client.devices(limit=DEVICES)).devices
                told = {device.device_id: device.last_error_message or "" for device in devices}
                if not any(told.values()):
                    return {}
                await asyncio.sleep(0.2)
    return told


async def kill_adb_server(rig: Site, agent: Process) -> None:
    """Returns when the agent sees phones again. The rack starts another at the same port."""
    told = count(agent, ADB_BACK)
    servers = [child for child in psutil.Process(rig.rack.process.pid).children() if "adb" in child.name()]
    assert servers, "the rack's own adb server"
    for server in servers:
        server.kill()
    await until(partial(has_said_more, agent, ADB_BACK, told), within_sec=90)


def count(agent: Process, words: str) -> int:
    return sum(words in line for line in agent.lines)


def has_said_more(agent: Process, words: str, times: int) -> bool:
    return count(agent, words) > times
