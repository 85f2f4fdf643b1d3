"""Runs and the keys under which clients asked for them."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.run import OPEN_RUN_STATES, RunState
from muster.domain.task import OPEN_TASK_STATES
from muster.store.dialects import AnyRow, AnyRows
from muster.store.tables import device_tasks, idempotency_keys, runs, workflows

AnySelect = Select[*tuple[Any, ...]]


async def add(tx: AsyncConnection, **columns: Any) -> None:
    """Makes a run."""
    await tx.execute(insert(runs).values(**columns))


async def start(tx: AsyncConnection, run_ids: Collection[str], now_ms: int) -> None:
    """queued → running, for those that are still queued."""
    statement = (
        update(runs)
        .where(runs.c.run_id == bindparam("run"), runs.c.status == RunState.QUEUED)
        .values(status=RunState.RUNNING, started_at=now_ms)
    )
    await tx.execute(statement, [{"run": run_id} for run_id in sorted(run_ids)])


async def finish(tx: AsyncConnection, run_id: str, status: RunState, now_ms: int) -> bool:
    """queued | running → `status`; False: the run had ended already, and stays as it ended."""
    result = await tx.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.status.in_(OPEN_RUN_STATES))
        .values(status=status, started_at=func.coalesce(runs.c.started_at, now_ms), ended_at=now_ms)
        .returning(runs.c.run_id)
    )
    return result.first() is not None


async def correct(tx: AsyncConnection, run_id: str, status: RunState) -> bool:
    """An ended run → `status`, when it had ended otherwise: a presumed end of one of its tasks has become a real one.

    When it ended stays as it was: that is when everybody was told.
    """
    result = await tx.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.status.not_in([*OPEN_RUN_STATES, status]))
        .values(status=status)
        .returning(runs.c.run_id)
    )
    return result.first() is not None


async def reopen(tx: AsyncConnection, run_ids: Collection[str]) -> list[str]:
    """An ended run → `running`, when a task of it that was presumed to have ended goes on. Gives those."""
    c = device_tasks.c
    is_going_on = select(c.task_id).where(c.run_id == runs.c.run_id, c.status.in_(sorted(OPEN_TASK_STATES))).exists()
    statement = (
        update(runs)
        .where(runs.c.run_id.in_(sorted(run_ids)), runs.c.status.not_in(OPEN_RUN_STATES), is_going_on)
        .values(status=RunState.RUNNING, ended_at=None)
        .returning(runs.c.run_id)
    )
    return list((await tx.execute(statement)).scalars())


async def request_stop(tx: AsyncConnection, run_id: str, now_ms: int) -> bool:
    """Notes that the run shall stop; False: it was asked before, or it has ended."""
    result = await tx.execute(
        update(runs)
        .where(runs.c.run_id == run_id, runs.c.stop_requested_at.is_(None), runs.c.status.in_(OPEN_RUN_STATES))
        .values(stop_requested_at=now_ms)
        .returning(runs.c.run_id)
    )
    return result.first() is not None


async def stopping(tx: AsyncConnection, run_ids: Collection[str]) -> set[str]:
    """Those of `run_ids` that somebody asked to stop."""
    query = select(runs.c.run_id).where(runs.c.run_id.in_(sorted(run_ids)), runs.c.stop_requested_at.is_not(None))
    return set((await tx.execute(query)).scalars())


async def find(tx: AsyncConnection, run_id: str) -> AnyRow | None:
    """A run with its workflow's name."""
    return (await tx.execute(_with_name().where(runs.c.run_id == run_id))).first()


async def known(tx: AsyncConnection, run_ids: Collection[str]) -> set[str]:
    """Those of `run_ids` that exist."""
    query = select(runs.c.run_id).where(runs.c.run_id.in_(sorted(run_ids)))
    return set((await tx.execute(query)).scalars())


async def page(
    tx: AsyncConnection,
    *,
    statuses: Collection[RunState],
    created_since_ms: int | None,
    workflow_id: str | None,
    after: tuple[int, str] | None,
    limit: int,
) -> AnyRows:
    """Failed and running first, then newest first. `after` is (attention, run_id) of the last one seen."""
    query = _matching(_with_name(), statuses, created_since_ms, workflow_id)
    if after is not None:
        attention, run_id = after
        query = query.where(
            (runs.c.attention > attention) | ((runs.c.attention == attention) & (runs.c.run_id < run_id))
        )
    return (await tx.execute(query.order_by(runs.c.attention, runs.c.run_id.desc()).limit(limit))).all()


async def count_by_status(
    tx: AsyncConnection,
    *,
    statuses: Collection[RunState],
    created_since_ms: int | None,
    workflow_id: str | None,
) -> dict[RunState, int]:
    """How many runs match, by state; only the states that occur."""
    query = _matching(select(runs.c.status, func.count()), statuses, created_since_ms, workflow_id)
    return {RunState(status): count for status, count in await tx.execute(query.group_by(runs.c.status))}


async def remember_key(tx: AsyncConnection, **columns: Any) -> None:
    """Keeps what was answered under a key; the primary key refuses one that exists."""
    await tx.execute(insert(idempotency_keys).values(**columns))


async def find_key(tx: AsyncConnection, key: str) -> AnyRow | None:
    """What was asked for (`body_hash`) and answered under the key."""
    return (await tx.execute(select(idempotency_keys).where(idempotency_keys.c.key == key))).first()


async def forget_keys(tx: AsyncConnection, before_ms: int) -> None:
    """Forgets keys that were used before `before_ms`."""
    await tx.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at < before_ms))


def _with_name() -> AnySelect:
    return select(runs, workflows.c.name.label("workflow_name")).join_from(
        runs, workflows, (runs.c.workflow_id == workflows.c.workflow_id) & (runs.c.version == workflows.c.version)
    )


def _matching(
    query: AnySelect, statuses: Collection[RunState], created_since_ms: int | None, workflow_id: str | None
) -> AnySelect:
    if statuses:
        query = query.where(runs.c.status.in_(sorted(statuses)))
    if created_since_ms is not None:
        query = query.where(runs.c.created_at >= created_since_ms)
    if workflow_id is not None:
        query = query.where(runs.c.workflow_id == workflow_id)
    return query
