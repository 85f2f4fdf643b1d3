"""A rack, a backend and an agent, each a process of its own, on free ports and in a folder of the benchmark's own."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muster.cli.family import Child, ChildPlan, Family
from muster.cli.parts import agent_plan, backend_plan, own_secret, place_of, rack_plan
from muster.client.follow import follow_run
from muster.client.http import MusterClient
from muster.client.wire import Wire
from muster.contracts.api import CreateRun, RunListItem
from muster.runtime.clock import SystemClock
from muster.runtime.private_folder import make_private
from muster.runtime.settings import load_settings

NODE_ID = "PC-01"


@dataclass(frozen=True)
class Rig:
    """What runs. `adb_server`: host and port. `data`: the data folder of backend and agent. `secret`: the node's."""

    client: MusterClient
    url: str
    secret: str
    control: Wire
    agent: Child
    adb_server: tuple[str, int]
    data: Path

    async def run(self, workflow_id: str) -> RunListItem:
        """One run on all phones, from its request to its end."""
        created = await self.client.create_run(CreateRun(workflow_id=workflow_id))
        return await self.end_of(created.run_id)

    async def end_of(self, run_id: str) -> RunListItem:
        """Waits until the run is over."""
        async for progress in follow_run(self.client, run_id, clock=SystemClock(), rng=random.Random(1)):
            last = progress
        assert last.run is not None, "a run that has ended has been seen"
        return last.run

    async def started_counts(self) -> Mapping[str, int]:
        """How many commands each phone has been asked for so far."""
        phones = json.loads((await self.control.fetch("GET", "/phones")).body)["phones"]
        return {phone["device_id"]: phone["commands"]["started"] for phone in phones}

    async def records(self, device_id: str, after: int) -> list[dict[str, Any]]:
        """What the phone was asked for since its command `after`. Times: the machine's monotonic clock."""
        answer = await self.control.fetch("GET", f"/phones/{device_id}/commands?after={after}")
        records: list[dict[str, Any]] = json.loads(answer.body)["commands"]
        return records


@asynccontextmanager
async def rig(
    folder: Path, *, phones: int, latency: str, agent_module: str = "muster", vendor: bool = True
) -> AsyncIterator[Rig]:
    """All three, ready; ended on leaving. `vendor` False: screenshots come through adb."""
    settings = load_settings({"MUSTER_DATA": folder}, {}, folder)
    secret = own_secret(settings)
    async with Family() as family:
        rack_child = rack_plan(devices=phones, seed=1, profile=None, data=make_private(folder / "rack"))
        rack_child = replace(rack_child, arguments=[*rack_child.arguments, "--latency", latency])
        rack = await family.start(rack_child, _ignore)
        backend = await family.start(backend_plan(settings, secret, port=0), _ignore)
        places, address = await asyncio.gather(rack.ready(), backend.ready())
        plan: ChildPlan = agent_plan(
            settings,
            secret,
            node_id=NODE_ID,
            backend_url=address["url"],
            adb_server=places["adb"],
            vendor_url=place_of("vendor", places) if vendor else None,
        )
        agent = await family.start(replace(plan, module=agent_module), _ignore)
        await agent.ready()
        host, _, port = places["adb"].rpartition(":")
        control = Wire(place_of("control", places) or "", None, None)
        try:
            async with MusterClient(address["url"]) as client:
                yield Rig(client, address["url"], secret, control, agent, (host, int(port)), folder)
        finally:
            await control.close()


def _ignore(_line: str) -> None:
    """The children's logs are of no interest here; their last lines are told when one fails."""
