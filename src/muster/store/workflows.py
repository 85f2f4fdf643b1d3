"""Workflows: every version that was ever saved, none ever changed."""

from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.dialects import AnyRow, AnyRows
from muster.store.tables import workflows


async def find(tx: AsyncConnection, workflow_id: str, version: int | None = None) -> AnyRow | None:
    """One version, the newest when none is named."""
    query = select(workflows).where(workflows.c.workflow_id == workflow_id)
    if version is not None:
        query = query.where(workflows.c.version == version)
    return (await tx.execute(query.order_by(workflows.c.version.desc()).limit(1))).first()


async def versions(tx: AsyncConnection, workflow_id: str) -> list[int]:
    """All versions of one workflow, oldest first."""
    query = select(workflows.c.version).where(workflows.c.workflow_id == workflow_id).order_by(workflows.c.version)
    return list((await tx.execute(query)).scalars())


async def newest(tx: AsyncConnection) -> AnyRows:
    """The newest version of each workflow, by id, without its definition."""
    last = (
        select(workflows.c.workflow_id, func.max(workflows.c.version).label("version"))
        .group_by(workflows.c.workflow_id)
        .subquery()
    )
    w = workflows.c
    query = select(w.workflow_id, w.version, w.name, w.steps_count, w.created_at).join(
        last, (w.workflow_id == last.c.workflow_id) & (w.version == last.c.version)
    )
    return (await tx.execute(query.order_by(w.workflow_id))).all()


async def add(tx: AsyncConnection, **columns: Any) -> None:
    """Adds one version; the primary key refuses one that exists."""
    await tx.execute(insert(workflows).values(**columns))
