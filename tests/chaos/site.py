"""A rack, a backend and an agent as processes that are killed at any instant and started again on the same data."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.processes import SECRET, Process, muster
from tests.support.waiting import until

from muster.client.http import MusterClient
from muster.contracts.api import CreateRun

DEVICES = 20
SLOTS = 7
WORK = "muster-work"
_MARK = {"id": "mark", "kind": "adb", "command": f"echo {WORK} {{{{RUN_ID}}}} && sleep 0.1"}
_MARK_AGAIN = {"id": "mark-again", "kind": "adb", "command": f"echo {WORK} {{{{RUN_ID}}}} && sleep 0.2"}
_SHOT = {"id": "shot", "kind": "screenshot"}
QUICK = ("stored", "late", "files", "steady")
RECIPES: dict[str, list[dict[str, Any]]] = {
    # Its picture is the task's; stored before the end.
    "stored": [
        _MARK,
        _SHOT,
        {"id": "upload", "kind": "upload", "source": "shot", "onFailure": "retry", "retryCount": 3},
        _MARK_AGAIN,
    ],
    # Its picture is stored when the task is over.
    "late": [_MARK, _SHOT, _MARK_AGAIN],
    # A file from the phone to the node's disk.
    "files": [
        _MARK,
        {"id": "write", "kind": "adb", "command": "echo {{RUN_ID}} > /data/local/tmp/chaos.txt"},
        {"id": "fetch", "kind": "pull", "source": "/data/local/tmp/chaos.txt"},
        _MARK_AGAIN,
    ],
    # Each step may be begun again when nobody knows how far it came.
    "steady": [{**_MARK, "idempotent": True}, _SHOT, {**_MARK_AGAIN, "idempotent": True}],
    # Long enough to be interrupted.
    "slow": [{"id": "long", "kind": "adb", "command": f"echo {WORK} {{{{RUN_ID}}}} && sleep 60"}],
}


@dataclass(frozen=True)
class Work:
    """A command of a recipe on a phone, as the phone itself has it in its log. Monotonic seconds."""

    run_id: str
    started: float
    ended: float | None


@dataclass
class Site:
    """One rack and one backend, for many lives of the agent. `max_attempts`, `stopped`, `shaken` are by run.

    `shaken`: its phones lose their adb server.
    """

    folder: Path
    rack: Process
    stack: AsyncExitStack
    adb: str = ""
    control: str = ""
    vendor: str = ""
    max_attempts: dict[str, int] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    shaken: set[str] = field(default_factory=set)
    work: dict[str, dict[int, Work]] = field(default_factory=dict)
    url: str = ""
    backend: Process = field(init=False)
    client: MusterClient = field(init=False)

    @property
    def data(self) -> Path:
        """The agent's own folder."""
        return self.folder / "node" / "agent"

    @property
    def journal(self) -> Path:
        return self.data / "journal.sqlite3"

    @property
    def database(self) -> Path:
        return self.folder / "backend" / "muster.db"

    @property
    def objects(self) -> Path:
        return self.folder / "backend" / "objects" / "artifacts"

    @property
    def locks(self) -> Path:
        return self.folder / "home" / "state" / "muster" / "locks"

    # ---- processes ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def agent(self, pc: Path | None = None) -> AsyncIterator[Process]:
        """On its way up: not ready yet. `pc`: the folder of another PC, with locks and data of its own."""
        folder = pc or self.folder
        told = ["--backend", self.url, "--node-id", "PC-01", "--data", str(folder / "node")]
        phones = ["--adb-server", self.adb, "--vendor-url", self.vendor, "--concurrency", str(SLOTS)]
        async with muster("agent", *told, *phones, cwd=folder) as process:
            yield process

    async def restart_backend(self) -> None:
        """The port and the data stay."""
        await self.stack.enter_async_context(self._running_backend())

    @asynccontextmanager
    async def _running_backend(self) -> AsyncIterator[None]:
        port = self.url.rpartition(":")[2] or "0"
        where = ["--port", port, "--data", str(self.folder / "backend")]
        # Phones stay online, however slow this machine is between two lives of the agent.
        patience = {"ONLINE_WINDOW_SEC": "600", "NODE_LOST_AFTER_SEC": "3600"}
        async with muster("backend", *where, cwd=self.folder, environment=patience) as backend:
            self.url = (await backend.wait_for_line(r"muster backend ready on (\S+)"))[1]
            self.backend = backend
            yield

    async def opened(self, agent: Process) -> None:
        """The agent has its data folder: what a kill may spoil begins here."""
        lock, owner = self.data / "agent.lock", f"process {agent.process.pid}\n"
        await until(lambda: agent.is_silent or (lock.exists() and lock.read_text() == owner), within_sec=90)

    # ---- work --------------------------------------------------------------------------------------------------------

    async def add_run(self, recipe: str, max_attempts: int = 1) -> str:
        """A task for each phone."""
        run = await self.client.create_run(CreateRun(workflow_id=recipe, max_attempts=max_attempts))
        self.max_attempts[run.run_id] = max_attempts
        return run.run_id

    async def stop_run(self, run_id: str) -> None:
        self.stopped.add(run_id)
        await self.client.stop_run(run_id)

    async def open_runs(self) -> list[str]:
        """Oldest first."""
        listed = (await self.client.runs(limit=100)).runs
        return sorted(run.run_id for run in listed if not run.status.is_terminal)

    async def note_work(self) -> None:
        """Copies the phones' own records; they keep the last few hundred."""
        phones = (await self.ask_rack("/phones"))["phones"]
        for name in (phone["device_id"] for phone in phones):
            kept = self.work.setdefault(name, {})
            open_ones = [number for number, work in kept.items() if work.ended is None]
            after = min(open_ones) - 1 if open_ones else max(kept, default=0)
            for record in (await self.ask_rack(f"/phones/{name}/commands?after={after}"))["commands"]:
                if (place := record["text"].find(f"echo {WORK} ")) >= 0:
                    run_id = record["text"][place:].split()[2].strip("'")
                    kept[record["number"]] = Work(run_id, record["started"], record["ended"])

    async def ask_rack(self, path: str) -> Any:
        return await asyncio.to_thread(_get, f"{self.control}{path}")


@asynccontextmanager
async def site(folder: Path, devices: int = DEVICES) -> AsyncIterator[Site]:
    """Ready for agents; the backend may be ended and started again by whoever has the site."""
    rack_options = ["--devices", str(devices), "--latency", "none", "--adb-server", "127.0.0.1:0"]
    ports = ["--vendor-port", "0", "--control-port", "0", "--data", str(folder / "rack")]
    async with muster("sim", *rack_options, *ports, cwd=folder) as rack, AsyncExitStack() as stack:
        rig = Site(folder, rack, stack)
        await rig.restart_backend()
        places = await rack.wait_for_line(r"ready: .*adb server (\S+), vendor (\S+), control (\S+)")
        rig.adb, rig.vendor, rig.control = places[1], places[2], places[3]
        rig.client = await stack.enter_async_context(MusterClient(rig.url, secret=SECRET))
        for name, steps in RECIPES.items():
            await rig.client.put_workflow(name, {"workflow_id": name, "steps": steps})
        yield rig


def _get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=30) as answer:
        return json.loads(answer.read())
