"""What the backend forgets, and when.

Seen event ids, commands and idempotency keys, once they have outlived any outage; the audit log after a year.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.runtime.clock import Clock
from muster.runtime.ids import uuid7
from muster.runtime.logs import get_logger
from muster.store import audit, commands, events, runs
from muster.store.database import Database, StoreUnavailableError

# A node may hold events for as long as it could not reach the backend (spec/03): no outage is longer than this.
EVENT_MEMORY_SEC: Final = 30 * 24 * 3600
AUDIT_KEEP_SEC: Final = 365 * 24 * 3600
INTERVAL_SEC: Final = 3600
# Small transactions: callbacks must not wait for a day's worth of deletions.
PORTION: Final = 1_000
_log = get_logger()


async def keep_house(database: Database, clock: Clock) -> None:
    """Forgets once an hour, for ever; begins at once, so that a backend that is restarted daily does it too."""
    while True:
        try:
            await forget(database, clock.now_ms())
        except StoreUnavailableError as error:
            _log.warning("Old events could not be forgotten", reason=str(error))
        await clock.sleep(INTERVAL_SEC)


async def forget(database: Database, now_ms: int) -> int:
    """Forgets what is older than EVENT_MEMORY_SEC, and the audit log's year; gives the number of events."""
    before_ms = now_ms - EVENT_MEMORY_SEC * 1000
    async with database.writing() as tx:
        await runs.forget_keys(tx, before_ms)
    # Ids are time-ordered, so the old ones lie together at the beginning and are found without another index.
    last_id, last_audit_id = uuid7(max(before_ms, 0), 0), uuid7(max(now_ms - AUDIT_KEEP_SEC * 1000, 0), 0)
    await _portions(database, partial(commands.forget, last_id=last_id, before_ms=before_ms, limit=PORTION))
    await _portions(database, partial(audit.forget, last_id=last_audit_id, limit=PORTION))
    return await _portions(database, partial(events.forget, last_id=last_id, before_ms=before_ms, limit=PORTION))


async def _portions(database: Database, forget_some: Callable[[AsyncConnection], Awaitable[int]]) -> int:
    forgotten = 0
    while True:
        async with database.writing() as tx:
            found = await forget_some(tx)
        forgotten += found
        if found < PORTION:
            return forgotten
