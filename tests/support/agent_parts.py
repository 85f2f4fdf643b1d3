"""Parts to run the agent's core in memory: a backend, an executor, runs and tasks. Each implements a real protocol."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.phones import MemoryPhones

from muster.agent.group_commit import GroupCommit, OpenCommits
from muster.agent.intake import plan_of
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.link import LinkBroken, LinkError
from muster.agent.narrate import Narrator
from muster.agent.observe.port import NoObserver
from muster.agent.ports import Executor, Reporter, RunPlan, StepProgress, Task, TaskOutcome
from muster.contracts.api import UploadRequest, UploadTicket
from muster.contracts.commands import PullAnswer, RunStart, TaskAssignment
from muster.contracts.events import CallbackAnswer, EventVerdict
from muster.domain.limits import OUTBOX_TELEMETRY_EVENTS_MAX
from muster.domain.task import StepState, TaskState
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.ids import id_source

NODE = "PC-01"
RECIPE: dict[str, Any] = {
    "workflow_id": "test_v1",
    "steps": [{"id": "hello", "kind": "adb", "command": "echo hello"}],
}
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100


def uuid(number: int, kind: int = 0) -> str:
    """A readable UUID: the same for the same numbers."""
    return f"0190{kind:04x}-0000-7000-8000-{number:012x}"


def run_start(*devices: str, run: int = 1, **changes: Any) -> RunStart:
    """A command for one task on each of `devices`, in this order."""
    return RunStart.model_validate(
        {
            "command_id": uuid(run, kind=1),
            "run_id": uuid(run, kind=2),
            "workflow_id": "test_v1",
            "version": 1,
            "definition": RECIPE,
            "globalTimeoutMs": 90_000,
            "tasks": [
                {"task_id": uuid(run * 1000 + number, kind=3), "device_id": device}
                for number, device in enumerate(devices)
            ],
            **changes,
        }
    )


def command(start: RunStart) -> dict[str, Any]:
    """As the pull's answer carries it."""
    return start.model_dump(mode="json", by_alias=True, exclude_none=True)


def plan(start: RunStart) -> RunPlan:
    """The run as the executor takes it."""
    made = plan_of(start)
    assert isinstance(made, RunPlan)
    return made


def tasks_of(start: RunStart) -> list[Task]:
    """The tasks as the scheduler takes them."""
    made = plan(start)
    return [Task(task.task_id, task.device_id, task.attempt, made) for task in start.tasks]


def narrator(clock: Clock | None = None) -> Narrator:
    """Speaks for PC-01."""
    return Narrator(NODE, 20, clock or SystemClock())


@asynccontextmanager
async def opened_journal(
    folder: Path, *, telemetry_max: int = OUTBOX_TELEMETRY_EVENTS_MAX, open_commits: OpenCommits = GroupCommit
) -> AsyncIterator[SqliteJournal]:
    """A real journal in `folder`; opening the same folder again is a restart."""
    spool = folder / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    journal = SqliteJournal(
        folder / "journal.sqlite3",
        new_id=id_source(SystemClock()),
        spool_folder=spool,
        telemetry_max=telemetry_max,
        open_commits=open_commits,
    )
    async with journal:
        yield journal


async def accept(journal: SqliteJournal, start: RunStart) -> Sequence[TaskAssignment]:
    """As the pull loop does it."""
    tell = narrator()
    return await journal.accept_run(start, tell.command_ack(start.command_id), tell.run_started(start))


async def told(journal: SqliteJournal) -> list[dict[str, Any]]:
    """Every event that waits in the outbox, oldest first."""
    return [event.body for event in await journal.pending(10_000, 1 << 30)]


def types_of(events: Sequence[dict[str, Any]]) -> list[str]:
    """What the events are, for reading in an assertion."""
    return [event["type"] for event in events]


def step(status: StepState = StepState.RUNNING, step_id: str = "hello") -> StepProgress:
    """A step's progress."""
    return StepProgress(step_id=step_id, phase="LOGIN_FLOW", status=status, step_index=0, steps_total=1)


# ---- a backend in memory -------------------------------------------------------------------------------------------


@dataclass
class MemoryBackend:
    """`BackendLink`: remembers events by id, applies each once, hands out commands until they are acknowledged."""

    applied: list[dict[str, Any]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    before_callback: Callable[[Sequence[dict[str, Any]]], LinkError | None] = lambda _events: None
    after_callback: Callable[[Sequence[dict[str, Any]]], LinkError | None] = lambda _events: None
    judge: Callable[[dict[str, Any]], EventVerdict | None] = lambda _event: None
    upload_fault: Callable[[], LinkError | None] = lambda: None
    pulls: list[PullAnswer | LinkError] = field(default_factory=list)
    pull_times: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def pull(self, wait_ms: int) -> PullAnswer:
        self.pull_times += 1
        if self.pulls:
            answer = self.pulls.pop(0)
            if isinstance(answer, LinkError):
                raise answer
            return answer
        async with self.changed:
            await self.changed.wait_for(lambda: bool(self.unacknowledged()))
        return PullAnswer(commands=self.unacknowledged())

    async def leave(self) -> None:
        """As `composition.NodeLink`: nobody waits for the seat."""

    def unacknowledged(self) -> list[dict[str, Any]]:
        acknowledged = {event["payload"]["command_id"] for event in self.applied if event["type"] == "command_ack"}
        return [command for command in self.commands if command.get("command_id") not in acknowledged]

    async def hand_out(self, raw: dict[str, Any]) -> None:
        async with self.changed:
            self.commands.append(raw)
            self.changed.notify_all()

    async def callback(self, events: Sequence[dict[str, Any]]) -> CallbackAnswer:
        async with self.changed:
            self.batches.append(list(events))
            self.changed.notify_all()
        if (fault := self.before_callback(events)) is not None:
            raise fault
        results = [self._apply(event) for event in events]
        async with self.changed:
            self.changed.notify_all()
        if (fault := self.after_callback(events)) is not None:
            raise fault
        return CallbackAnswer(ok=all(result.ok for result in results), results=results)

    def _apply(self, event: dict[str, Any]) -> EventVerdict:
        event_id = event["event_id"]
        if event_id in self.seen:
            return EventVerdict(event_id=event_id, ok=True, duplicate=True)
        verdict = self.judge(event) or EventVerdict(event_id=event_id, ok=True)
        if verdict.ok:
            self.seen.add(event_id)
            self.applied.append(event)
        return verdict

    async def applied_until(self, enough: Callable[[list[dict[str, Any]]], bool], within_sec: float = 20) -> None:
        """Waits for what the backend knows to be as wanted."""
        async with asyncio.timeout(within_sec), self.changed:
            await self.changed.wait_for(lambda: enough(self.applied))

    async def was_called(self, times: int, within_sec: float = 20) -> None:
        """Waits for so many callbacks, whatever became of them."""
        async with asyncio.timeout(within_sec), self.changed:
            await self.changed.wait_for(lambda: len(self.batches) >= times)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of one type, in the order in which they were applied."""
        return [event["payload"] for event in self.applied if event["type"] == kind]

    async def request_upload(self, request: UploadRequest) -> UploadTicket:
        if (fault := self.upload_fault()) is not None:
            raise fault
        key = f"manual/{NODE}/{request.task_id}/{request.taken_at}-{len(self.objects)}.png"
        return UploadTicket(artifact_id=request.task_id, key=key, url=f"/upload/{key}", expires_at=request.taken_at)

    async def put_object(self, ticket: UploadTicket, path: Path) -> None:
        self.objects[ticket.key] = await asyncio.to_thread(path.read_bytes)


def broken() -> LinkBroken:
    """The backend is not there."""
    return LinkBroken("connection refused")


# ---- an executor in memory -----------------------------------------------------------------------------------------


@dataclass
class GatedExecutor:
    """`Executor`: each task starts, then waits until the test lets it end. Notes who runs at the same time."""

    started: list[str] = field(default_factory=list)
    torn_down: list[str] = field(default_factory=list)
    at_once: int = 0
    at_once_max: int = 0
    devices: list[str] = field(default_factory=list)
    outcome: Callable[[Task], TaskOutcome] = lambda _task: TaskOutcome(TaskState.SUCCEEDED)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _gates: dict[str, asyncio.Event] = field(default_factory=dict)
    open_gates: bool = False
    teardown_gate: asyncio.Event | None = None

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome:
        assert task.device_id not in self.devices, "two tasks on one device"
        self.devices.append(task.device_id)
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        gate = self._gates.setdefault(task.device_id, asyncio.Event())
        try:
            await report.started(f"handle-of-{task.device_id}")
            async with self.changed:
                self.started.append(task.task_id)
                self.changed.notify_all()
            if not self.open_gates:
                await gate.wait()
            return self.outcome(task)
        finally:
            if self.teardown_gate is not None:
                await self.teardown_gate.wait()
            self.torn_down.append(task.task_id)
            self.at_once -= 1
            self.devices.remove(task.device_id)
            self._gates.pop(task.device_id)

    def let_end(self, device_id: str) -> None:
        self._gates[device_id].set()

    async def has_started(self, count: int, within_sec: float = 20) -> None:
        """Waits until so many tasks have started in all."""
        async with asyncio.timeout(within_sec), self.changed:
            await self.changed.wait_for(lambda: len(self.started) >= count)


class Replaced(NoObserver):
    """In an agent's parts: its tasks are executed by the test."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def executor(self, executor: Executor) -> Executor:
        return self._executor


@dataclass
class SlowRack:
    """`composition.Rack`: it is settled when the test says so."""

    phones: MemoryPhones = field(default_factory=MemoryPhones)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    vendor_ok: bool = True
    last_vendor_ok_ms: int | None = None

    def subscribe(self, changed: asyncio.Event) -> None:
        pass

    async def wait_settled(self) -> None:
        await self.settled.wait()


@dataclass
class MemoryLocks:
    """`DeviceLocks`: what the test puts into `elsewhere` is held by another process."""

    elsewhere: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)

    def acquire(self, device_id: str) -> bool:
        assert device_id not in self.held
        if device_id in self.elsewhere:
            return False
        self.held.add(device_id)
        return True

    def release(self, device_id: str) -> None:
        self.held.remove(device_id)

    def why_refused(self, device_id: str) -> str:
        return f"another agent has {device_id}"


def seeded(seed: int = 1) -> random.Random:
    """Randomness that is the same each time."""
    return random.Random(seed)


class HastyClock(SystemClock):
    """Real time, but nobody sleeps: every wait is over at once, and noted with how long it would have been."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._ahead = 0.0
        self._woken = asyncio.Event()

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._ahead += seconds
        self._woken.set()
        await asyncio.sleep(0)

    async def has_slept(self, times: int, within_sec: float = 20) -> None:
        """Waits for so many waits."""
        async with asyncio.timeout(within_sec):
            while len(self.slept) < times:
                self._woken.clear()
                await self._woken.wait()
