"""The backend in memory: a small honest model of spec/03, on the conditions of `store/tasks` and `store/commands`."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from tests.world.trace import Trace

from muster.contracts.api import UploadRequest, UploadTicket
from muster.contracts.events import (
    STALE_ATTEMPT_STATUS,
    ArtifactRef,
    ArtifactStored,
    CommandAck,
    Event,
    EventType,
    EventVerdict,
    NodeHeartbeat,
    TaskFinished,
    TaskPayload,
    TaskProgress,
    TaskStarted,
    event_adapter,
)
from muster.domain.failure import FailureReason
from muster.domain.limits import COMMAND_REDELIVERY_SEC, INSTANCE_TAKEOVER_SEC
from muster.domain.task import OPEN_TASK_STATES, SOURCES, StepState, TaskState


@dataclass
class BackendTask:
    """A row of `device_tasks`."""

    task_id: str
    run_id: str
    device_id: str
    status: TaskState = TaskState.QUEUED
    attempt: int = 1
    last_seq: int = 0
    failure_reason: str | None = None
    presumed: bool = False


@dataclass
class _Command:
    body: dict[str, Any]
    is_acked: bool = False
    handed_to: str | None = None
    handed_at: float = 0.0


@dataclass
class _Object:
    task_id: str
    key: str
    sha256: str
    size: int
    is_stored: bool = False


@dataclass
class Backend:
    """`refuses`: whether this new event is refused for good, a fault that the world draws."""

    node_id: str
    trace: Trace
    now: Callable[[], float]
    refuses: Callable[[EventType], bool] = lambda _type: False
    tasks: dict[str, BackendTask] = field(default_factory=dict)
    objects: dict[str, _Object] = field(default_factory=dict)
    told_paths: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    applied: set[str] = field(default_factory=set)
    is_new_command: Callable[[], None] = lambda: None
    heartbeats: int = 0
    renewed: set[str] = field(default_factory=set)
    asked_to_end: set[str] = field(default_factory=set)
    lost_after_sec: float = math.inf
    _heard_at: float = 0.0
    _commands: dict[str, _Command] = field(default_factory=dict)
    _instance: tuple[str, float] | None = None

    # ---- commands ----------------------------------------------------------------------------------------------------

    def command(self, body: dict[str, Any]) -> None:
        """Queues a command for the node; the tasks of a `run_start` are born."""
        for task in body.get("tasks", []):
            self.tasks[task["task_id"]] = BackendTask(task["task_id"], body["run_id"], task["device_id"])
        ends = {body.get("task_id"), body.get("run_id")} if body["type"] in ("task_cancel", "run_stop") else set()
        self.asked_to_end |= {task.task_id for task in self.tasks.values() if {task.task_id, task.run_id} & ends}
        self._commands[body["command_id"]] = _Command(body)
        self.trace.note("command", body["type"], body["command_id"][-6:])
        self.is_new_command()

    def run_of(self, command_id: str) -> str | None:
        """The run that this command asks for."""
        body = self._commands[command_id].body
        return body["run_id"] if body["type"] == "run_start" else None

    def phone_of_action(self, command_id: str) -> str | None:
        """The phone to which this command asks something to be done; None: it is another kind of command."""
        body = self._commands[command_id].body
        return str(body["device_id"]) if body["type"] == "device_action" else None

    def renew(self, task: BackendTask) -> dict[str, Any]:
        """Hands a task out again with a higher attempt: what the node tells of the one before is stale (fencing)."""
        task.attempt += 1
        task.status, task.failure_reason, task.presumed = TaskState.QUEUED, None, False
        self.renewed.add(task.task_id)
        self.trace.note("renewed", task.task_id[-6:], task.attempt)
        return {"task_id": task.task_id, "device_id": task.device_id, "attempt": task.attempt}

    def command_again(self, body: dict[str, Any], assigned: dict[str, Any]) -> None:
        """The command for it, unless the task has ended meanwhile."""
        task = self.tasks[assigned["task_id"]]
        if task.status is not TaskState.QUEUED or task.attempt != assigned["attempt"]:
            return
        self._commands[body["command_id"]] = _Command({**body, "tasks": [assigned]})
        self.trace.note("command", "again", assigned["task_id"][-6:], assigned["attempt"])
        self.is_new_command()

    def is_taken_by_another(self, instance_id: str) -> bool:
        """409: another instance of this node has polled a moment ago."""
        if self._instance is not None:
            other, at = self._instance
            if other != instance_id and self.now() - at < INSTANCE_TAKEOVER_SEC:
                return True
        self._instance = (instance_id, self.now())
        return False

    def leave(self, instance_id: str) -> None:
        if self._instance is not None and self._instance[0] == instance_id:
            self._instance = None

    def next_due(self, instance_id: str) -> float | None:
        """When a command may be handed to this instance; None: there is none."""
        due = [
            command.handed_at + COMMAND_REDELIVERY_SEC if command.handed_to == instance_id else self.now()
            for command in self._commands.values()
            if not command.is_acked
        ]
        return min(due, default=None)

    def hand_out(self, instance_id: str) -> list[dict[str, Any]]:
        self._heard_at = self.now()
        given = []
        for command in self._commands.values():
            is_due = command.handed_to != instance_id or self.now() >= command.handed_at + COMMAND_REDELIVERY_SEC
            if not command.is_acked and is_due:
                command.handed_to, command.handed_at = instance_id, self.now()
                given.append(command.body)
        return given

    def look_for_silence(self) -> None:
        """A node that is silent for long is lost: what it has not taken note of is withdrawn, and its tasks end."""
        if self.now() - self._heard_at <= self.lost_after_sec:
            return
        taken: set[str] = set()
        for command in self._commands.values():
            if command.body["type"] == "run_start":
                command.is_acked = True
                if command.handed_to is not None:
                    taken |= {assigned["task_id"] for assigned in command.body["tasks"]}
        for task in self.open_tasks:
            task.status, task.failure_reason = TaskState.FAILED, FailureReason.NODE_LOST
            task.presumed = task.task_id in taken
            self.trace.note("presumed", task.task_id[-6:], task.presumed)

    # ---- events ------------------------------------------------------------------------------------------------------

    def ingest(self, raw: Sequence[Mapping[str, Any]]) -> list[EventVerdict]:
        """In one transaction; each event by itself."""
        self._heard_at = self.now()
        return [self._one(event) for event in raw]

    def _one(self, raw: Mapping[str, Any]) -> EventVerdict:
        event_id = str(raw.get("event_id"))
        try:
            event = event_adapter.validate_python(raw)
        except ValidationError as error:
            return EventVerdict(event_id=event_id, ok=False, status=422, message=str(error.errors()[0]["msg"]))
        if event_id in self.applied:
            return EventVerdict(event_id=event_id, ok=True, duplicate=True)
        if self._is_stale(event):
            self.refused.add(event_id)
            if isinstance(event.payload, TaskFinished) and event.payload.artifact is not None:
                self._link(event.payload.artifact)
            return EventVerdict(
                event_id=event_id, ok=False, status=STALE_ATTEMPT_STATUS, message="a newer attempt was handed out"
            )
        if event_id in self.refused or self.refuses(event.type) or not self._is_ours(event):
            self.refused.add(event_id)
            return EventVerdict(event_id=event_id, ok=False, status=422, message="refused")
        self.applied.add(event_id)
        self._apply(event)
        return EventVerdict(event_id=event_id, ok=True)

    def note_told(self, events: Sequence[Mapping[str, Any]], verdicts: Sequence[EventVerdict]) -> None:
        """The node has this answer: from now on it knows which attempts are stale."""
        for event, verdict in zip(events, verdicts, strict=True):
            payload = event["payload"]
            if verdict.status == STALE_ATTEMPT_STATUS and "attempt" in payload:
                self.trace.note("stale", payload["task_id"][-6:], payload["attempt"])

    def _is_stale(self, event: Event) -> bool:
        payload = event.payload
        if not isinstance(payload, TaskPayload):
            return False
        task = self.tasks.get(payload.task_id)
        return task is not None and payload.attempt < task.attempt

    def _is_ours(self, event: Event) -> bool:
        payload = event.payload
        if payload.node_id != self.node_id:
            return False
        if isinstance(payload, CommandAck):
            return payload.command_id in self._commands
        if isinstance(payload, TaskPayload | ArtifactStored):
            task = self.tasks.get(payload.task_id)
            return task is not None and (task.run_id, task.device_id) == (payload.run_id, payload.device_id)
        return True

    def _apply(self, event: Event) -> None:
        payload = event.payload
        match payload:
            case NodeHeartbeat():
                self.heartbeats += 1
                return
            case CommandAck():
                self._commands[payload.command_id].is_acked = True
                if payload.error_message is not None:
                    self._refuse_tasks(self._commands[payload.command_id].body)
            case TaskStarted() | TaskProgress():
                self._move(payload)
            case TaskFinished():
                self._finish(payload)
            case ArtifactStored():
                self._link(payload.artifact)
            case _:
                pass
        task_id = getattr(payload, "task_id", "")
        status = getattr(payload, "status", "")
        self.trace.note("applied", event.type.value, task_id[-6:], getattr(payload, "seq", ""), str(status))

    def _move(self, told: TaskStarted | TaskProgress) -> None:
        task = self.tasks[told.task_id]
        if told.attempt < task.attempt or told.seq <= task.last_seq:
            return
        status = TaskState.WAITING if told.status == StepState.WAITING else TaskState.RUNNING
        if task.presumed or task.status in SOURCES[status] | {status}:
            task.status, task.attempt, task.presumed, task.failure_reason = status, told.attempt, False, None
        task.last_seq = told.seq

    def _finish(self, told: TaskFinished) -> None:
        task = self.tasks[told.task_id]
        if told.artifact is not None:
            self._link(told.artifact)
        if told.attempt >= task.attempt and (task.presumed or task.status in OPEN_TASK_STATES):
            task.status, task.attempt, task.presumed = told.status, told.attempt, False
            task.failure_reason = told.failure_reason

    def _refuse_tasks(self, body: Mapping[str, Any]) -> None:
        for assigned in body.get("tasks", []):
            task = self.tasks[assigned["task_id"]]
            if task.status is TaskState.QUEUED:
                task.status, task.failure_reason = TaskState.FAILED, FailureReason.UNKNOWN

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def _link(self, artifact: ArtifactRef) -> None:
        self.told_paths.add(artifact.storage_path)

    def allow(self, request: UploadRequest) -> UploadTicket | None:
        """The same place again for the same bytes of the same step; None: no such task."""
        task = self.tasks.get(request.task_id)
        if task is None:
            return None
        name = hashlib.sha256(f"{request.task_id} {request.step_id} {request.sha256}".encode()).hexdigest()[:12]
        key = f"manual/{self.node_id}/{task.device_id}/{task.run_id}/{name}.png"
        self.objects.setdefault(key, _Object(request.task_id, key, request.sha256, request.size))
        return UploadTicket(artifact_id=request.task_id, key=key, url=f"/{key}", expires_at=request.taken_at + 300_000)

    def receive(self, key: str, content: bytes) -> bool:
        """False: not the bytes that were announced."""
        announced = self.objects[key]
        if hashlib.sha256(content).hexdigest() != announced.sha256 or len(content) != announced.size:
            return False
        announced.is_stored = True
        return True

    @property
    def open_tasks(self) -> list[BackendTask]:
        return [task for task in self.tasks.values() if task.status in OPEN_TASK_STATES]

    @property
    def unacknowledged(self) -> int:
        return sum(1 for command in self._commands.values() if not command.is_acked)
