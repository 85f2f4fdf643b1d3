"""Pictures: known from the moment an upload was allowed, confirmed when the store has their bytes."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.dialects import AnyRow, AnyRows, insert_into
from muster.store.tables import artifacts, device_tasks

_c = artifacts.c


async def find(tx: AsyncConnection, artifact_id: str) -> AnyRow | None:
    """One picture, stored or not."""
    return (await tx.execute(select(artifacts).where(_c.artifact_id == artifact_id))).first()


async def find_same(tx: AsyncConnection, task_id: str, step_id: str, sha256: str) -> AnyRow | None:
    """The picture of this step with these bytes, if it was announced before."""
    query = select(artifacts).where(_c.task_id == task_id, _c.step_id == step_id, _c.sha256 == sha256)
    return (await tx.execute(query)).first()


async def add(tx: AsyncConnection, *, storage_path: str, **columns: Any) -> bool:
    """Announces a picture. False when another one has this place, or these very bytes of this step are known."""
    statement = insert_into(tx, artifacts).on_conflict_do_nothing().returning(_c.artifact_id)
    values = {"storage_path": storage_path, "storage_path_folded": storage_path.casefold()} | columns
    return (await tx.execute(statement.values(**values))).first() is not None


async def mark_stored(tx: AsyncConnection, artifact_id: str, now_ms: int) -> None:
    """The store has confirmed the bytes; the first confirmation counts."""
    await tx.execute(
        update(artifacts).where(_c.artifact_id == artifact_id, _c.stored_at.is_(None)).values(stored_at=now_ms)
    )


async def of_tasks(tx: AsyncConnection, task_ids: Sequence[str]) -> AnyRows:
    """Stored pictures of these tasks, oldest first."""
    query = select(artifacts).where(_c.task_id.in_(task_ids), _c.stored_at.is_not(None)).order_by(_c.taken_at)
    return (await tx.execute(query)).all()


async def task_owner(tx: AsyncConnection, task_id: str) -> AnyRow | None:
    """(run_id, node_id, device_id) of a task."""
    t = device_tasks.c
    return (await tx.execute(select(t.run_id, t.node_id, t.device_id).where(t.task_id == task_id))).first()
