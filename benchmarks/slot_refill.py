"""From a slot's release to the next phone's first command: 100 phones without latency, 20 slots, always work waiting.

Measured from the moment in the agent when the lock of the phone that was served is given back (its teardown has ended,
its outcome is on the disk) until the next phone has begun to run the first command of its preflight, by the phone's own
record; both are readings of this machine's one monotonic clock. In between lie: the scheduler's decision, the next
phone's lock, `task_started` in the journal (an fsync), and the command's way through the adb server to the phone.

The whole of it works meanwhile: the agent as a process with its journal on disk, the real adb server, backend, and the
rack in a process of its own. Two recipes. One pauses for as long as each phone's lot says, 0 to 1.5 s, so that slots
fall free one by one, about 25 a second: a rack at work has one or two. The claims are for this one. The other does
nothing at all: all 20 slots then want a CPU all the time, and what is measured is the queue for it. Against that stands
what the machine gives to whoever does the least: 4 KiB written and synced and the same command sent to the same phones,
one at a time and 20 at once.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from benchmarks._claims import judge
from benchmarks._rig import Rig, rig
from benchmarks._timed_agent import LOCK_TIMES
from muster.adb.client import AdbClient
from muster.agent.preflight.device import PROBE
from muster.domain.limits import CONCURRENCY_PER_NODE_DEFAULT as SLOTS

PHONES = 100
RUNS = 8
WARM_UP_RUNS = 2
FLOOR_COMMANDS = 400
BLOCK = b"\0" * 4096
P50_CLAIM_MS, P99_CLAIM_MS = 10.0, 50.0
FIRST_STEP = {"id": "first", "kind": "adb", "command": "echo refilled"}
# Lots that are drawn for each phone: their sum is anything from nothing to 1.5 s.
PAUSES = [{"id": f"pause-{ms}", "kind": "wait", "durationMs": ms, "probability": 0.5} for ms in (100, 200, 400, 800)]
PACED, BACK_TO_BACK = "paced", "back-to-back"
RECIPES = {PACED: [FIRST_STEP, *PAUSES], BACK_TO_BACK: [FIRST_STEP]}
Note = tuple[float, str, str]


@dataclass(frozen=True)
class Measured:
    """Milliseconds until a command begins at a phone: refills by recipe; floors by how many at once."""

    refills: Mapping[str, Sequence[float]]
    floors: Mapping[int, Sequence[float]]


def main() -> int:
    """0 when both claims are met."""
    with tempfile.TemporaryDirectory(prefix="muster-refill-") as folder:
        measured = asyncio.run(_measure(Path(folder)))
    print(f"{PHONES} phones, {SLOTS} slots, {RUNS} runs a recipe; milliseconds until the command begins at the phone")
    for at_once, values in measured.floors.items():
        _tell(f"floor: fsync and the command, {at_once} at once", values)
    for recipe, values in measured.refills.items():
        _tell(f"slot released → next phone's command, {recipe}", values)
    for recipe, at_once in ((PACED, 1), (BACK_TO_BACK, SLOTS)):
        ratio = statistics.median(measured.refills[recipe]) / statistics.median(measured.floors[at_once])
        print(f"  {recipe}: {ratio:.1f} × the floor at {at_once} at once")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    paced = measured.refills[PACED]
    return max(
        judge("slot released → next phone's first command, p50", _quantile(paced, 50), P50_CLAIM_MS, "ms"),
        judge("slot released → next phone's first command, p99", _quantile(paced, 99), P99_CLAIM_MS, "ms"),
    )


async def _measure(folder: Path) -> Measured:
    times: dict[str, tuple[float, float]] = {}
    async with rig(folder, phones=PHONES, latency="none", agent_module="benchmarks._timed_agent") as running:
        for recipe, steps in RECIPES.items():
            await running.client.put_workflow(recipe, {"workflow_id": recipe, "steps": steps})
        for _ in range(WARM_UP_RUNS):
            await _one(running, BACK_TO_BACK)
        for recipe in RECIPES:
            began = time.monotonic()
            for _ in range(RUNS):
                await _one(running, recipe)
            times[recipe] = (began, time.monotonic())
        begun = await _begun(running)
        floors = {at_once: await _floor(running, at_once=at_once) for at_once in (1, SLOTS)}
        await running.agent.stop()
    notes: list[Note] = json.loads((folder / LOCK_TIMES).read_text())
    refills = {
        recipe: _refills([note for note in notes if began <= note[0] <= ended], begun)
        for recipe, (began, ended) in times.items()
    }
    return Measured(refills, floors)


async def _one(running: Rig, recipe: str) -> None:
    ended = await running.run(recipe)
    assert ended.counts.succeeded == PHONES, ended


async def _begun(running: Rig) -> Mapping[str, list[float]]:
    """For each phone, when it began to run the first command of a preflight, oldest first."""
    return {
        phone: [record["started"] for record in await running.records(phone, 0) if record["text"] == PROBE]
        for phone in await running.started_counts()
    }


def _refills(notes: Sequence[Note], begun: Mapping[str, Sequence[float]]) -> list[float]:
    """Milliseconds for each release, with every slot in use, that was followed by a start at once."""
    held, found = 0, []
    for (at, what, _), (_, following, phone) in pairwise(sorted(notes)):
        if (what, following, held) == ("released", "taken", SLOTS):
            found.append((next(moment for moment in begun[phone] if moment >= at) - at) * 1000)
        held += 1 if what == "taken" else -1
    assert len(found) > RUNS * (PHONES - SLOTS) * 0.9, f"only {len(found)} slots were seen to be refilled"
    return found


async def _floor(running: Rig, *, at_once: int) -> list[float]:
    """Milliseconds for FLOOR_COMMANDS, each as soon as one of `at_once` workers is free for it."""
    adb, numbers = AdbClient(*running.adb_server), count()
    began: dict[str, float] = {}
    before = await running.started_counts()
    serials = [device.serial for device in await adb.devices() if device.state.value == "device"]

    async def work(file: Any) -> None:
        while (number := next(numbers)) < FLOOR_COMMANDS:
            command = f"{PROBE}; : {number}"
            began[command] = time.monotonic()
            await asyncio.to_thread(_synced, file)
            await adb.shell(serials[number % PHONES], command)

    with tempfile.TemporaryFile(dir=running.data) as file:
        await asyncio.gather(*(work(file) for _ in range(at_once)))
    started = {
        record["text"]: record["started"] for phone in before for record in await running.records(phone, before[phone])
    }
    return [(started[command] - at) * 1000 for command, at in began.items()]


def _synced(file: Any) -> None:
    file.write(BLOCK)
    file.flush()
    os.fsync(file.fileno())


def _quantile(values: Sequence[float], per_cent: int) -> float:
    return statistics.quantiles(values, n=100)[per_cent - 1]


def _tell(what: str, values: Sequence[float]) -> None:
    p50, p99 = _quantile(values, 50), _quantile(values, 99)
    print(f"  {what:<52} p50 {p50:6.1f}   p99 {p99:6.1f}   max {max(values):6.1f}   ({len(values)})")
