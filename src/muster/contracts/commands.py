"""What the backend asks of a node: the answer of `GET /api/nodes/pull` (spec/03).

A command is handed out again until the node acknowledges it with `command_ack`; a node drops what its journal has.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from muster.contracts.base import DeviceIdField, Message, UuidField, WorkflowIdField
from muster.domain import limits


class CommandType(StrEnum):
    """The commands that exist; `run_stop`, `task_cancel` and `device_action` join with their issue."""

    RUN_START = "run_start"


class TaskAssignment(Message):
    """One device's part of a run, with the attempt number that fences it."""

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


Command = Annotated[RunStart, Field()]


class PullAnswer(Message):
    """Commands stay raw here: one that a node cannot read must not hide its neighbours."""

    commands: list[dict[str, Any]] = Field(default_factory=list)
