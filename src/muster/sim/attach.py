"""Keeps a rack's phones attached to an adb server: connects them, and connects again those that it has forgotten."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Final

from muster.adb.client import AdbClient
from muster.adb.errors import AdbError
from muster.adb.tracker import track
from muster.runtime.logs import get_logger

CONNECTS_AT_ONCE_MAX: Final = 20
CHECK_INTERVAL_SEC: Final = 2.0
"""Besides every change that the server tells of: a phone whose connect failed is tried again after this long."""
SERVER_RETRY_SEC: Final = 0.5


class Attacher:
    """Follows the server's list of devices. `wanted` gives the serials that should be there at this moment."""

    def __init__(
        self,
        client: AdbClient,
        wanted: Callable[[], Iterable[str]],
        revive_server: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._client = client
        self._wanted = wanted
        self._revive_server = revive_server
        self._states: dict[str, str] = {}
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(CONNECTS_AT_ONCE_MAX)
        self._changed = asyncio.Condition()
        self.server_is_up = False

    def state(self, serial: str) -> str | None:
        """How the adb server shows this serial: `device`, `offline`, `unauthorized`, …; None: not at all."""
        return self._states.get(serial)

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Waits until something about the server's list holds; end it with a time-out of your own."""
        async with self._changed:
            await self._changed.wait_for(holds)

    async def run(self) -> None:
        """Works until cancelled; what it has begun is ended then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(group))
                group.create_task(self._check(group))
        finally:
            self._connecting.clear()

    async def forget(self, serial: str) -> None:
        """Disconnects a serial, so that the server neither shows it nor tries to reach it."""
        if (task := self._connecting.get(serial)) is not None:
            task.cancel()
        try:
            await self._client.disconnect(serial)
        except AdbError as error:
            get_logger().debug("adb had nothing to disconnect", serial=serial, reason=str(error))

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                async with aclosing(track(self._client)) as lists:
                    async for devices in lists:
                        await self._take({device.serial: device.state.value for device in devices}, up=True)
                        self._connect_missing(group)
            except AdbError as error:
                get_logger().debug("adb server gone", reason=str(error))
            await self._take({}, up=False)
            if self._revive_server is not None:
                await self._revive_server()
            await asyncio.sleep(SERVER_RETRY_SEC)

    async def _take(self, states: dict[str, str], *, up: bool) -> None:
        async with self._changed:
            self._states, self.server_is_up = states, up
            self._changed.notify_all()

    async def _check(self, group: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SEC)
            if self.server_is_up:
                self._connect_missing(group)

    def _connect_missing(self, group: asyncio.TaskGroup) -> None:
        for serial in self._wanted():
            if serial not in self._states and serial not in self._connecting:
                self._connecting[serial] = group.create_task(self._connect(serial))

    async def _connect(self, serial: str) -> None:
        try:
            async with self._slots:
                await self._client.connect(serial)
        except AdbError as error:
            get_logger().debug("adb connect failed", serial=serial, reason=str(error))
        finally:
            self._connecting.pop(serial, None)
