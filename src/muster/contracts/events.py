"""What a node tells the backend: `POST /api/nodes/callback` (spec/03).

*Facts* (started, finished, artifact) are never dropped; *telemetry* (heartbeat, progress) may be thinned.
Every task event carries `seq`, journaled at the node: order is by `seq`, never by a clock.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from muster.contracts.base import (
    Count,
    DeviceIdField,
    DurationMs,
    EpochMs,
    ErrorMessage,
    ExitCode,
    LogSnippet,
    Message,
    NodeIdField,
    Ordinal,
    RuntimeHandleField,
    Sha256Field,
    StepIdField,
    UuidField,
    WorkflowIdField,
)
from muster.domain import limits
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState


class EventType(StrEnum):
    """The closed list of event types."""

    NODE_HEARTBEAT = "node_heartbeat"
    RUN_STARTED = "run_started"
    TASK_STARTED = "task_started"
    TASK_PROGRESS = "task_progress"
    TASK_FINISHED = "task_finished"
    RUN_FINISHED = "run_finished"
    ARTIFACT_STORED = "artifact_stored"
    COMMAND_ACK = "command_ack"


TELEMETRY = frozenset({EventType.NODE_HEARTBEAT, EventType.TASK_PROGRESS})


class Payload(Message):
    """Every payload names its node; `timestamp` is the node's clock, epoch ms, for display only."""

    node_id: NodeIdField
    timestamp: EpochMs


class DeviceReport(Message):
    """One phone in a heartbeat. `age_ms`: how long ago the node last had an answer or a sign of it (R8.6)."""

    device_id: DeviceIdField
    runtime_handle: RuntimeHandleField
    state: AttachState
    age_ms: DurationMs | None = None
    model: str | None = Field(default=None, max_length=128)
    battery: int | None = Field(default=None, ge=0, le=100)
    temperature: float | None = Field(default=None, allow_inf_nan=False)
    last_error_message: ErrorMessage | None = None


class NodeTrouble(Message):
    """One thing that is wrong with a node. `reason` is one of `domain.trouble.Trouble`, or a newer agent's own."""

    reason: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    message: ErrorMessage
    stops_work: bool = False


class NodeHeartbeat(Payload):
    """Every 10 s, and at once when a phone comes or goes. `dead_letters`: events that were refused for good."""

    connected_devices_count: Count
    running_devices_count: Count
    queue_devices_count: Count
    vendor_ws_ok: bool
    last_vendor_ws_ok_at: EpochMs | None = None
    agent_version: str = Field(max_length=64)
    outbox_depth: Count
    degraded: bool = False
    # Why it takes no run now.
    last_error_message: ErrorMessage | None = None
    max_concurrency: Ordinal = limits.CONCURRENCY_PER_NODE_DEFAULT
    troubles: list[NodeTrouble] = Field(default_factory=list, max_length=limits.NODE_TROUBLES_MAX)
    quarantined_devices_count: Count = 0
    reserved_devices_count: Count = 0
    dead_letters: Count = 0
    # An emulator that is down gets its task all the same: the node starts it when its turn comes (R2.1).
    starts_emulators: bool = False
    devices: list[DeviceReport] = Field(max_length=limits.DEVICES_PER_NODE_MAX)


class RunStarted(Payload):
    """Advisory: this node has taken up its part of the run."""

    run_id: UuidField
    target_devices_count: Count
    max_concurrency: Ordinal


class TaskPayload(Payload):
    """What every payload about a task has."""

    run_id: UuidField
    task_id: UuidField
    device_id: DeviceIdField
    seq: Ordinal
    attempt: Ordinal
    error_message: ErrorMessage | None = None


class TaskStarted(TaskPayload):
    """The task has its slot; preflight begins. Told again when a parked task has its slot back."""

    status: Literal[TaskState.RUNNING] = TaskState.RUNNING
    runtime_handle: RuntimeHandleField
    workflow_id: WorkflowIdField
    timeout_ms: Ordinal = Field(alias="timeoutMs")


DEVICE_PREFLIGHT = "device-preflight"
ATTEMPT_END = "attempt-end"
# Told in the form of steps, and no steps of the recipe: their `step_index` says nothing.
BESIDE_STEPS = frozenset({DEVICE_PREFLIGHT, ATTEMPT_END})


class TaskProgress(TaskPayload):
    """A step began, ended, or waits. `step` is its phase.

    Two are told beside the recipe's steps: `device-preflight` (waiting with `wait_until` while a parked task's phone
    has its grace, or while somebody else's task has the phone; then completed or failed) and `attempt-end` (failed,
    with the reason: the attempt is over and another one follows, of which the next `task_started` is the fact). Only
    the last one ends by `task_finished`.
    """

    status: StepState
    step: str = Field(max_length=64)
    step_id: StepIdField
    step_index: Count = 0
    steps_total: Count = 0
    try_number: Ordinal = 1
    started_at: EpochMs | None = None
    ended_at: EpochMs | None = None
    duration_ms: DurationMs | None = None
    wait_until: EpochMs | None = None
    exit_code: ExitCode | None = None
    failure_reason: FailureReason | None = None
    log_snippet: LogSnippet | None = None


class ArtifactRef(Message):
    """A picture that the store has confirmed. `storage_path` is the key under the bucket (R5)."""

    kind: Literal["screenshot"] = "screenshot"
    step_id: StepIdField
    storage_path: str = Field(max_length=1024)
    public_url: str | None = Field(default=None, max_length=2048)
    sha256: Sha256Field
    size: int = Field(ge=1, le=limits.ARTIFACT_BYTES_MAX)


class Timings(Message):
    """Epoch ms of the node, for display; `duration_ms` is from its monotonic clock."""

    started_at: EpochMs | None = Field(default=None, alias="startedAt")
    ended_at: EpochMs = Field(alias="endedAt")
    duration_ms: DurationMs | None = Field(default=None, alias="durationMs")


FinishedStatus = Literal[TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED_OFFLINE, TaskState.CANCELLED]


class TaskFinished(TaskPayload):
    """The task's one terminal state."""

    status: FinishedStatus
    runtime_handle: RuntimeHandleField | None = None
    failure_reason: FailureReason | None = None
    failed_steps: list[StepIdField] = Field(default_factory=list, max_length=limits.RECIPE_STEPS_MAX)
    timings: Timings
    artifact: ArtifactRef | None = None


class RunSummary(Message):
    """How this node's tasks ended. `timeout` counts the part of `failed` whose reason ends in `_timeout`."""

    succeeded: Count = 0
    failed: Count = 0
    timeout: Count = 0
    skipped_offline: Count = 0
    cancelled: Count = 0


class RunFinished(Payload):
    """Advisory: this node has no open task of the run left. The backend ends a run by its own count."""

    run_id: UuidField
    summary: RunSummary


class ArtifactStored(Payload):
    """An artifact that reached the store after its task had ended."""

    run_id: UuidField
    task_id: UuidField
    device_id: DeviceIdField
    seq: Ordinal
    attempt: Ordinal
    status: Literal["stored"] = "stored"
    error_message: ErrorMessage | None = None
    artifact: ArtifactRef


class CommandAck(Payload):
    """The node has journaled the command; it need not be handed out again. `error_message`: it was refused, and why.

    A second one with it: the device action, once accepted, could not be done.
    """

    command_id: UuidField
    error_message: ErrorMessage | None = None


class _Envelope(Message):
    event_id: UuidField


class NodeHeartbeatEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.NODE_HEARTBEAT] = EventType.NODE_HEARTBEAT
    payload: NodeHeartbeat


class RunStartedEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.RUN_STARTED] = EventType.RUN_STARTED
    payload: RunStarted


class TaskStartedEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.TASK_STARTED] = EventType.TASK_STARTED
    payload: TaskStarted


class TaskProgressEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.TASK_PROGRESS] = EventType.TASK_PROGRESS
    payload: TaskProgress


class TaskFinishedEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.TASK_FINISHED] = EventType.TASK_FINISHED
    payload: TaskFinished


class RunFinishedEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.RUN_FINISHED] = EventType.RUN_FINISHED
    payload: RunFinished


class ArtifactStoredEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.ARTIFACT_STORED] = EventType.ARTIFACT_STORED
    payload: ArtifactStored


class CommandAckEvent(_Envelope):
    """Envelope."""

    type: Literal[EventType.COMMAND_ACK] = EventType.COMMAND_ACK
    payload: CommandAck


Event = Annotated[
    NodeHeartbeatEvent
    | RunStartedEvent
    | TaskStartedEvent
    | TaskProgressEvent
    | TaskFinishedEvent
    | RunFinishedEvent
    | ArtifactStoredEvent
    | CommandAckEvent,
    Field(discriminator="type"),
]
event_adapter: TypeAdapter[Event] = TypeAdapter(Event)


STALE_ATTEMPT_STATUS = 409


class EventVerdict(Message):
    """What became of one event of a batch. `status` is what a single post would have answered: 200, 422, …

    409 for an event of a task: its attempt is stale (a higher one was handed out), nothing was applied. The node stops
    that attempt and tells nothing more of it; the event is refused for good like any other 4xx.
    """

    event_id: str | None
    ok: bool
    status: int = 200
    duplicate: bool = False
    field: str | None = None
    message: str | None = None


class CallbackAnswer(Message):
    """Answer to one event (`results` absent) or to a batch (a verdict for each, in its order)."""

    ok: bool
    results: list[EventVerdict] | None = None


def envelope(event_id: str, payload: Payload) -> dict[str, Any]:
    """The JSON form of an event, ready for the outbox. What is null is left out, but for a task's error."""
    body = payload.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(payload, TaskPayload | ArtifactStored):
        body.setdefault("error_message", None)
    return {"event_id": event_id, "type": _TYPE_OF[type(payload)].value, "payload": body}


_TYPE_OF: dict[type[Payload], EventType] = {
    NodeHeartbeat: EventType.NODE_HEARTBEAT,
    RunStarted: EventType.RUN_STARTED,
    TaskStarted: EventType.TASK_STARTED,
    TaskProgress: EventType.TASK_PROGRESS,
    TaskFinished: EventType.TASK_FINISHED,
    RunFinished: EventType.RUN_FINISHED,
    ArtifactStored: EventType.ARTIFACT_STORED,
    CommandAck: EventType.COMMAND_ACK,
}
