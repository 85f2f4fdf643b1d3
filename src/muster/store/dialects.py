"""What SQLAlchemy leaves to its user: `INSERT … ON CONFLICT` in whichever dialect is in use, and a name for any row."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

AnyRow = Row[*tuple[Any, ...]]
AnyRows = Sequence[AnyRow]
Upsert = sqlite.Insert | postgresql.Insert


def insert_into(tx: AsyncConnection, table: Table) -> Upsert:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)
