"""A journal that cannot be written (a full disk) is waited for: what happened is not lost for it."""

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from muster.agent.journal import JournalError
from muster.domain.limits import JOURNAL_RETRY_LADDER_SEC
from muster.runtime.backoff import ladder_delay_sec
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
T = TypeVar("T")
LOG_EVERY: Final = 30


async def until_journaled(write: Callable[[], Awaitable[T]], clock: Clock, rng: random.Random) -> T:
    """What `write` answers, once the journal takes it."""
    failures = 0
    while True:
        try:
            return await write()
        except JournalError as error:
            failures += 1
            # The first few, then once in a while: a full disk must not be filled with lines.
            if failures <= len(JOURNAL_RETRY_LADDER_SEC) or failures % LOG_EVERY == 0:
                log.error("The journal cannot be written; trying again", error=str(error), failures=failures)
            await clock.sleep(ladder_delay_sec(failures, JOURNAL_RETRY_LADDER_SEC, rng))
