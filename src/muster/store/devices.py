"""Phones as last flushed from memory (`backend/presence.py`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.dialects import AnyRows, insert_into
from muster.store.tables import devices


async def everything(tx: AsyncConnection) -> AnyRows:
    """All phones that were ever seen."""
    return (await tx.execute(select(devices))).all()


async def save(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes whole rows, new or known."""
    statement = insert_into(tx, devices)
    given = {column.name: statement.excluded[column.name] for column in devices.c if not column.primary_key}
    await tx.execute(statement.on_conflict_do_update(index_elements=[devices.c.device_id], set_=given), list(rows))
