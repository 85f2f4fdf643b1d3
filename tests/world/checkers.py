"""The agent's promises, checked apart from what it is asked to do. Each is a sentence; each raises Violation.

They know the phones, the locks, the disk's tables and the backend: nothing of the agent's own state.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from tests.world.backend import Backend
from tests.world.disk import Disk
from tests.world.trace import Entry, Trace, Violation

from muster.agent import journal_tables as tables
from muster.agent.journal import JournaledTask
from muster.agent.preflight.known_screen import GO_HOME
from muster.contracts.events import EventType
from muster.domain.task import TaskState

IDLE_SEC = 3.0
PROBE_WORK = "echo"
NOT_OF_A_RUN = (PROBE_WORK, GO_HOME.split()[0], "screenshot", "push", "pull")
# An agent that knows that an attempt is stale stops it; so long may it take, besides what its disk takes.
STOP_SEC = 0.5
Check = Callable[[Entry], None]


class Observed(Protocol):
    """What the checkers may look at."""

    @property
    def slots(self) -> int: ...
    @property
    def disk(self) -> Disk: ...
    @property
    def backend(self) -> Backend: ...
    @property
    def trace(self) -> Trace: ...
    @property
    def reserved(self) -> set[str]: ...
    @property
    def is_cared_for(self) -> bool: ...
    def now(self) -> float: ...


def head(world: Observed, device: str) -> str:
    """The state of the task whose turn it is on the phone: the parked one, else the oldest; empty: it has none."""
    tasks = open_tasks(world).get(device)
    if not tasks:
        return ""
    return TaskState.WAITING if any(task.state == TaskState.WAITING for task in tasks) else tasks[0].state


def open_tasks(world: Observed) -> dict[str, list[JournaledTask]]:
    """Each phone's, the oldest first. An ended one that was handed out again is the oldest, and last in its queue."""
    found: dict[str, list[JournaledTask]] = {}
    for task in tables.open_tasks(world.disk.connection):
        found.setdefault(task.device_id, []).append(task)
    return found


class Phones:
    """At most `slots` tasks at once; one task a phone; its work there ends before its lock is given back."""

    def __init__(self, world: Observed) -> None:
        self._world = world
        self.held: dict[str, None] = {}
        self._busy: dict[str, str] = {}

    def see(self, entry: Entry) -> None:
        match entry.kind, entry.fields:
            case "life", (_, "starts"):
                self.held.clear()
                self._busy.clear()
            case "locked", (device, _):
                self._lock(device)
            case "unlocked", (device,):
                if device not in self.held:
                    raise Violation(f"the lock of {device} is given back, and no task has it")
                if device in self._busy:
                    raise Violation(f"the lock of {device} is given back while {self._busy[device]} runs there")
                del self.held[device]
            case "begins", (device, work):
                self._begin(device, work)
            case "repair", (device, how):
                if device in self._busy:
                    raise Violation(f"{device} is {how} while {self._busy[device]} runs there")
            case "ends", (device, work):
                if self._busy.get(device) == work:
                    del self._busy[device]

    def _lock(self, device: str) -> None:
        if device in self.held:
            raise Violation(f"two tasks on {device}")
        self.held[device] = None
        if len(self.held) > self._world.slots:
            raise Violation(f"{len(self.held)} tasks at once, and there are {self._world.slots} slots")

    def _begin(self, device: str, work: str) -> None:
        if work == PROBE_WORK and (device not in self.held or self._world.is_cared_for):
            # Asking whether it answers changes nothing on a phone, so it needs no lock, not even against another agent
            # of this PC; but nobody asks a phone for which nobody waits (R8.3), unless it is cared for (spec/07).
            if not (self._world.is_cared_for or head(self._world, device) == TaskState.WAITING):
                raise Violation(f"{device} is asked whether it answers, and no task waits for it")
            return
        if device not in self.held:
            raise Violation(f"{work} begins on {device}, which no task holds")
        if device in self._busy:
            raise Violation(f"{work} begins on {device} while {self._busy[device]} runs there")
        self._busy[device] = work


class Ledger:
    """Each event that the journal ever committed: `seq` rises by one, a task begins in its turn and ends once."""

    def __init__(self, world: Observed, acknowledged: Callable[[str], None]) -> None:
        self._world = world
        self._acknowledged = acknowledged
        self._position = 0
        self._seq: dict[str, int] = defaultdict(int)
        self._ended: set[tuple[str, int]] = set()
        self.facts: dict[str, dict[str, Any]] = {}
        self.telemetry: dict[str, dict[str, Any]] = {}
        self.pictures: dict[str, str] = {}

    def look(self) -> None:
        """After each commit."""
        connection = self._world.disk.connection
        rows = connection.execute("SELECT position FROM outbox WHERE position > ? LIMIT 1", (self._position,))
        if rows.fetchone() is not None:
            for event in self._fresh():
                self._recorded(event.event_id, event.body)
        for name, sha256 in connection.execute("SELECT name, sha256 FROM spool"):
            self.pictures[name] = sha256

    def _fresh(self) -> list[Any]:
        every = tables.pending(self._world.disk.connection, 1_000_000, 1 << 40)
        fresh = sorted((event for event in every if event.position > self._position), key=lambda event: event.position)
        self._position = fresh[-1].position
        return fresh

    def _recorded(self, event_id: str, body: dict[str, Any]) -> None:
        kind, payload = body["type"], body["payload"]
        is_telemetry = kind == EventType.TASK_PROGRESS
        (self.telemetry if is_telemetry else self.facts)[event_id] = body
        task = payload.get("task_id")
        self._world.trace.note("recorded", kind, (task or "")[-6:], payload.get("seq", ""), payload.get("status", ""))
        if kind == EventType.COMMAND_ACK:
            self._acknowledged(payload["command_id"])
        if task is None:
            return
        if payload["seq"] != self._seq[task] + 1:
            raise Violation(f"task {task[-6:]} tells seq {payload['seq']} after {self._seq[task]}")
        self._seq[task] = payload["seq"]
        attempt = (task, payload["attempt"])
        if kind != EventType.ARTIFACT_STORED and attempt in self._ended:
            raise Violation(f"attempt {payload['attempt']} of task {task[-6:]} has ended, and then comes {kind}")
        if kind == EventType.TASK_FINISHED:
            self._ended.add(attempt)
        if kind == EventType.TASK_STARTED or payload.get("status") == TaskState.SKIPPED_OFFLINE:
            self._in_turn(task, payload["device_id"])

    def _in_turn(self, task: str, device: str) -> None:
        rows = self._world.disk.connection.execute(
            "SELECT task_id, state FROM tasks WHERE device_id = ? AND state IN ('queued', 'running', 'waiting')"
            " AND position < (SELECT position FROM tasks WHERE task_id = ?)",
            (device, task),
        )
        # What was handed out again came again.
        earlier = [(other, state) for other, state in rows if other not in self._world.backend.renewed]
        if earlier:
            other, state = earlier[0]
            raise Violation(f"task {task[-6:]} goes before {other[-6:]} ({state}), which came to {device} earlier")


class Attempts:
    """A run's work begins on a phone only while its task is running, and never once the node knows that it is stale."""

    def __init__(self, world: Observed) -> None:
        self._world = world
        self._stale: dict[tuple[str, int], float] = {}

    def see(self, entry: Entry) -> None:
        match entry.kind, entry.fields:
            case "stale", (task, attempt):
                self._stale.setdefault((task, attempt), entry.at)
            case "begins", (device, work) if work not in NOT_OF_A_RUN:
                self._begin(device, work, entry.at)

    def _begin(self, device: str, run: str, at: float) -> None:
        rows = self._world.disk.connection.execute(
            "SELECT task_id, attempt, state FROM tasks WHERE device_id = ? AND substr(run_id, -6) = ?", (device, run)
        )
        for task_id, journaled, state in rows:
            task, attempt = task_id[-6:], journaled
            if state != TaskState.RUNNING and task_id not in self._world.backend.renewed:
                raise Violation(f"work of task {task} begins on {device}, and the task is {state}")
            if state != TaskState.RUNNING:
                # The journal has the next attempt; the loop is told of it when the commit has come back.
                attempt = journaled - 1
                self._stale.setdefault((task, attempt), at)
            if at - self._stale.get((task, attempt), at) > STOP_SEC + 10 * self._world.disk.latency_sec:
                raise Violation(f"attempt {attempt} of task {task} works on, and the node knows that it is stale")


class Turns:
    """No ready phone is passed over twice by the same other, and no slot is idle while a ready phone waits."""

    def __init__(self, world: Observed, phones: Phones) -> None:
        self._world = world
        self._phones = phones
        self._passed: dict[str, Counter[str]] = defaultdict(Counter)
        self._ready_since: dict[str, float] = {}
        self._heads: dict[str, tuple[str, float]] = {}
        self._refused: dict[str, float] = {}
        self._idle_since: float | None = None
        self._settled_at: float | None = None

    def see(self, entry: Entry) -> None:
        match entry.kind, entry.fields:
            case "life", (_, state):
                self._reset(entry.at if state == "settled" else None)
            case "refused", (device,):
                self._refused[device] = entry.at
            case "locked", (device, state):
                self._served(device, state)
            case "unlocked", _:
                self.look()

    def _reset(self, settled_at: float | None) -> None:
        self._settled_at = settled_at
        self._passed.clear()
        self._ready_since.clear()
        self._idle_since = None

    def _served(self, device: str, state: str) -> None:
        self._passed.pop(device, None)
        self.look()
        if state == TaskState.WAITING:
            return  # it gets its slot back first (R8.5)
        for other in self._ready_since:
            if self._has_just_moved_up(other):
                continue
            self._passed[other][device] += 1
            if self._passed[other][device] > 1 and self._world.now() - self._ready_since[other] > 1:
                raise Violation(f"{other} is ready and was passed over twice by {device}")

    def look(self) -> None:
        """Called at each start and end, and once a second."""
        now = self._world.now()
        ready = self._ready() if self._settled_at is not None else []
        self._ready_since = {device: self._ready_since.get(device, now) for device in ready}
        for device in [device for device in self._passed if device not in self._ready_since]:
            del self._passed[device]
        is_idle = len(self._phones.held) < self._world.slots and any(
            now - since > IDLE_SEC for since in self._ready_since.values()
        )
        if not is_idle:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > IDLE_SEC:
            raise Violation(f"a slot is idle while {', '.join(self._ready_since)} could run")

    def _ready(self) -> list[str]:
        now, found = self._world.now(), open_tasks(self._world)
        asked_to_end = tables.cancelled_tasks(self._world.disk.connection)
        before, self._heads = self._heads, {}
        for device, tasks in found.items():
            head_id, since = before.get(device, (tasks[0].task_id, -math.inf))
            self._heads[device] = (tasks[0].task_id, since if head_id == tasks[0].task_id else now)
        return [
            device
            for device, tasks in found.items()
            # A parked one lets nothing of its phone overtake it.
            if {task.state for task in tasks} == {TaskState.QUEUED}
            and tasks[0].task_id not in asked_to_end
            and device not in self._phones.held
            and device not in self._world.reserved
            and now - self._refused.get(device, -10.0) > 2.5
        ]

    def _has_just_moved_up(self, device: str) -> bool:
        """The end of the phone's task before is on the disk, and on its way back to the agent."""
        _, since = self._heads[device]
        return self._world.now() - since <= 10 * self._world.disk.latency_sec


class Delivery:
    """Every fact is delivered and applied once, in order for each task; nobody's bad event holds up another."""

    def __init__(self, world: Observed, ledger: Ledger, *, is_ordered: bool) -> None:
        self._world = world
        self._ledger = ledger
        self._is_ordered = is_ordered
        self._applied: dict[str, int] = defaultdict(int)
        self._seen: set[tuple[str, int]] = set()

    def see(self, entry: Entry) -> None:
        if entry.kind != "applied" or entry.fields[2] == "":
            return
        kind, task, seq, _ = entry.fields
        if (task, seq) in self._seen:
            raise Violation(f"{kind} {seq} of task {task} is applied twice")
        self._seen.add((task, seq))
        if self._is_ordered and seq < self._applied[task]:
            raise Violation(f"{kind} {seq} of task {task} comes after {self._applied[task]}")
        self._applied[task] = seq

    def at_end(self) -> None:
        backend = self._world.backend
        for event_id, body in (self._ledger.facts | self._ledger.telemetry).items():
            if event_id not in backend.applied and event_id not in backend.refused:
                raise Violation(f"the backend never got {body['type']} {body['payload']}")
        self._runs_end_once()
        dead = {letter.event_id for letter in tables.dead_letters(self._world.disk.connection, 100_000)}
        for event_id in dead - backend.refused:
            raise Violation(f"event {event_id} is buried, and the backend did not refuse it")
        for event_id in dead & backend.applied:
            raise Violation(f"event {event_id} is buried, and the backend has it")

    def _runs_end_once(self) -> None:
        told = Counter((body["type"], body["payload"].get("run_id")) for body in self._ledger.facts.values())
        renewed = {self._world.backend.tasks[task_id].run_id for task_id in self._world.backend.renewed}
        for kind, run_id in told:
            ends = told[EventType.RUN_FINISHED, run_id]
            if kind == EventType.RUN_STARTED and not 1 <= ends <= (math.inf if run_id in renewed else 1):
                raise Violation(f"run {run_id[-6:]} began and ended {ends} times")


def agreement(world: Observed) -> None:
    """Every task of every run ends in one terminal state at the backend, and it is the journal's."""
    rows = world.disk.connection.execute("SELECT task_id, state, attempt, failure_reason FROM tasks")
    journaled = {task_id: (state, attempt, reason) for task_id, state, attempt, reason in rows}
    for task in world.backend.tasks.values():
        if not task.status.is_terminal:
            raise Violation(f"task {task.task_id[-6:]} is {task.status} at the backend for ever")
        if task.status is TaskState.CANCELLED and task.task_id not in world.backend.asked_to_end:
            raise Violation(f"task {task.task_id[-6:]} is cancelled, and nobody asked for it")
        at_node = journaled.get(task.task_id)
        at_backend = (task.status, task.attempt, task.failure_reason)
        if task.failure_reason == "node_lost" and task.task_id in world.backend.renewed:
            continue  # it was lost before the node heard that it was handed out again
        if at_node is not None and at_node != at_backend:
            raise Violation(f"task {task.task_id[-6:]}: the backend has {at_backend}, the journal {at_node}")
        if at_node is None and task.failure_reason not in ("unknown", "node_lost"):
            raise Violation(f"task {task.task_id[-6:]} was never accepted, and the backend has {at_backend}")


def pictures(world: Observed, ledger: Ledger) -> None:
    """Every picture that was once in the spool is in the store, and the backend was told where."""
    stored = {thing.sha256: thing.key for thing in world.backend.objects.values() if thing.is_stored}
    for name, sha256 in ledger.pictures.items():
        if sha256 not in stored:
            raise Violation(f"picture {name} never reached the store")
        if stored[sha256] not in world.backend.told_paths:
            raise Violation(f"picture {name} is stored, and nobody was told")


def nothing_left(world: Observed, phones: Phones) -> None:
    """Nothing stays open on the node: no lock, no event, no picture."""
    depth = tables.depth(world.disk.connection)
    if phones.held:
        raise Violation(f"still locked: {', '.join(phones.held)}")
    if depth.total:
        raise Violation(f"{depth.total} events wait in the outbox")
    if world.disk.files:
        raise Violation(f"pictures lie in the spool: {', '.join(world.disk.files)}")
