"""What can be done to a phone's connection, as a narrow protocol, and the adb server's way of doing it (spec/10)."""

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol

from muster.adb.client import AdbClient, probe_port
from muster.adb.errors import AdbError
from muster.adb.protocol import ConnectOutcome, parse_address
from muster.agent.ports import Phones
from muster.agent.preflight.device import Answers
from muster.agent.preflight.gate import Subject
from muster.recipe.conditions import DeviceFacts
from muster.runtime.clock import Clock

ASK_TIMEOUT_MS: Final = 3_000
PORT_TIMEOUT_SEC: Final = 1.0
REPAIR_TIMEOUT_SEC: Final = 12.0
"""The server gives a silent phone 10 s."""


class RepairFailed(Exception):
    """It was not done, or it is not known whether; the message says why."""


class Repairs(Protocol):
    """Every call keeps within a limit of its own."""

    async def answers(self, device_id: str) -> bool:
        """Whether the phone passes the probe of the preflight."""
        ...

    async def port_answers(self, handle: str) -> bool:
        """Whether anything takes connections at a TCP handle."""
        ...

    async def reconnect(self, handle: str) -> None:
        """Drops the connection of a phone on a cable, to be made anew. Raises RepairFailed."""
        ...

    async def reattach(self, handle: str) -> None:
        """Disconnects a TCP phone and connects it again. Raises RepairFailed."""
        ...

    async def reboot(self, handle: str) -> None:
        """Starts the phone anew. Raises RepairFailed."""
        ...

    async def restart_server(self) -> None:
        """Ends the adb server, which the node's watch then starts again. Raises RepairFailed."""
        ...


class AdbRepairs:
    """Implements `Repairs`."""

    def __init__(self, client: AdbClient, phones: Phones, clock: Clock) -> None:
        self._client = client
        self._phones = phones
        self._clock = clock

    async def answers(self, device_id: str) -> bool:
        """See `Repairs`."""
        subject = Subject(device_id, self._phones, self._clock, ASK_TIMEOUT_MS, DeviceFacts(device_id))
        return self._phones.find(device_id) is not None and await Answers().check(subject) is None

    async def port_answers(self, handle: str) -> bool:
        """See `Repairs`."""
        try:
            host, port = parse_address(handle)
        except (AdbError, ValueError):
            return False
        return await probe_port(host, port, PORT_TIMEOUT_SEC) is None

    async def reconnect(self, handle: str) -> None:
        """See `Repairs`."""
        await _limited(self._client.reconnect(handle))

    async def reattach(self, handle: str) -> None:
        """See `Repairs`."""
        await _limited(self._reattach(handle))

    async def _reattach(self, handle: str) -> None:
        known = {device.serial for device in await self._client.devices()}
        if handle in known:
            await self._client.disconnect(handle)
        result = await self._client.connect(handle, probe_timeout_sec=PORT_TIMEOUT_SEC)
        if result.outcome not in (ConnectOutcome.CONNECTED, ConnectOutcome.ALREADY_CONNECTED):
            raise RepairFailed(result.message)

    async def reboot(self, handle: str) -> None:
        """See `Repairs`."""
        await _limited(self._client.reboot(handle))

    async def restart_server(self) -> None:
        """See `Repairs`."""
        await _limited(self._client.kill_server())


async def _limited(work: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(REPAIR_TIMEOUT_SEC):
            await work
    except TimeoutError:
        raise RepairFailed(f"not done within {REPAIR_TIMEOUT_SEC:g} s") from None
    except (AdbError, ValueError) as error:
        raise RepairFailed(str(error)) from error
