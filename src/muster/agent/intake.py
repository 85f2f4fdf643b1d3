"""From a raw command to something to obey, or to a reason why not. Pure: no I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from pydantic import ValidationError

from muster.agent.ports import RunPlan
from muster.contracts.commands import (
    CommandType,
    DeviceAction,
    RunStart,
    RunStop,
    TaskAssignment,
    TaskCancel,
)
from muster.domain.ids import UUID_PATTERN
from muster.recipe.parse import parse_recipe

_UUID: Final = re.compile(UUID_PATTERN)
_ERRORS_TOLD_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Readable:
    """A run to take up."""

    start: RunStart
    plan: RunPlan


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A command that cannot be obeyed: why, and those of its tasks whose names could be made out."""

    command_id: str
    message: str
    run_id: str | None = None
    tasks: tuple[TaskAssignment, ...] = ()


@dataclass(frozen=True, slots=True)
class Nameless:
    """Not even an id to acknowledge."""

    message: str


Order = RunStop | TaskCancel | DeviceAction
_ORDERS: Final[Mapping[str, type[Order]]] = MappingProxyType(
    {
        CommandType.RUN_STOP: RunStop,
        CommandType.TASK_CANCEL: TaskCancel,
        CommandType.DEVICE_ACTION: DeviceAction,
    }
)


def read_command(raw: Mapping[str, Any]) -> Readable | Order | Unreadable | Nameless:
    """Reads one command of a pull's answer by itself, so that a bad one hides no neighbour."""
    command_id, kind = raw.get("command_id"), raw.get("type")
    if not _is_uuid(command_id):
        return Nameless("the command has no command_id that is a UUID")
    if kind == CommandType.RUN_START:
        return _read_run(command_id, raw)
    order = _ORDERS.get(kind) if isinstance(kind, str) else None
    if order is None:
        return Unreadable(command_id, f"this node does not know the command {kind!r}")
    try:
        return order.model_validate(raw)
    except ValidationError as error:
        return Unreadable(command_id, _told(error))


def _read_run(command_id: str, raw: Mapping[str, Any]) -> Readable | Unreadable:
    try:
        start = RunStart.model_validate(raw)
    except ValidationError as error:
        return _unreadable_run(command_id, raw, _told(error))
    plan = plan_of(start)
    if isinstance(plan, str):
        return _unreadable_run(command_id, raw, plan)
    return Readable(start, plan)


def plan_of(start: RunStart) -> RunPlan | str:
    """The run as the executor takes it, or what is wrong with its recipe."""
    parsed = parse_recipe(start.definition)
    if parsed.recipe is None:
        issues = "; ".join(f"{issue.path} {issue.message}".strip() for issue in parsed.errors[:_ERRORS_TOLD_MAX])
        return f"the recipe {start.workflow_id} cannot be read: {issues}"
    return RunPlan(
        run_id=start.run_id,
        workflow_id=start.workflow_id,
        recipe=parsed.recipe,
        video_id=start.video_id,
        params=start.params,
        timeout_overrides_ms=start.timeout_overrides,
        global_timeout_ms=start.global_timeout_ms,
        max_attempts=start.max_attempts,
    )


def _unreadable_run(command_id: str, raw: Mapping[str, Any], message: str) -> Unreadable:
    run_id, tasks = raw.get("run_id"), raw.get("tasks")
    if not _is_uuid(run_id) or not isinstance(tasks, list):
        return Unreadable(command_id, message)
    named = (task for task in map(_task, tasks) if task is not None)
    return Unreadable(command_id, message, run_id, tuple(named))


def _task(raw: object) -> TaskAssignment | None:
    try:
        return TaskAssignment.model_validate(raw)
    except ValidationError:
        return None


def _is_uuid(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _told(error: ValidationError) -> str:
    issues = (
        f"{'.'.join(str(part) for part in issue['loc'])}: {issue['msg']}" for issue in error.errors()[:_ERRORS_TOLD_MAX]
    )
    return f"the command cannot be read: {'; '.join(issues)}"
