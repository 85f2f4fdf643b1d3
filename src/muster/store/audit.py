"""The audit log: written in the transaction of what it tells, answered by the node's word, forgotten after a year."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.dialects import AnyRows
from muster.store.tables import audit_log

_c = audit_log.c


async def add(tx: AsyncConnection, **columns: Any) -> None:
    """Notes that somebody had something done."""
    await tx.execute(insert(audit_log).values(**columns))


async def answer(tx: AsyncConnection, rows: Sequence[Mapping[str, Any]], now_ms: int) -> None:
    """What became of commands. Rows of `command` and `error`; the first answer counts, and the first error after it."""
    error = bindparam("error", type_=_c.error_message.type)
    is_new = or_(_c.answered_at.is_(None), and_(_c.error_message.is_(None), error.is_not(None)))
    statement = (
        update(audit_log)
        .where(_c.command_id == bindparam("command"), is_new)
        .values(answered_at=func.coalesce(_c.answered_at, now_ms), error_message=error)
    )
    await tx.execute(statement, list(rows))


async def of_subject(tx: AsyncConnection, subject: str, limit: int) -> AnyRows:
    """What was done to a run or a phone, the newest first."""
    query = select(audit_log).where(_c.subject == subject).order_by(_c.audit_id.desc()).limit(limit)
    return (await tx.execute(query)).all()


async def forget(tx: AsyncConnection, *, last_id: str, limit: int) -> int:
    """Forgets up to `limit` entries with an id below `last_id`; gives their number."""
    old = select(_c.audit_id).where(_c.audit_id < last_id).order_by(_c.audit_id).limit(limit)
    return len((await tx.execute(delete(audit_log).where(_c.audit_id.in_(old)).returning(_c.audit_id))).all())
