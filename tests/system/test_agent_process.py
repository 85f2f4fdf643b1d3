"""The agent as a process: killed, stopped and doubled; every phone still ends in exactly one state."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.processes import SECRET, Process, muster, run_muster

from muster.client.http import MusterClient
from muster.contracts.api import CreateRun, RunDetail

pytestmark = [pytest.mark.system, pytest.mark.timeout(400), pytest.mark.xdist_group("processes")]

# Takes some seconds by trying in vain, so that there is time to hit a running task.
SLOW = {
    "workflow_id": "slow",
    "defaultOnFailure": "continue",
    "steps": [{"id": "try", "kind": "adb", "command": "false", "onFailure": "retry", "retryCount": 4}],
}


@dataclass
class Site:
    """A rack of three phones and a backend; agents come and go."""

    folder: Path
    client: MusterClient
    options: list[str]
    backend: Process

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Process]:
        """One phone at a time, so that a run has tasks that run and tasks that wait."""
        async with muster("agent", *self.options, "--concurrency", "1", cwd=self.folder) as process:
            await process.wait_for_line("muster agent PC-01 ready")
            yield process

    async def run_until(self, run_id: str, holds: Callable[[RunDetail], bool]) -> RunDetail:
        """Asks for the run until it is as wanted."""
        async with asyncio.timeout(120):
            while True:
                run = await self.client.run(run_id)
                if holds(run):
                    return run
                await asyncio.sleep(0.02)

    async def ended(self, run_id: str) -> RunDetail:
        return await self.run_until(run_id, lambda run: run.status.is_terminal)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    rack_options = ["--devices", "3", "--latency", "none", "--adb-server", "127.0.0.1:0", "--vendor-port", "0"]
    async with (
        muster("sim", *rack_options, "--control-port", "0", cwd=folder) as rack,
        muster("backend", "--port", "0", "--data", str(folder / "backend"), cwd=folder) as backend,
    ):
        adb = (await rack.wait_for_line(r"muster sim ready: .*adb server ([^,\s]+)"))[1]
        url = (await backend.wait_for_line(r"muster backend ready on (\S+)"))[1]
        options = ["--backend", url, "--node-id", "PC-01", "--data", str(folder / "node")]
        async with MusterClient(url, secret=SECRET) as client:
            await client.put_workflow("slow", SLOW)
            yield Site(folder, client, [*options, "--adb-server", adb, "--vendor-url", "none"], backend)


async def test_a_killed_agent_loses_nothing_and_its_running_task_ends_as_node_restarted(tmp_path: Path) -> None:
    async with site(tmp_path) as rig:
        async with rig.agent() as agent:
            run = await rig.client.create_run(CreateRun(workflow_id="slow"))
            await rig.run_until(run.run_id, lambda run: run.counts.running == 1)
            agent.process.kill()
            await agent.ended()
        async with rig.agent():
            detail = await rig.ended(run.run_id)
    ends = Counter((task.status, task.failure_reason) for task in detail.tasks)
    assert ends == {("succeeded", None): 2, ("failed", "node_restarted"): 1}


async def test_a_stopped_agent_lets_its_running_task_end_and_the_next_takes_up_the_rest(tmp_path: Path) -> None:
    async with site(tmp_path) as rig:
        async with rig.agent() as agent:
            run = await rig.client.create_run(CreateRun(workflow_id="slow"))
            await rig.run_until(run.run_id, lambda run: run.counts.running == 1)
            agent.interrupt()
            assert await agent.ended() == 0
        drained = await rig.client.run(run.run_id)
        assert (drained.counts.succeeded, drained.counts.queued) == (1, 2)
        async with rig.agent():
            detail = await rig.ended(run.run_id)
    assert [task.status for task in detail.tasks] == ["succeeded"] * 3


async def test_what_happens_while_the_backend_is_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    async with site(tmp_path) as rig, rig.agent() as agent:
        run = await rig.client.create_run(CreateRun(workflow_id="slow"))
        await rig.run_until(run.run_id, lambda run: run.counts.running == 1)
        rig.backend.process.kill()
        await rig.backend.ended()
        await agent.wait_for_line("Task finished")
        await agent.wait_for_line("Events could not be sent")
        port = rig.client.base_url.rpartition(":")[2]
        async with muster("backend", "--port", port, "--data", str(tmp_path / "backend"), cwd=tmp_path) as back:
            await back.wait_for_line("muster backend ready")
            detail = await rig.ended(run.run_id)
    assert [task.status for task in detail.tasks] == ["succeeded"] * 3


async def test_a_second_agent_under_the_same_id_refuses_to_start_and_says_why(tmp_path: Path) -> None:
    async with site(tmp_path) as rig, rig.agent():
        elsewhere = [option.replace(str(tmp_path / "node"), str(tmp_path / "other")) for option in rig.options]
        second = await run_muster("agent", *elsewhere, cwd=tmp_path)
    assert second.status == 2
    assert "PC-01" in second.stderr
    assert "runs on this PC already (process" in second.stderr
