"""Node Preflight (R2.3): does the vendor tool answer? Asked at boot and every 5 s from then on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from muster.agent.devices import VendorEntry
from muster.agent.waiting import set_within
from muster.domain.limits import VENDOR_BOOT_WAIT_MS, VENDOR_LIST_INTERVAL_MS
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
BOOT_RETRY_SEC: Final = 0.25


class VendorSilent(Exception):
    """The tool gave no list; the message says why."""


class VendorWatch:
    """Keeps asking for the tool's list. `listed` gets each list, and None when the tool falls silent."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Sequence[VendorEntry]]],
        listed: Callable[[Sequence[VendorEntry] | None], None],
        clock: Clock,
    ) -> None:
        self._ask = ask
        self._listed = listed
        self._clock = clock
        self._started = clock.monotonic()
        self._poked = asyncio.Event()
        self._told_silence = False
        self.ok = False
        self.last_ok_ms: int | None = None
        # Times it was silent and answered again.
        self.returns = 0

    @property
    def is_booting(self) -> bool:
        """It has not answered yet and may still: at boot it gets 5 s (R6.3)."""
        age_sec = self._clock.monotonic() - self._started
        return self.last_ok_ms is None and age_sec < VENDOR_BOOT_WAIT_MS / 1000

    def poke(self) -> None:
        """Asks at once: a phone has come that the tool may have a name for."""
        self._poked.set()

    def failed(self) -> None:
        """Somebody else found the tool silent."""
        self.ok = False

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self._poked.clear()
            await self._look()
            pause_sec = BOOT_RETRY_SEC if self.is_booting else VENDOR_LIST_INTERVAL_MS / 1000
            if await set_within(self._poked, pause_sec, self._clock):
                # A hub that is plugged in brings twenty phones within a moment.
                await self._clock.sleep(BOOT_RETRY_SEC)

    async def _look(self) -> None:
        try:
            entries = await self._ask()
        except VendorSilent as error:
            self.ok = False
            self._listed(None)
            if not self._told_silence and not self.is_booting:
                self._told_silence = True
                log.warning("The vendor tool does not answer; adb alone goes on", error=str(error))
            return
        if not self.ok:
            self.returns += self.last_ok_ms is not None
            log.info("The vendor tool answers", phones=len(entries))
        self.ok, self.last_ok_ms, self._told_silence = True, self._clock.now_ms(), False
        self._listed(entries)
