"""Requests to a vendor tool that hangs are given up and leave nothing here and nothing in the tool (spec/07).

Four ways to hang: it takes requests and never answers, it never shakes hands, its phone hangs under an action, and it
says yes to a picture that never comes. In `make test` 100 of each hang one after another, and 100 of each in
overlapping batches; `make chaos` makes it HUNG_REQUESTS=1000 in a row.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.adb import scripted_server
from tests.support.footprint import at_rest, fill_thread_pool, footprint, traced_heap
from tests.support.vendor_rack import Rack, RackPhone

from muster.sim.vendor import VendorQuirks, VendorServer
from muster.sim.vendor.quirks import INSTANT
from muster.vendor.errors import VendorError
from muster.vendor.pool import VendorPool
from muster.vendor.tool import VendorTool

IN_A_ROW = int(os.environ.get("HUNG_REQUESTS", "100"))
AT_ONCE, BATCHES = 20, 5
LIMIT_SEC = 0.05
pytestmark = pytest.mark.timeout(120 + IN_A_ROW)


@pytest.fixture(autouse=True)
def _heap_is_counted(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """From before the first object of a test on: what was made earlier would be missed when it goes.

    The imitated tool logs each handshake that its client gave up, and pytest keeps each record with all its frames.
    """
    caplog.set_level(logging.CRITICAL + 1, logger="websockets")
    with traced_heap():
        yield


@dataclass
class Way:
    """A way to hang: what is asked, and how many connections the other side has now, and when all is at rest."""

    ask: Callable[[], Awaitable[object]]
    connections: Callable[[], int]
    kept: int = 0

    def is_quiet(self) -> bool:
        return self.connections() == self.kept

    async def give_up(self, *, by_cancelling: bool = False) -> None:
        """One request that hangs, ended by its own limit or by its caller."""
        with pytest.raises(TimeoutError if by_cancelling else VendorError):
            async with asyncio.timeout(LIMIT_SEC / 2 if by_cancelling else None):
                await self.ask()

    async def in_a_row(self, count: int) -> None:
        for number in range(count):
            await self.give_up(by_cancelling=number % 4 == 0)

    async def overlapping(self, batches: int) -> None:
        for number in range(batches):
            await asyncio.gather(*(self.give_up(by_cancelling=number % 4 == 0) for _ in range(AT_ONCE)))


class HungPhone(RackPhone):
    """No command ends, and it remembers none."""

    async def shell(self, command: str) -> tuple[int, bytes, bytes]:
        await asyncio.Event().wait()
        raise AssertionError("nothing wakes it")


@asynccontextmanager
async def imitated(
    folder: Path, quirks: VendorQuirks, size: int, answer_sec: float
) -> AsyncIterator[tuple[VendorServer, VendorPool]]:
    """The imitated tool with one phone, and a pool of so many connections that gives it so much time."""
    server = VendorServer(Rack(folder, [HungPhone(1)]), pace=INSTANT, quirks=quirks)
    url = f"ws://127.0.0.1:{await server.start()}/"
    try:
        async with VendorPool(url, size=size, answer_timeout_sec=answer_sec, open_timeout_sec=5.0) as pool:
            yield server, pool
    finally:
        await server.stop()


@asynccontextmanager
async def never_answers(folder: Path) -> AsyncIterator[Way]:
    async with imitated(folder / "silent", VendorQuirks(silent_share=1.0), AT_ONCE, LIMIT_SEC) as (server, pool):
        yield Way(lambda: pool.request("list"), lambda: server.connection_count)


@asynccontextmanager
async def phone_hangs(folder: Path) -> AsyncIterator[Way]:
    async with imitated(folder / "phone", VendorQuirks(), AT_ONCE, LIMIT_SEC) as (server, pool):
        action = {"command": "getprop ro.product.model"}
        yield Way(lambda: pool.request("adb_shell", ["127.0.0.1:41001"], action), lambda: server.connection_count)


@asynccontextmanager
async def picture_never_comes(folder: Path) -> AsyncIterator[Way]:
    quirks = VendorQuirks(picture_missing_share=1.0)
    async with imitated(folder / "picture", quirks, 1, 10.0) as (server, pool):
        tool, shots = VendorTool(pool, picture_timeout_sec=LIMIT_SEC), folder / "shots"
        yield Way(lambda: tool.screen("127.0.0.1:41001", shots), lambda: server.connection_count, kept=1)
        # What the tool made after it had been left goes with a later shot.
        for folder_left in shots.iterdir():
            os.utime(folder_left, (0, 0))
        with pytest.raises(VendorError):
            await tool.screen("127.0.0.1:41001", shots)
        assert list(shots.iterdir()) == []


@asynccontextmanager
async def never_shakes_hands(_folder: Path) -> AsyncIterator[Way]:
    async with (
        scripted_server(lambda peer: peer.hangup()) as server,
        VendorPool(f"ws://127.0.0.1:{server.port}/", size=AT_ONCE, open_timeout_sec=LIMIT_SEC) as pool,
    ):
        yield Way(lambda: pool.request("list"), lambda: server.open_count)


WAYS = [never_answers, phone_hangs, picture_never_comes, never_shakes_hands]


async def nothing_stays(ways: list[Way], work: Callable[[Way], Awaitable[None]]) -> None:
    """Requests hang each way; then all that was held for them is given back, here and in the tool."""
    await fill_thread_pool()
    await asyncio.gather(*(way.overlapping(5) for way in ways))
    await rest(ways)
    before = footprint()
    await asyncio.gather(*(work(way) for way in ways))
    await rest(ways)
    assert footprint().grown_since(before) == {}


async def rest(ways: list[Way]) -> None:
    """Waits until each way has the connections that it keeps, and no other."""
    for way in ways:
        await way.give_up()
    await at_rest(lambda: all(way.is_quiet() for way in ways))


async def test_hung_requests_in_a_row_leave_nothing(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ways = [await stack.enter_async_context(way(tmp_path)) for way in WAYS]
        await nothing_stays(ways, lambda way: way.in_a_row(IN_A_ROW))


@pytest.mark.parametrize("way", WAYS)
async def test_a_hundred_hung_requests_in_overlapping_batches_leave_nothing(
    way: Callable[[Path], AbstractAsyncContextManager[Way]], tmp_path: Path
) -> None:
    async with way(tmp_path) as only:
        await nothing_stays([only], lambda way: way.overlapping(BATCHES))
