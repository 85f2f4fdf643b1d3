"""The agent at work on 20 of 100 phones: memory and CPU with `demo_20steps_v1` and latencies as on real phones.

Rack, adb server, backend and agent are processes of their own; screenshots come through adb, which is the dearer way
for the agent. For two minutes, all slots in use, the agent process's CPU time and resident memory are read. Then what
the pictures themselves cost is measured in the same surroundings, by a process that takes, checks, writes and sends
pictures of the same phones as the agent does and does nothing else; that, times the pictures that the agent took in its
two minutes, is taken off.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks._claims import judge
from benchmarks._picture_work import PictureCost, PictureJob
from benchmarks._rig import Rig, rig
from muster.contracts.api import CreateRun
from muster.domain.limits import CONCURRENCY_PER_NODE_DEFAULT as SLOTS

PHONES = 100
RECIPE = "demo_20steps_v1"
RUNS = 8
WARM_UP_SEC = 15.0
WINDOW_SEC = 120.0
LOOK_SEC = 1.0
PICTURES = 200
RSS_CLAIM_MB = 150.0
CPU_CLAIM_PERCENT = 25.0
SHOT = "screencap -p"
MB = 1e6


@dataclass(frozen=True)
class Work:
    """The agent's two minutes."""

    seconds: float
    cpu_sec: float
    rss_mb_max: float
    slots_in_use_min: int
    tasks_ended: int
    pictures: int


def main() -> int:
    """0 when both claims are met."""
    with tempfile.TemporaryDirectory(prefix="muster-at-work-") as folder:
        work, cost = asyncio.run(_measure(Path(folder)))
    percent = 100 * work.cpu_sec / work.seconds
    pictures_percent = 100 * cost.each * work.pictures / work.seconds
    print(
        f"{work.seconds:.0f} s, {work.slots_in_use_min} or more of {SLOTS} slots in use: {work.tasks_ended} tasks of "
        f"{RECIPE} ended, {work.pictures} pictures; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    parts = ", ".join(
        f"{name} {1000 * sec / cost.pictures:.1f}"
        for name, sec in (
            ("taken", cost.taken),
            ("checked", cost.checked),
            ("written", cost.written),
            ("sent", cost.sent),
        )
    )
    print(f"  a picture of {cost.megabytes / cost.pictures:.2f} MB by itself, CPU ms: {parts}")
    print(f"  agent {percent:.1f} % of a core, of it the pictures themselves {pictures_percent:.1f} %")
    print(f"  besides them {1000 * (percent - pictures_percent) / 100 * work.seconds / work.tasks_ended:.1f} ms a task")
    return max(
        judge("resident at most", work.rss_mb_max, RSS_CLAIM_MB, "MB"),
        judge("CPU besides the pictures", percent - pictures_percent, CPU_CLAIM_PERCENT, "% of a core"),
    )


async def _measure(folder: Path) -> tuple[Work, PictureCost]:
    async with rig(folder, phones=PHONES, latency="measured", vendor=False) as running:
        created = [await running.client.create_run(CreateRun(workflow_id=RECIPE)) for _ in range(RUNS)]
        await asyncio.sleep(WARM_UP_SEC)
        work = await _watch(running)
        for run in created:
            await running.client.stop_run(run.run_id)
        await running.end_of(created[-1].run_id)
        tasks = [task for run in created for task in (await running.client.run(run.run_id)).tasks]
        await running.agent.stop()
        ended = [task.task_id for task in tasks if task.status == "succeeded"]
        return work, await _picture_cost(running, [ended[number % len(ended)] for number in range(PICTURES)])


async def _watch(running: Rig) -> Work:
    process = psutil.Process(running.agent.pid)
    began, cpu, ended = time.monotonic(), _cpu_sec(process), await _ended(running)
    rss, in_use = [], []
    while time.monotonic() < began + WINDOW_SEC:
        await asyncio.sleep(LOOK_SEC)
        rss.append(process.memory_info().rss / MB)
        in_use.append((await running.client.nodes()).nodes[0].running_devices_count or 0)
    cpu, until = _cpu_sec(process) - cpu, time.monotonic()
    return Work(
        seconds=until - began,
        cpu_sec=cpu,
        rss_mb_max=max(rss),
        slots_in_use_min=min(in_use),
        tasks_ended=await _ended(running) - ended,
        pictures=await _pictures(running, began, until),
    )


async def _ended(running: Rig) -> int:
    runs = (await running.client.runs()).runs
    return sum(run.counts.succeeded + run.counts.failed for run in runs)


async def _pictures(running: Rig, began: float, until: float) -> int:
    """How many the phones were asked for in that time, by their own records."""
    records = [record for phone in await running.started_counts() for record in await running.records(phone, 0)]
    return sum(SHOT in record["text"] and began <= record["started"] < until for record in records)


async def _picture_cost(running: Rig, task_ids: Sequence[str]) -> PictureCost:
    job = PictureJob(running.url, running.secret, running.adb_server, task_ids, SLOTS)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks._picture_work",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate(json.dumps(asdict(job)).encode())
    assert process.returncode == 0, "its trace is on stderr"
    return PictureCost(**json.loads(told))


def _cpu_sec(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
