"""Ends that the backend writes by itself because no node will tell them (spec/03).

Each is one UPDATE of open tasks. A *presumed* end gives way to the node's own word, whenever that comes.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.contracts.commands import CommandType
from muster.domain.failure import FailureReason
from muster.domain.task import OPEN_TASK_STATES, TaskState
from muster.store.dialects import AnyRows
from muster.store.tables import device_tasks, node_commands, runs
from muster.store.tasks import open_runs

_t = device_tasks.c
_k = node_commands.c
_LOST = {"status": TaskState.FAILED, "failure_reason": FailureReason.NODE_LOST, "presumed": True}
_STOPPED = {"status": TaskState.CANCELLED, "failure_reason": FailureReason.CANCELLED, "presumed": True}


async def presume_lost(tx: AsyncConnection, node_id: str, *, message: str, now_ms: int) -> AnyRows:
    """What is open on a silent node → `failed/node_lost`. Gives (run_id, task_id) of those that it ended."""
    return await _end(tx, _open_on(node_id), _LOST, message, now_ms)


async def end_untaken(tx: AsyncConnection, task_ids: Collection[str], *, message: str, now_ms: int) -> AnyRows:
    """Tasks that no node was ever told of → `failed/node_lost`, for certain. Gives as `presume_lost`."""
    mine = [_t.task_id.in_(sorted(task_ids)), _t.status == TaskState.QUEUED]
    return await _end(tx, mine, _LOST | {"presumed": False}, message, now_ms)


async def presume_forgotten(
    tx: AsyncConnection, node_id: str, instance_id: str, *, message: str, now_ms: int
) -> AnyRows:
    """What an agent other than `instance_id` took up on this node → `failed/node_lost`. Gives as `presume_lost`."""
    taken = _command_of_task(CommandType.RUN_START, _k.handed_to.is_not(None), _k.handed_to != instance_id)
    return await _end(tx, [*_open_on(node_id), taken], _LOST, message, now_ms)


async def presume_stopped(
    tx: AsyncConnection, node_id: str, *, acked_before_ms: int, message: str, now_ms: int
) -> AnyRows:
    """What is open though its node took note of the run's stop so long ago → `cancelled`. Gives as `presume_lost`."""
    return await _end(tx, _overdue(node_id, acked_before_ms), _STOPPED, message, now_ms)


async def overdue_stops(tx: AsyncConnection, acked_before_ms: int) -> set[str]:
    """The nodes that took note of a stop before then and have something of its run open."""
    query = select(_t.node_id).where(*_overdue(None, acked_before_ms)).distinct()
    return set((await tx.execute(query)).scalars())


def _overdue(node_id: str | None, acked_before_ms: int) -> list[ColumnElement[bool]]:
    stopping = open_runs().where(runs.c.stop_requested_at.is_not(None))
    # A stop that was refused is not obeyed, and its tasks go on.
    noted = _command_of_task(CommandType.RUN_STOP, _k.acked_at < acked_before_ms, _k.error_message.is_(None))
    mine = [] if node_id is None else [_t.node_id == node_id]
    return [_t.run_id.in_(stopping), _t.status.in_(sorted(OPEN_TASK_STATES)), *mine, noted]


def _command_of_task(kind: CommandType, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether the task's node has acknowledged such a command of the task's run."""
    theirs = (_k.run_id == _t.run_id, _k.node_id == _t.node_id, _k.type == kind, _k.acked_at.is_not(None))
    return select(_k.command_id).where(*theirs, *conditions).exists()


def _open_on(node_id: str) -> list[ColumnElement[bool]]:
    return [_t.run_id.in_(open_runs()), _t.node_id == node_id, _t.status.in_(sorted(OPEN_TASK_STATES))]


async def _end(
    tx: AsyncConnection, which: list[ColumnElement[bool]], end: dict[str, Any], message: str, now_ms: int
) -> AnyRows:
    times = {"ended_at": now_ms, "wait_until": None, "updated_at": now_ms}
    statement = update(device_tasks).where(*which).values(**end, **times, error_message=message)
    return (await tx.execute(statement.returning(_t.run_id, _t.task_id))).all()
