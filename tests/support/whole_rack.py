"""A rack of virtual phones in the test's own process; backend and agent are processes, between them is what is real."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from tests.support.log_lines import wrong_lines
from tests.support.processes import SECRET, Process, muster
from tests.support.waiting import until

from muster.client.http import MusterClient
from muster.contracts.api import CreateRun, DeviceView, RunDetail, Target, TaskView
from muster.domain.task import TaskState
from muster.sim.phone import Phone
from muster.sim.rack import Rack
from muster.sim.settings import RackSettings

PATIENCE_SEC = 300.0
LOOK_SEC = 0.05
# A look at a run of a hundred tasks costs some CPU, of which such a run has none to spare.
LOOK_SEC_A_TASK = 0.005
PAGE = 200


@dataclass(frozen=True)
class Use:
    """One use of a slot as the agent's log records it. Epoch seconds; `then`: finished, park or again."""

    device_id: str
    task_id: str
    began: float
    ended: float
    then: str


@dataclass(frozen=True)
class Chain:
    """What one phone's tasks took, seconds: in slots, and parked without one for its grace."""

    held: float
    parked: float


@dataclass
class WholeRack:
    """What runs, and what it says of itself."""

    rack: Rack
    client: MusterClient
    agent: Process
    folder: Path

    @property
    def phones(self) -> list[Phone]:
        """In the order in which a run takes them."""
        return sorted(self.rack.phones.values(), key=lambda phone: phone.device_id)

    async def start(self, workflow_id: str, phones: Sequence[Phone] = (), **fields: Any) -> str:
        """A run on these phones, or on all."""
        target = Target(device_ids=[phone.device_id for phone in phones]) if phones else Target()
        run = await self.client.create_run(CreateRun(workflow_id=workflow_id, target=target, **fields))
        return run.run_id

    async def run_until(self, run_id: str, holds: Callable[[RunDetail], bool]) -> RunDetail:
        """Asks for the run until it is as wanted; fails with what it is."""
        run = await self.client.run(run_id)
        try:
            async with asyncio.timeout(PATIENCE_SEC):
                while not holds(run):
                    await asyncio.sleep(LOOK_SEC + LOOK_SEC_A_TASK * len(run.tasks))
                    run = await self.client.run(run_id)
        except TimeoutError:
            raise AssertionError(f"it never became so:\n{describe(run)}\n{self.agent.output}") from None
        return run

    async def ended(self, run_id: str) -> RunDetail:
        """The run when it is over, and the agent's log tells so too."""
        run = await self.run_until(run_id, lambda run: run.status.is_terminal)
        await until(lambda: len(self.uses(run_id)) >= self._starts(run_id))
        return run

    async def devices(self) -> dict[str, DeviceView]:
        """What the backend knows of each phone; a rack has fewer than a page holds."""
        page = await self.client.devices(limit=PAGE)
        return {device.device_id: device for device in page.devices}

    # ---- what the agent's log records --------------------------------------------------------------------------------

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its lines with this text, `at` being their time in epoch seconds."""
        lines = [json.loads(line) for line in self.agent.lines if line.startswith("{") and event in line]
        return [{**line, "at": _epoch(line["timestamp"])} for line in lines if line["event"] == event]

    def _starts(self, run_id: str) -> int:
        return sum(line["run_id"] == run_id for line in self.logged("Task started"))

    def uses(self, run_id: str) -> list[Use]:
        """Each use of a slot for this run, in the order in which they ended."""
        lines = [line for line in self.logged("Slot given back") if line["run_id"] == run_id]
        return [
            Use(line["device_id"], line["task_id"], line["at"] - line["held_ms"] / 1000, line["at"], line["then"])
            for line in lines
        ]

    def chains(self, run_id: str) -> list[Chain]:
        """Each phone's part of the run."""
        uses = self.uses(run_id)
        ends = [
            line for event in ("The phone answers again", "Task finished status=failed") for line in self.logged(event)
        ]
        of_phone: dict[str, list[Use]] = {}
        for use in uses:
            of_phone.setdefault(use.device_id, []).append(use)
        return [
            Chain(
                sum(use.ended - use.began for use in own),
                sum(_parked_sec(use, ends) for use in own if use.then == "park"),
            )
            for own in of_phone.values()
        ]


def _parked_sec(use: Use, ends: Sequence[Mapping[str, Any]]) -> float:
    """Until the phone answered, or its grace was over and the task's end was in the journal."""
    times: list[float] = [line["at"] for line in ends if line["device_id"] == use.device_id]
    return min(time for time in times if time >= use.ended) - use.ended


@asynccontextmanager
async def whole_rack(
    folder: Path,
    settings: RackSettings,
    *workflows: Mapping[str, Any],
    slots: int = 20,
    environment: Mapping[str, str] | None = None,
    on_ready: Literal["all online", "no wait"] = "all online",
) -> AsyncIterator[WholeRack]:
    """Everything up and the phones known to the backend. `environment`: settings of backend and agent."""
    async with (
        Rack(settings) as rack,
        muster(
            "backend",
            "--port",
            "0",
            "--data",
            str(folder / "backend"),
            "--log-json",
            cwd=folder,
            environment=environment,
        ) as backend,
    ):
        url = (await backend.wait_for_line(r"muster backend ready on (\S+)"))[1]
        options = ["--backend", url, "--node-id", "PC-01", "--data", str(folder / "node"), "--log-json"]
        options += ["--adb-server", "{}:{}".format(*rack.adb_address), "--vendor-url", rack.vendor_url or "none"]
        options += ["--concurrency", str(slots)]
        async with (
            MusterClient(url, secret=SECRET) as client,
            muster("agent", *options, cwd=folder, environment=environment) as agent,
        ):
            for workflow in workflows:
                await client.put_workflow(workflow["workflow_id"], workflow)
            await agent.wait_for_line("muster agent PC-01 ready")
            whole = WholeRack(rack, client, agent, folder)
            if on_ready == "all online":
                await _all_online(whole)
            try:
                yield whole
            finally:
                (folder / "agent.log").write_text(agent.output, encoding="utf-8")
            run_ids = [run.run_id for run in (await client.runs(limit=PAGE)).runs]
        assert "Traceback" not in agent.output + backend.output
        phones = [name for phone in rack.phones.values() for name in (phone.device_id, phone.serial)]
        wrong = wrong_lines(
            agent.lines, ready="muster agent PC-01 ready", of_every_line=["node_id"], run_ids=run_ids, phones=phones
        )
        wrong += wrong_lines(
            backend.lines, ready="muster backend ready", of_every_line=[], run_ids=run_ids, phones=phones
        )
        assert not wrong, "\n".join(wrong)


async def _all_online(whole: WholeRack) -> None:
    async with asyncio.timeout(PATIENCE_SEC):
        online = 0
        while online < len(whole.phones):
            await asyncio.sleep(LOOK_SEC)
            online = sum(device.online for device in (await whole.devices()).values())


def task_of(run: RunDetail, phone: Phone) -> TaskView:
    """The phone's part of the run."""
    return next(task for task in run.tasks if task.device_id == phone.device_id)


def is_waiting(task: TaskView) -> bool:
    """As the Run Monitor shows it: WAIT, until when."""
    return task.status is TaskState.WAITING and task.wait_until is not None


def most_at_once(uses: Sequence[Use]) -> int:
    """How many slots were in use at the same time. The log tells lengths to the millisecond: less is no overlap."""
    edges = sorted([(use.began, 1) for use in uses] + [(use.ended - 0.001, 0) for use in uses])
    now = most = 0
    for _, begins in edges:
        now += 1 if begins else -1
        most = max(most, now)
    return most


def describe(run: RunDetail) -> str:
    """Every task on a line."""
    lines = (
        f"{task.device_id} {task.status} {task.failure_reason} step={task.step_id} {task.error_message or ''}"
        for task in run.tasks
    )
    return "\n".join((f"{run.run_id} {run.status}", *lines))


def _epoch(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
