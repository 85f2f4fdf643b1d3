"""Whether this node's disk takes more work: what is free is measured, and what could not be written is tried again.

While it does not, no run is taken (spec/07); what was taken goes on, what is recorded is kept, and the node says why.
"""

from collections.abc import Callable
from typing import Final, Protocol

from muster.agent.journal import JournalError
from muster.domain.limits import DISK_BYTES_MIN
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
LOOK_SEC: Final = 5.0
# Room that has just come back may go again: this much more than the least must be free before runs are taken.
ROOM_AGAIN: Final = 1.1


class Written(Protocol):
    """Something on the disk that knows whether its last write failed."""

    @property
    def fault(self) -> str | None:
        """Why its last write failed; None when it did not."""
        ...

    async def try_again(self) -> None:
        """Writes something small, which settles `fault`. Raises JournalError, OSError."""
        ...


class DiskRoom:
    """`free_bytes`: what is free where the agent keeps its files; None: unknown. `on_change`: `trouble` is another."""

    def __init__(
        self,
        written: tuple[Written, ...],
        free_bytes: Callable[[], int | None],
        *,
        on_change: Callable[[], None],
        clock: Clock,
        bytes_min: int = DISK_BYTES_MIN,
    ) -> None:
        self._written = written
        self._free_bytes = free_bytes
        self._on_change = on_change
        self._clock = clock
        self._bytes_min = bytes_min
        self._is_low: str | None = None
        self._told: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why this node takes no run now; None: it does."""
        causes = [*(part.fault for part in self._written), self._is_low]
        there = [cause for cause in causes if cause is not None]
        return f"no run is taken: {'; '.join(there)}" if there else None

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SEC)

    async def look(self) -> None:
        """Measures, tries again what failed, and tells of a change."""
        self._is_low = self._measured()
        for part in self._written:
            if part.fault is not None:
                try:
                    await part.try_again()
                except (JournalError, OSError) as error:
                    log.debug("The disk still takes nothing", error=str(error))
        self._tell()

    def _measured(self) -> str | None:
        try:
            free = self._free_bytes()
        except OSError as error:
            log.debug("The disk's room cannot be read", error=str(error))
            return None
        least = self._bytes_min if self._is_low is None else round(self._bytes_min * ROOM_AGAIN)
        if free is None or free >= least:
            return None
        return f"{_megabytes(free)} are free on the disk, {_megabytes(self._bytes_min)} are kept free"

    def _tell(self) -> None:
        trouble, told = self.trouble, self._told
        if (trouble is None) != (told is None):
            if trouble is not None:
                log.error("The disk takes no more", error=trouble)
            else:
                log.info("The disk has room again; runs are taken")
        if trouble != told:
            self._told = trouble
            self._on_change()


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:.0f} MB"
