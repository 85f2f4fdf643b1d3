"""What the backend asks of a node: the answer of `GET /api/nodes/pull` (spec/03).

A command is handed out again until the node acknowledges it with `command_ack`; a node drops what its journal has.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from muster.contracts.base import DeviceIdField, EpochMs, Message, UuidField, WorkflowIdField
from muster.domain import limits


class CommandType(StrEnum):
    """The commands that exist."""

    RUN_START = "run_start"
    RUN_STOP = "run_stop"
    TASK_CANCEL = "task_cancel"
    DEVICE_ACTION = "device_action"


class DeviceActionKind(StrEnum):
    """What can be done to a phone outside any task."""

    REBOOT = "reboot"
    RECONNECT = "reconnect"
    RELEASE = "release"
    QUARANTINE = "quarantine"
    RESERVE = "reserve"


class TaskAssignment(Message):
    """One device's part of a run, with the attempt number that fences it.

    A known task that is handed out with a higher attempt begins anew: what the node had under way of it is stopped
    and says nothing more.
    """

    task_id: UuidField
    device_id: DeviceIdField
    attempt: int = Field(default=1, ge=1)


class RunStart(Message):
    """All that a node needs to execute its part of a run. `definition` is the pinned recipe document."""

    type: Literal[CommandType.RUN_START] = CommandType.RUN_START
    command_id: UuidField
    run_id: UuidField
    video_id: str | None = Field(default=None, alias="youtubeVideoId")
    workflow_id: WorkflowIdField
    version: int = Field(ge=1)
    definition: dict[str, Any]
    params: dict[str, str] = Field(default_factory=dict)
    timeout_overrides: dict[str, int] = Field(default_factory=dict, alias="timeoutOverrides")
    global_timeout_ms: int = Field(
        alias="globalTimeoutMs", ge=limits.TASK_TIMEOUT_MS_MIN, le=limits.TASK_TIMEOUT_MS_MAX
    )
    max_attempts: int = Field(default=1, ge=1, le=limits.MAX_ATTEMPTS_MAX, alias="maxAttempts")
    tasks: list[TaskAssignment] = Field(max_length=limits.DEVICES_PER_NODE_MAX)


class RunStop(Message):
    """Ends every open task of the run at this node: a queued or parked one at once, a running one after teardown."""

    type: Literal[CommandType.RUN_STOP] = CommandType.RUN_STOP
    command_id: UuidField
    run_id: UuidField


class TaskCancel(Message):
    """The same for one task."""

    type: Literal[CommandType.TASK_CANCEL] = CommandType.TASK_CANCEL
    command_id: UuidField
    task_id: UuidField


# Lines of text, as a person wrote them.
ActionReason = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Owner = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]*$")]
ReservationMinutes = Annotated[int, Field(ge=1, le=limits.RESERVATION_MINUTES_MAX, strict=True)]


class DeviceAction(Message):
    """Something to do to a phone. Once acknowledged it is kept until it is done; a node that ends meanwhile may do it
    twice. What cannot be done after all is told by a second acknowledgement (docs/adr/0026).

    `owner` and `minutes` belong to `reserve`: for whom, and for how long from the moment in which the node has it.
    """

    type: Literal[CommandType.DEVICE_ACTION] = CommandType.DEVICE_ACTION
    command_id: UuidField
    device_id: DeviceIdField
    action: DeviceActionKind
    reason: ActionReason | None = None
    owner: Owner | None = None
    minutes: ReservationMinutes | None = None


Command = Annotated[RunStart | RunStop | TaskCancel | DeviceAction, Field(discriminator="type")]


class PullAnswer(Message):
    """Commands stay raw here: one that a node cannot read must not hide its neighbours. `now`: the backend's clock."""

    commands: list[dict[str, Any]] = Field(default_factory=list)
    now: EpochMs | None = None
