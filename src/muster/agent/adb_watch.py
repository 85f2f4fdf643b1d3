"""Watches adb's list of phones, and keeps a server there to ask."""

import asyncio
import contextlib
import random
import re
from collections.abc import Callable, Sequence
from typing import Final

from muster.adb.client import AdbClient
from muster.adb.errors import AdbError, AdbServerGone
from muster.adb.protocol import AttachedDevice, ConnectOutcome, DeviceList, DeviceState
from muster.adb.server import ensure_server
from muster.adb.tracker import track
from muster.agent.devices import AdbEntry
from muster.domain.device import AttachState
from muster.domain.limits import DEVICES_PER_NODE_MAX
from muster.runtime.backoff import ladder_delay_sec
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.runtime.supervision import raise_first

log = get_logger()
SERVER_RETRY_LADDER_SEC: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_SEC: Final = 30.0
"""A server that was there for so long and dies has not died "again"."""
PULSE_SEC: Final = 10.0
REATTACH_LADDER_SEC: Final = (0.5, 2.0, 5.0, 10.0)
REATTACH_AT_ONCE: Final = 8
_TCP_SERIAL = re.compile(r"[^:]+:\d{1,5}$")
_STATES: Final = {DeviceState.DEVICE: AttachState.DEVICE, DeviceState.UNAUTHORIZED: AttachState.UNAUTHORIZED}


class AdbWatch:
    """`saw` gets every list, `lost` the cause when the server is gone: one event for the node, not one a phone."""

    def __init__(
        self,
        client: AdbClient,
        saw: Callable[[Sequence[AdbEntry]], None],
        lost: Callable[[str], None],
        clock: Clock,
        *,
        pulse_sec: float = PULSE_SEC,
    ) -> None:
        self._client = client
        self._saw = saw
        self._lost = lost
        self._clock = clock
        self._rng = random.Random()  # noqa: S311  # jitter, no secret
        self._pulse_sec = pulse_sec
        self._failures = 0
        self._is_lost = False
        self._tcp_serials: set[str] = set()

    async def run(self) -> None:
        """Until it is cancelled. A server that died is started again, and its TCP phones are connected again."""
        while True:
            began = self._clock.monotonic()
            try:
                await ensure_server(self._client.host, self._client.port)
                await self._follow()
            except (AdbError, OSError) as error:
                # One that dies again and again is not come back to at full speed, with all its phones.
                is_first = self._clock.monotonic() - began >= STEADY_SEC
                self._failures = 1 if is_first else self._failures + 1
                self._tell_loss(error)
            await self._clock.sleep(ladder_delay_sec(self._failures, SERVER_RETRY_LADDER_SEC, self._rng))

    async def _follow(self) -> None:
        """Takes the server's lists until it is gone, or answers no more."""
        try:
            async with asyncio.TaskGroup() as together:
                _ = together.create_task(self._reattach(frozenset(self._tcp_serials)), name="rack: reattach")
                _ = together.create_task(self._feel_pulse(), name="rack: pulse of the adb server")
                async with contextlib.aclosing(track(self._client)) as lists:
                    async for devices in lists:
                        self._take(devices)
        except ExceptionGroup as failed:
            raise_first(failed)

    async def _feel_pulse(self) -> None:
        """A server that hangs says nothing, as one to which nothing happens. Raises AdbError after two silences."""
        silences = 0
        while True:
            await self._clock.sleep(self._pulse_sec)
            try:
                await self._client.version()
                silences = 0
            except AdbServerGone:
                silences += 1
                if silences == 2:
                    raise

    def _take(self, devices: DeviceList) -> None:
        if self._is_lost:
            log.info("The adb server is back", phones=len(devices))
            self._is_lost = False
        # Grows only: a phone that is away at the moment when the server dies is connected again too.
        self._tcp_serials.update(device.serial for device in devices if _TCP_SERIAL.match(device.serial))
        if len(self._tcp_serials) > DEVICES_PER_NODE_MAX:
            self._tcp_serials = {device.serial for device in devices if _TCP_SERIAL.match(device.serial)}
        self._saw([_entry(device) for device in devices])

    def _tell_loss(self, error: Exception) -> None:
        if not self._is_lost:
            log.warning("The adb server is gone", error=str(error))
            self._is_lost = True
        self._lost(f"the adb server at {self._client.host}:{self._client.port} is gone: {error}")

    async def _reattach(self, serials: frozenset[str]) -> None:
        """A new server knows no TCP phone. Those that do not answer are tried a few times, then left to people."""
        for delay_sec in REATTACH_LADDER_SEC:
            if not serials:
                return
            slots = asyncio.Semaphore(REATTACH_AT_ONCE)
            outcomes = await asyncio.gather(*(self._connect(serial, slots) for serial in sorted(serials)))
            serials = frozenset(serial for serial, attached in outcomes if not attached)
            await self._clock.sleep(delay_sec)
        if serials:
            log.warning("Phones were not connected again", handles=", ".join(sorted(serials)[:20]), count=len(serials))

    async def _connect(self, serial: str, slots: asyncio.Semaphore) -> tuple[str, bool]:
        async with slots:
            try:
                result = await self._client.connect(serial)
            except (AdbError, ValueError):
                return serial, False
        return serial, result.outcome in (ConnectOutcome.CONNECTED, ConnectOutcome.ALREADY_CONNECTED)


def _entry(device: AttachedDevice) -> AdbEntry:
    return AdbEntry(device.serial, _STATES.get(device.state, AttachState.OFFLINE), device.state_text)
