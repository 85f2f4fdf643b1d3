"""Commands that wait for a node, are with it, or were taken note of by it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.contracts.commands import CommandType
from muster.domain.run import OPEN_RUN_STATES
from muster.store.dialects import AnyRows
from muster.store.tables import node_commands, runs

EXPIRED: Final = "expired: the node did not fetch it in time"
_c = node_commands.c


async def add(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Queues commands."""
    await tx.execute(insert(node_commands), list(rows))


async def next_due_ms(
    tx: AsyncConnection, node_id: str, instance_id: str, *, now_ms: int, redelivery_ms: int
) -> int | None:
    """When (epoch ms) an open command may be handed to this instance: 0 = at once, None = there is none."""
    due = select(_c.handed_at, _is_due(instance_id, now_ms, redelivery_ms)).where(
        _c.node_id == node_id, _c.acked_at.is_(None)
    )
    times = [0 if is_due else int(handed_at) + redelivery_ms for handed_at, is_due in await tx.execute(due)]
    return min(times, default=None)


async def hand_out(
    tx: AsyncConnection, node_id: str, instance_id: str, *, now_ms: int, redelivery_ms: int
) -> list[dict[str, Any]]:
    """Marks and gives the bodies of all commands that are due to this instance, in the order they were made."""
    statement = (
        update(node_commands)
        .where(_c.node_id == node_id, _c.acked_at.is_(None), _is_due(instance_id, now_ms, redelivery_ms))
        .values(handed_to=instance_id, handed_at=now_ms)
        .returning(_c.command_id, _c.body)
    )
    return [row.body for row in sorted(await tx.execute(statement), key=lambda row: str(row.command_id))]


def _is_due(instance_id: str, now_ms: int, redelivery_ms: int) -> ColumnElement[bool]:
    return or_(
        _c.handed_to.is_(None),
        _c.handed_to != instance_id,
        _c.handed_at <= now_ms - redelivery_ms,
        _c.handed_at > now_ms,  # the clock was set back: better once too often than never
    )


async def withdraw_starts(tx: AsyncConnection, run_id: str, now_ms: int) -> list[dict[str, Any]]:
    """Takes back the run's `run_start`s that were never handed out; gives their bodies."""
    statement = (
        update(node_commands)
        .where(*_open_starts(run_id), _c.handed_at.is_(None))
        .values(acked_at=now_ms, error_message="withdrawn: the run was stopped")
        .returning(_c.body)
    )
    return list((await tx.execute(statement)).scalars())


async def withdraw_starts_of_node(tx: AsyncConnection, node_id: str, now_ms: int) -> list[dict[str, Any]]:
    """Takes back every `run_start` that a lost node has not acknowledged: what has ended must not begin later on.

    Gives the bodies of those that were never handed out.
    """
    statement = (
        update(node_commands)
        .where(_c.node_id == node_id, _c.type == CommandType.RUN_START, _c.acked_at.is_(None))
        .values(acked_at=now_ms, error_message="withdrawn: the node was lost")
        .returning(_c.body, _c.handed_at)
    )
    return [row.body for row in await tx.execute(statement) if row.handed_at is None]


async def hand_out_starts_again(tx: AsyncConnection, run_id: str) -> None:
    """Makes due what was handed out and not acknowledged, so that it reaches its node before a `run_stop` does.

    It may have been lost on the way; coming after the `run_stop`, it would start what was stopped. That it was handed
    out (`handed_at`) stays on record.
    """
    statement = update(node_commands).where(*_open_starts(run_id)).values(handed_to=None)
    await tx.execute(statement)


def _open_starts(run_id: str) -> list[ColumnElement[bool]]:
    return [_c.run_id == run_id, _c.type == CommandType.RUN_START, _c.acked_at.is_(None)]


async def open_actions(tx: AsyncConnection, node_id: str) -> AnyRows:
    """(command_id, body) of the device actions that the node has not acknowledged."""
    query = select(_c.command_id, _c.body).where(
        _c.node_id == node_id, _c.acked_at.is_(None), _c.type == CommandType.DEVICE_ACTION
    )
    return (await tx.execute(query.order_by(_c.command_id))).all()


async def hand_out_actions_again(tx: AsyncConnection, node_id: str, device_id: str) -> None:
    """Makes due what was asked of the phone and is not acknowledged: it may be lost, and is not to come after the next.

    That it was handed out (`handed_at`) stays on record.
    """
    statement = (
        update(node_commands)
        .where(_c.node_id == node_id, _c.acked_at.is_(None), _c.type == CommandType.DEVICE_ACTION)
        .where(_c.body["device_id"].as_string() == device_id)
        .values(handed_to=None)
    )
    await tx.execute(statement)


async def expire_actions(tx: AsyncConnection, before_ms: int, now_ms: int) -> list[str]:
    """Closes device actions of before `before_ms` that no node has fetched since: a reboot must not come days late.

    One that was fetched before that and not acknowledged was lost on the way; a node that is there fetches it again
    within seconds. Gives their ids.
    """
    statement = (
        update(node_commands)
        .where(
            _c.type == CommandType.DEVICE_ACTION,
            _c.acked_at.is_(None),
            or_(_c.handed_at.is_(None), _c.handed_at < before_ms),
            # From the future: the clock was put back since, and nobody knows how old it is.
            or_(_c.created_at < before_ms, _c.created_at > 2 * now_ms - before_ms),
        )
        .values(acked_at=now_ms, error_message=EXPIRED)
        .returning(_c.command_id)
    )
    return list((await tx.execute(statement)).scalars())


async def find(tx: AsyncConnection, command_ids: Sequence[str]) -> AnyRows:
    """(command_id, node_id, run_id, type) of those that exist."""
    query = select(_c.command_id, _c.node_id, _c.run_id, _c.type).where(_c.command_id.in_(command_ids))
    return (await tx.execute(query)).all()


async def acknowledge(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]], now_ms: int) -> None:
    """Rows of `command` and `error`: the first acknowledgement counts."""
    statement = (
        update(node_commands)
        .where(_c.command_id == bindparam("command"), _c.acked_at.is_(None))
        .values(acked_at=now_ms, error_message=func.coalesce(bindparam("error"), _c.error_message))
    )
    await tx.execute(statement, list(rows))


async def forget(tx: AsyncConnection, *, last_id: str, before_ms: int, limit: int) -> int:
    """Forgets up to `limit` commands with an id below `last_id` that nobody can ask for any more; gives their number.

    Acknowledged before `before_ms`, and of no run or of one that has ended.
    """
    is_open = select(runs.c.run_id).where(runs.c.attention == 0, runs.c.status.in_(OPEN_RUN_STATES))
    old = (
        select(_c.command_id)
        .where(_c.command_id < last_id, _c.acked_at < before_ms)
        .where(or_(_c.run_id.is_(None), _c.run_id.not_in(is_open)))
        .order_by(_c.command_id)
        .limit(limit)
    )
    result = await tx.execute(delete(node_commands).where(_c.command_id.in_(old)).returning(_c.command_id))
    return len(result.all())
