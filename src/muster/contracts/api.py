"""Bodies of the HTTP API (spec/04). Times are epoch ms of the backend's clock unless a field says otherwise."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from muster.contracts.base import (
    Body,
    DeviceIdField,
    EpochMs,
    Message,
    NodeIdField,
    Sha256Field,
    StepIdField,
    UuidField,
    WorkflowIdField,
)
from muster.contracts.commands import ActionReason, DeviceActionKind, Owner, ReservationMinutes
from muster.contracts.events import ArtifactRef, NodeTrouble, RunSummary
from muster.domain import ids, limits
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.run import RunState, RunTrigger
from muster.domain.task import StepState, TaskState
from muster.recipe.model import Params, TaskTimeoutMs

# ---- problems (RFC 9457) ----------------------------------------------------------------------------------------

PROBLEM_TYPE_PREFIX = "urn:muster:problem:"


class FieldError(Message):
    """One thing that is wrong: where (`params.KEY`, `steps[3].timeoutMs`, `target`) and what to do about it."""

    field: str
    message: str


class Problem(Message):
    """An error answer, `application/problem+json`. `type` is `urn:muster:problem:<slug>` (see docs/api.md)."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[FieldError] = Field(default_factory=list)


# ---- runs -------------------------------------------------------------------------------------------------------


class Target(Body):
    """Which phones. Nothing given = all registered nodes. Given lists are intersected."""

    node_ids: list[NodeIdField] | None = Field(default=None, max_length=1_000)
    device_ids: list[DeviceIdField] | None = Field(default=None, max_length=10_000)


class CreateRun(Body):
    """`POST /api/runs`. A time limit may name a step id, a phase or a kind; the most specific wins."""

    workflow_id: WorkflowIdField
    version: int | None = Field(default=None, ge=1, le=2**31 - 1, strict=True)
    trigger: RunTrigger = RunTrigger.API
    scope: Literal["ALL"] = "ALL"
    video_id: str | None = Field(default=None, alias="youtubeVideoId", pattern=ids.VIDEO_ID_PATTERN)
    params: Params = Field(default_factory=dict)
    timeout_overrides: dict[str, Annotated[int, Field(strict=True)]] = Field(
        default_factory=dict, alias="timeoutOverrides", max_length=limits.RECIPE_STEPS_MAX
    )
    global_timeout_ms: TaskTimeoutMs | None = Field(default=None, alias="globalTimeoutMs")
    max_attempts: int = Field(default=1, ge=1, le=limits.MAX_ATTEMPTS_MAX, alias="maxAttempts", strict=True)
    target: Target = Field(default_factory=Target)
    metadata: dict[str, Any] = Field(default_factory=dict, max_length=100)


class RunCreated(Message):
    """201. `status` is `queued`, or already terminal when every device of the target is offline."""

    run_id: UuidField
    workflow_id: str
    version: int
    status: RunState
    created_at: EpochMs
    # What of the target matched nothing (`target.device_ids[3]`): the run goes on without it, and says so.
    warnings: list[FieldError] = Field(default_factory=list)


class RunStopped(Message):
    """`POST /api/runs/{id}/stop`. `stop_requested_at` is the first request's; null: the run had ended before any.

    `cancelled`: tasks that this request ended at once. `nodes`: those that still have to end theirs.
    """

    run_id: UuidField
    status: RunState
    stop_requested_at: EpochMs | None = None
    cancelled: int = 0
    nodes: list[str] = Field(default_factory=list)


class TaskCounts(Message):
    """Tasks of a run by state; `total` is their sum."""

    total: int = 0
    queued: int = 0
    running: int = 0
    waiting: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped_offline: int = 0
    cancelled: int = 0

    @property
    def finished(self) -> int:
        """Progress is finished / total, never running / total."""
        return self.succeeded + self.failed + self.skipped_offline + self.cancelled


class RunListItem(Message):
    """A line of `GET /api/runs`."""

    run_id: UuidField
    workflow_id: str
    version: int
    workflow_name: str = ""
    video_id: str | None = Field(default=None, alias="youtubeVideoId")
    trigger: RunTrigger
    status: RunState
    created_at: EpochMs
    started_at: EpochMs | None = None
    ended_at: EpochMs | None = None
    stop_requested_at: EpochMs | None = None
    counts: TaskCounts


class RunPage(Message):
    """`GET /api/runs`: failed and running first, then newest first. `counts` is of all runs that match, by state."""

    runs: list[RunListItem]
    counts: dict[RunState, int]
    next_cursor: str | None = None


class TaskView(Message):
    """A device task: a tile of the Run Monitor. `step_*` tell where it is or where it stopped.

    `failure_reason` and `error_message` of a `waiting` task tell why it waits.
    """

    task_id: UuidField
    run_id: UuidField
    node_id: str
    device_id: str
    runtime_handle: str | None = None
    status: TaskState
    attempt: int = 1
    step_id: str | None = None
    phase: str | None = None
    step_index: int | None = None
    steps_total: int | None = None
    wait_until: EpochMs | None = None
    failure_reason: FailureReason | None = None
    failure_class: FailureClass | None = None
    error_message: str | None = None
    failed_steps: list[str] = Field(default_factory=list)
    # The step that switches its accessibility service on has failed: somebody must do it on the phone.
    requires_manual_accessibility: bool = False
    # Ended as `node_lost` while its node was silent; the node's own word replaces it.
    presumed: bool = False
    # It is open and its node is silent. Not a state: it heals by itself.
    unreachable: bool = False
    started_at: EpochMs | None = None
    ended_at: EpochMs | None = None
    duration_ms: int | None = None
    artifact_id: str | None = None
    storage_path: str | None = None
    updated_at: EpochMs


NodeStatus = Literal["online", "offline", "degraded"]


class NodeCondition(Message):
    """How a node is. `degraded`: it can do no run, or cannot tell of it; `last_error_message`: why it takes none now.

    `troubles`: all that is wrong by its own word, what stops work first; some of it stops nothing.
    """

    node_id: str
    status: NodeStatus = "online"
    last_heartbeat_at: EpochMs | None = None
    last_error_message: str | None = None
    troubles: list[NodeTrouble] = Field(default_factory=list)


class NodePart(NodeCondition):
    """A node's part of a run. `unreachable` (open tasks on a silent node) is derived, never stored."""

    online: bool
    unreachable: bool = False
    counts: TaskCounts
    summary: RunSummary


class RunDetail(RunListItem):
    """`GET /api/runs/{id}`."""

    params: dict[str, str] = Field(default_factory=dict)
    timeout_overrides: dict[str, int] = Field(default_factory=dict, alias="timeoutOverrides")
    global_timeout_ms: int = Field(alias="globalTimeoutMs")
    max_attempts: int = Field(default=1, alias="maxAttempts")
    target: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    summary: RunSummary
    nodes: list[NodePart]
    tasks: list[TaskView]


class ArtifactView(ArtifactRef):
    """A stored picture; its bytes are at `GET /api/artifacts/{artifact_id}`."""

    artifact_id: UuidField
    task_id: UuidField
    taken_at: EpochMs


class StepView(Message):
    """A step of a task, last try."""

    task_id: UuidField
    device_id: str
    node_id: str
    step_id: str
    step_index: int
    phase: str
    kind: str
    status: StepState
    attempt: int = 1
    try_number: int = 1
    started_at: EpochMs | None = None
    ended_at: EpochMs | None = None
    duration_ms: int | None = None
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    error_message: str | None = None
    log_snippet: str | None = None
    artifact: ArtifactView | None = None


class StepPage(Message):
    """`GET /api/runs/{id}/steps` (`?device_id=` for one phone): by device, then by the recipe's order."""

    steps: list[StepView]
    next_cursor: str | None = None


# ---- live stream: `GET /api/runs/{id}/events` ---------------------------------------------------------------------


class RunSnapshot(Message):
    """SSE event `snapshot`: the whole state. `now` is the backend's clock."""

    run: RunListItem
    tasks: list[TaskView]
    nodes: list[NodeCondition] = Field(default_factory=list)
    now: EpochMs


class RunDelta(Message):
    """SSE event `delta`: the tasks that changed (last write wins), their nodes, the run's counts and status after them.

    Sent too when a node with open tasks falls silent, into trouble, or out of it.
    """

    run: RunListItem
    tasks: list[TaskView]
    nodes: list[NodeCondition] = Field(default_factory=list)
    now: EpochMs


# ---- workflows ----------------------------------------------------------------------------------------------------


class WorkflowItem(Message):
    """A line of `GET /api/workflows`: the newest version."""

    workflow_id: str
    version: int
    name: str
    steps_count: int
    updated_at: EpochMs


class WorkflowList(Message):
    """`GET /api/workflows`."""

    workflows: list[WorkflowItem]


class WorkflowVersion(Message):
    """`GET /api/workflows/{id}` (`?version=`) and the answer of `PUT`: the recipe as stored."""

    workflow_id: str
    version: int
    created_at: EpochMs
    content_hash: Sha256Field
    definition: dict[str, Any]
    versions: list[int]
    warnings: list[FieldError] = Field(default_factory=list)


class ValidationAnswer(Message):
    """`POST /api/workflows/validate`: nothing is stored."""

    ok: bool
    errors: list[FieldError] = Field(default_factory=list)
    warnings: list[FieldError] = Field(default_factory=list)


# ---- nodes and devices ----------------------------------------------------------------------------------------------


class NodeView(NodeCondition):
    """A node. `status` is from the backend's own clock at the last heartbeat's receipt.

    `clock_skew_ms`: how far its clock is ahead of the backend's, by its heartbeats of the last minute. `dead_letters`:
    events that the backend refused for good.
    """

    agent_version: str | None = None
    connected_devices_count: int = 0
    running_devices_count: int = 0
    queue_devices_count: int = 0
    max_concurrency: int | None = None
    vendor_ws_ok: bool = False
    last_vendor_ws_ok_at: EpochMs | None = None
    outbox_depth: int = 0
    quarantined_devices_count: int = 0
    reserved_devices_count: int = 0
    dead_letters: int = 0
    clock_skew_ms: int | None = None


class NodeList(Message):
    """`GET /api/nodes`."""

    nodes: list[NodeView]


class DeviceView(Message):
    """A phone: Online or Offline, nothing else (R8.1); the cause is `last_error_message`."""

    device_id: str
    node_id: str
    runtime_handle: str | None = None
    online: bool
    last_seen_at: EpochMs | None = None
    model: str | None = None
    battery: int | None = None
    temperature: float | None = None
    last_error_message: str | None = None


class AuditEntry(Message):
    """Somebody had something done. `actor`: from where it was asked, until operators sign in.

    `answered_at` null: the node has not taken it yet; `error_message`: why it was not done.
    """

    at: EpochMs
    actor: str
    action: str
    node_id: str | None = None
    detail: dict[str, Any] = Field(default_factory=dict)
    answered_at: EpochMs | None = None
    error_message: str | None = None


class DeviceDetail(DeviceView):
    """`GET /api/devices/{id}`. `actions`: the last ones that people asked for, the newest first."""

    actions: list[AuditEntry] = Field(default_factory=list)


class DevicePage(Message):
    """`GET /api/devices` (`node_id`, `online_only`)."""

    devices: list[DeviceView]
    counts: dict[Literal["online", "offline"], int]
    next_cursor: str | None = None


class DeviceActionRequest(Body):
    """`POST /api/devices/{id}/actions`. `reason` goes into the audit log.

    `reserve` needs an `owner` and may name `minutes` (RESERVATION_MINUTES_DEFAULT); no other action has them.
    """

    action: DeviceActionKind
    reason: ActionReason | None = None
    owner: Owner | None = Field(default=None, validate_default=True)
    minutes: ReservationMinutes | None = None

    @field_validator("owner", "minutes")
    @classmethod
    def _of_a_reservation(cls, value: str | int | None, info: ValidationInfo) -> str | int | None:
        is_reservation = info.data.get("action") is DeviceActionKind.RESERVE
        if value is not None and not is_reservation:
            raise ValueError("belongs to `reserve` alone")
        if value is None and is_reservation and info.field_name == "owner":
            raise ValueError("say for whom the phone is reserved")
        return value


class DeviceActionAccepted(Message):
    """202: the command waits for its node. The same action asked again before the node has it is the same command."""

    command_id: UuidField
    node_id: str
    device_id: str
    action: DeviceActionKind


# ---- artifacts ----


class UploadRequest(Body):
    """`POST /api/nodes/uploads`. `taken_at` is the node's clock and becomes the key's timestamp."""

    task_id: UuidField
    step_id: StepIdField
    taken_at: EpochMs
    sha256: Sha256Field
    size: int = Field(ge=1, le=limits.ARTIFACT_BYTES_MAX, strict=True)


class UploadTicket(Message):
    """Where to send the bytes: for this key, size and hash alone, until `expires_at`."""

    artifact_id: UuidField
    key: str
    method: Literal["PUT"] = "PUT"
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    expires_at: EpochMs


# ---- health ----


class HealthAnswer(Message):
    """`GET /healthz` of a backend. `now` is its clock; one of an older version tells neither."""

    status: str = "ok"
    version: str | None = None
    now: EpochMs | None = None
