"""Nodes as last flushed from memory (`backend/presence.py`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.dialects import AnyRows, insert_into
from muster.store.tables import nodes


async def everything(tx: AsyncConnection) -> AnyRows:
    """All nodes."""
    return (await tx.execute(select(nodes))).all()


async def save(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes whole rows, new or known."""
    statement = insert_into(tx, nodes)
    given = {column.name: statement.excluded[column.name] for column in nodes.c if not column.primary_key}
    await tx.execute(statement.on_conflict_do_update(index_elements=[nodes.c.node_id], set_=given), list(rows))
