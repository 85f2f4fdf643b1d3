"""From `POST /api/runs` to the first command at a phone: rack, backend and agent on one PC, phones without latency.

The end is taken from the phones' own records of what they were asked, the beginning just before the request is sent;
both are readings of this machine's one monotonic clock.
"""

import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muster.cli.family import ChildPlan, Family
from muster.cli.parts import agent_plan, backend_plan, own_secret, place_of, rack_plan
from muster.client.follow import follow_run
from muster.client.http import MusterClient
from muster.client.wire import Wire
from muster.contracts.api import CreateRun
from muster.runtime.clock import SystemClock
from muster.runtime.private_folder import make_private
from muster.runtime.settings import load_settings

PHONES = 20
RUNS = 60
WARM_UP_RUNS = 5
CLAIM_MS = 100.0
NODE_ID = "PC-01"
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
    met = median < CLAIM_MS
    print(f"{'ok  ' if met else 'FAIL'} median {median:.1f} ms to the first command, claimed below {CLAIM_MS:g} ms")
    return 0 if met else 1


@dataclass(frozen=True)
class Dispatch:
    """One run's milliseconds since just before its POST."""

    answer_ms: float
    command_ms: float
    step_ms: float


async def _measure(folder: Path) -> list[Dispatch]:
    settings = load_settings({"MUSTER_DATA": folder}, {}, folder)
    secret = own_secret(settings)
    async with Family() as family:
        rack_child = rack_plan(devices=PHONES, seed=1, profile=None, data=make_private(folder / "rack"))
        silent = ChildPlan("sim", [*rack_child.arguments, "--latency", "none"], rack_child.ready)
        rack = await family.start(silent, _ignore)
        backend = await family.start(backend_plan(settings, secret, port=0), _ignore)
        places, address = await asyncio.gather(rack.ready(), backend.ready())
        plan = agent_plan(
            settings,
            secret,
            node_id=NODE_ID,
            backend_url=address["url"],
            adb_server=places["adb"],
            vendor_url=place_of("vendor", places),
        )
        agent = await family.start(plan, _ignore)
        await agent.ready()
        control = Wire(place_of("control", places) or "", None, None)
        try:
            async with MusterClient(address["url"]) as client:
                await client.put_workflow("dispatch", RECIPE)
                measured = [await _one(client, control) for _ in range(WARM_UP_RUNS + RUNS)]
        finally:
            await control.close()
    return measured[WARM_UP_RUNS:]


async def _one(client: MusterClient, control: Wire) -> Dispatch:
    """One run on all phones, from its request to its end."""
    before = await _started_counts(control)
    began = time.monotonic()
    created = await client.create_run(CreateRun(workflow_id="dispatch"))
    answered = time.monotonic()
    async for progress in follow_run(client, created.run_id, clock=SystemClock(), rng=random.Random(1)):
        last = progress
    assert last.run is not None and last.run.counts.succeeded == PHONES, last.run
    records = [record for phone, count in before.items() for record in await _records(control, phone, count)]
    firsts = [record["started"] for record in records if record["started"] >= began]
    steps = [record["started"] for record in records if COMMAND in record["text"]]
    return Dispatch((answered - began) * 1000, (min(firsts) - began) * 1000, (min(steps) - began) * 1000)


async def _started_counts(control: Wire) -> Mapping[str, int]:
    phones = json.loads((await control.fetch("GET", "/phones")).body)["phones"]
    return {phone["device_id"]: phone["commands"]["started"] for phone in phones}


async def _records(control: Wire, device_id: str, after: int) -> list[dict[str, Any]]:
    answer = await control.fetch("GET", f"/phones/{device_id}/commands?after={after}")
    records: list[dict[str, Any]] = json.loads(answer.body)["commands"]
    return records


def _tell(what: str, values: list[float]) -> None:
    p95 = statistics.quantiles(values, n=20)[-1]
    print(f"  {what:<46} median {statistics.median(values):6.1f}   p95 {p95:6.1f}   max {max(values):6.1f}")


def _ignore(_line: str) -> None:
    """The children's logs are of no interest here; their last lines are told when one fails."""
