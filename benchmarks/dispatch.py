"""From `POST /api/runs` to the first command at a phone: rack, backend and agent on one PC, phones without latency.

The end is taken from the phones' own records of what they were asked, the beginning just before the request is sent;
both are readings of this machine's one monotonic clock.
"""

import asyncio
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks._claims import judge
from benchmarks._rig import Rig, rig
from muster.contracts.api import CreateRun

PHONES = 20
RUNS = 60
WARM_UP_RUNS = 5
CLAIM_MS = 100.0
COMMAND = "echo dispatched"
RECIPE = {"workflow_id": "dispatch", "steps": [{"id": "first", "kind": "adb", "command": COMMAND}]}


def main() -> int:
    """0 when the median is below the claim."""
    with tempfile.TemporaryDirectory(prefix="muster-dispatch-") as folder:
        measured = asyncio.run(_measure(Path(folder)))
    print(f"{RUNS} runs over {PHONES} phones; milliseconds from POST /api/runs until")
    _tell("the first command reaches a phone (preflight)", [run.command_ms for run in measured])
    _tell("the recipe's first step reaches a phone", [run.step_ms for run in measured])
    _tell("the 201 is back", [run.answer_ms for run in measured])
    median = statistics.median(run.command_ms for run in measured)
    return judge("POST /api/runs → first command at a phone, median", median, CLAIM_MS, "ms")


@dataclass(frozen=True)
class Dispatch:
    """One run's milliseconds since just before its POST."""

    answer_ms: float
    command_ms: float
    step_ms: float


async def _measure(folder: Path) -> list[Dispatch]:
    async with rig(folder, phones=PHONES, latency="none") as running:
        await running.client.put_workflow("dispatch", RECIPE)
        measured = [await _one(running) for _ in range(WARM_UP_RUNS + RUNS)]
    return measured[WARM_UP_RUNS:]


async def _one(running: Rig) -> Dispatch:
    """One run on all phones, from its request to its end."""
    before = await running.started_counts()
    began = time.monotonic()
    created = await running.client.create_run(CreateRun(workflow_id="dispatch"))
    answered = time.monotonic()
    ended = await running.end_of(created.run_id)
    assert ended.counts.succeeded == PHONES, ended
    records = [record for phone, count in before.items() for record in await running.records(phone, count)]
    firsts = [record["started"] for record in records if record["started"] >= began]
    steps = [record["started"] for record in records if COMMAND in record["text"]]
    return Dispatch((answered - began) * 1000, (min(firsts) - began) * 1000, (min(steps) - began) * 1000)


def _tell(what: str, values: list[float]) -> None:
    p95 = statistics.quantiles(values, n=20)[-1]
    print(f"  {what:<46} median {statistics.median(values):6.1f}   p95 {p95:6.1f}   max {max(values):6.1f}")
