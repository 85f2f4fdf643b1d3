"""What the backend forgets, and when: seen event ids and idempotency keys, once they have outlived any outage."""

from typing import Final

from muster.runtime.clock import Clock
from muster.runtime.ids import uuid7
from muster.runtime.logs import get_logger
from muster.store import events, runs
from muster.store.database import Database, StoreUnavailableError

# A node may hold events for as long as it could not reach the backend (spec/03): no outage is longer than this.
EVENT_MEMORY_SEC: Final = 30 * 24 * 3600
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
    """Forgets what is older than EVENT_MEMORY_SEC; gives the number of events."""
    before_ms = now_ms - EVENT_MEMORY_SEC * 1000
    async with database.writing() as tx:
        await runs.forget_keys(tx, before_ms)
    # Ids are time-ordered, so the old ones lie together at the beginning and are found without another index.
    forgotten, last_id = 0, uuid7(max(before_ms, 0), 0)
    while True:
        async with database.writing() as tx:
            found = await events.forget(tx, last_id=last_id, before_ms=before_ms, limit=PORTION)
        forgotten += found
        if found < PORTION:
            return forgotten
