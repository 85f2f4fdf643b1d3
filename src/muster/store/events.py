"""The memory of seen events, and what they told of single steps."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import case, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.contracts.events import BESIDE_STEPS
from muster.store.dialects import AnyRows, insert_into
from muster.store.tables import callback_events, device_tasks, step_results

_s = step_results.c


async def remember(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Which of these events were never seen before; from now on they are."""
    statement = insert_into(tx, callback_events).on_conflict_do_nothing().returning(callback_events.c.event_id)
    return set((await tx.execute(statement, list(rows))).scalars())


async def seen(tx: AsyncConnection, event_ids: Collection[str]) -> dict[str, bool]:
    """Those of `event_ids` that are remembered → whether each was stale."""
    c = callback_events.c
    query = select(c.event_id, c.stale).where(c.event_id.in_(sorted(event_ids)))
    return {row.event_id: row.stale for row in await tx.execute(query)}


async def forget(tx: AsyncConnection, *, last_id: str, before_ms: int, limit: int) -> int:
    """Forgets up to `limit` events with an id below `last_id` that came before `before_ms`; gives their number.

    Both, since an id holds its node's clock: one that runs years behind must not make us forget what has just come.
    """
    c = callback_events.c
    old = select(c.event_id).where(c.event_id < last_id, c.received_at < before_ms).order_by(c.event_id).limit(limit)
    result = await tx.execute(delete(callback_events).where(c.event_id.in_(old)).returning(c.event_id))
    return len(result.all())


async def save_steps(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """The last word on each step, by `seq`: a late one never overwrites a newer one."""
    statement = insert_into(tx, step_results)
    keys = [_s.task_id, _s.attempt, _s.step_id]
    given = {column.name: statement.excluded[column.name] for column in step_results.c if not column.primary_key}
    await tx.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=given, where=statement.excluded.seq > _s.seq),
        list(rows),
    )


async def steps_of_run(
    tx: AsyncConnection, run_id: str, *, device_id: str | None, after: tuple[str, int, str] | None, limit: int
) -> AnyRows:
    """Steps of each task's last attempt: by device; what is told beside the recipe first; then in the recipe's order.

    `after`: (device_id, place, step_id) of the last one seen.
    """
    t = device_tasks.c
    place = case((_s.step_id.in_(sorted(BESIDE_STEPS)), 0), else_=_s.step_index + 1)
    order = tuple_(t.device_id, place, _s.step_id)
    query = (
        select(step_results, t.node_id, t.device_id, place.label("place"))
        .join_from(step_results, device_tasks, (_s.task_id == t.task_id) & (_s.attempt == t.attempt))
        .where(t.run_id == run_id)
        .order_by(t.device_id, place, _s.step_id)
        .limit(limit)
    )
    if device_id is not None:
        query = query.where(t.device_id == device_id)
    if after is not None:
        query = query.where(order > tuple_(*after))
    return (await tx.execute(query)).all()
