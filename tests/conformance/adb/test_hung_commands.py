"""Commands that hang and are given up leave nothing here, nothing in the adb server, nothing in the rack (spec/07).

Three ways to hang: the phone as a whole is frozen, its command never ends, and what listens at the server's address
never says a word. In `make test` 200 of each hang one after another and 1,000 of each in overlapping batches;
`make chaos` makes it HUNG_COMMANDS=1000 in a row.
"""

import asyncio
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil
import pytest
from tests.support.adb import ScriptedServer, scripted_server
from tests.support.adb_phones import VirtualPhone, virtual_phone
from tests.support.footprint import at_rest, footprint, open_files, traced_heap

from muster.adb.client import AdbClient
from muster.adb.protocol import DeviceState
from muster.sim.commandlog import RECORDS_MAX
from muster.sim.states import PhoneState

IN_A_ROW = int(os.environ.get("HUNG_COMMANDS", "200"))
AT_ONCE, BATCHES = 25, 40
LIMIT_SEC, LIMIT_SEC_MAX = 0.05, 0.25
pytestmark = pytest.mark.timeout(180 + IN_A_ROW)


@pytest.fixture(autouse=True)
def _heap_is_counted() -> Iterator[None]:
    """From before the first object of a test on: what was made earlier would be missed when it goes."""
    with traced_heap():
        yield


class Way(ABC):
    """A way to hang."""

    def __init__(self, client: AdbClient, serial: str, command: str) -> None:
        self.client, self.serial, self.command = client, serial, command
        self.limit_sec = LIMIT_SEC

    async def give_up(self, limit_sec: float = LIMIT_SEC) -> None:
        """One command that hangs, ended by its limit."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(limit_sec):
                await self.client.shell(self.serial, self.command)

    async def measure(self, pace: Callable[[], Awaitable[object]]) -> None:
        """On a busy PC 50 ms are over before the other side hears of 25 commands at once: three times that, then."""
        began = time.monotonic()
        await asyncio.gather(*(pace() for _ in range(AT_ONCE)))
        self.limit_sec = min(max(LIMIT_SEC, 3 * (time.monotonic() - began)), LIMIT_SEC_MAX)

    async def in_a_row(self, count: int) -> None:
        for _ in range(count):
            await self.give_up()

    async def overlapping(self, batches: int) -> None:
        for _ in range(batches):
            await asyncio.gather(*(self.give_up(self.limit_sec) for _ in range(AT_ONCE)))

    @abstractmethod
    def is_quiet(self) -> bool:
        """Whether the other side has done with all of them."""

    @abstractmethod
    async def arrived(self) -> int:
        """How many commands came to the other side at all; ends its hanging."""


class Phone(Way):
    """A phone behind a real adb server: frozen, or busy for ever."""

    def __init__(self, attached: VirtualPhone, command: str) -> None:
        super().__init__(attached.client, attached.serial, command)
        assert attached.phone is not None
        self.attached, self.phone = attached, attached.phone
        self._server = psutil.Process(attached.server_pid)
        for number in range(RECORDS_MAX):  # so that what the phone remembers of its commands cannot grow any more
            record = self.phone.log.begin(f"a command of before, number {number}", number + 0.1)
            self.phone.log.end(record, number + 0.2, None)
        self._earlier = self.phone.log.gauge.started_count
        self._server_files = open_files(self._server)

    def is_quiet(self) -> bool:
        return self.phone.log.gauge.running == 0 and open_files(self._server) <= self._server_files

    async def arrived(self) -> int:
        await self.attached.become(PhoneState.DEVICE, DeviceState.DEVICE)
        assert (await self.client.shell(self.serial, "echo fine")).stdout == b"fine\n"
        return self.phone.log.gauge.started_count - self._earlier - 1


class Silence(Way):
    """Something at the adb server's address that takes every connection and never says a word."""

    def __init__(self, server: ScriptedServer) -> None:
        super().__init__(AdbClient("127.0.0.1", server.port), "nobody", "id")
        self._server = server

    def is_quiet(self) -> bool:
        return self._server.open_count == 0

    async def arrived(self) -> int:
        return self._server.connections


@asynccontextmanager
async def frozen_phone(folder: Path) -> AsyncIterator[Way]:
    async with virtual_phone(folder / "frozen") as attached:
        await attached.become(PhoneState.HUNG, DeviceState.DEVICE)
        way = Phone(attached, "id")
        await way.measure(attached.client.devices)
        yield way


@asynccontextmanager
async def busy_phone(folder: Path) -> AsyncIterator[Way]:
    async with virtual_phone(folder / "busy") as attached:
        way = Phone(attached, "sleep 600")
        await way.measure(attached.client.devices)
        yield way


@asynccontextmanager
async def silence(_folder: Path) -> AsyncIterator[Way]:
    async with scripted_server(lambda peer: peer.hangup()) as server:
        yield Silence(server)


WAYS = [frozen_phone, busy_phone, silence]
Work = Callable[[Way], Awaitable[None]]


async def nothing_stays(ways: list[Way], work: Work, count: int) -> None:
    """`count` commands hang each way; then all that was held for them is given back, here and elsewhere."""
    await asyncio.gather(*(way.overlapping(2) for way in ways))
    await at_rest(lambda: all(way.is_quiet() for way in ways))
    before = footprint()
    await asyncio.gather(*(work(way) for way in ways))
    await at_rest(lambda: all(way.is_quiet() for way in ways))
    assert footprint().grown_since(before) == {}
    for way in ways:
        # On a quiet PC all of them.
        assert await way.arrived() > count / 50


async def test_hung_commands_in_a_row_leave_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(way(tmp_path)) for way in WAYS]
        await nothing_stays(ways, lambda way: way.in_a_row(IN_A_ROW), IN_A_ROW)


@pytest.mark.parametrize("way", WAYS)
async def test_a_thousand_hung_commands_in_overlapping_batches_leave_nothing(
    way: Callable[[Path], AbstractAsyncContextManager[Way]], tmp_path: Path
) -> None:
    async with way(tmp_path) as only:
        await nothing_stays([only], lambda way: way.overlapping(BATCHES), BATCHES * AT_ONCE)


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist there")
def test_neither_do_they_in_uvloop(tmp_path: Path) -> None:
    import uvloop  # noqa: PLC0415 - not installed on every system

    async def scenario() -> None:
        for way in WAYS:
            async with way(tmp_path) as only:
                await nothing_stays([only], lambda way: way.overlapping(5), 5 * AT_ONCE)

    uvloop.run(scenario())
