"""The watch over an adb server that freezes, or that dies again and again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from tests.support.adb import Peer, scripted_server
from tests.support.waiting import until

from muster.adb.client import AdbClient
from muster.agent.adb_watch import PULSE_SEC, SERVER_RETRY_LADDER_SEC, STEADY_SEC, AdbWatch
from muster.agent.devices import AdbEntry
from muster.runtime.clock import SystemClock

VERSION, LIST = b"OKAY00040029", b"OKAY000cABC\tdevice\n\n"


@dataclass
class Heard:
    """What the watch tells, in order: the handles of a list, or a loss."""

    told: list[object] = field(default_factory=list)

    def saw(self, entries: Sequence[AdbEntry]) -> None:
        self.told.append([entry.handle for entry in entries])

    def lost(self, error: str) -> None:
        self.told.append(error)


class Server:
    """Answers as adb does, until it is frozen. `lists_last`: it hangs up right after each list instead."""

    def __init__(self, *, lists_last: bool = True) -> None:
        self.frozen = asyncio.Event()
        self.lists_last = lists_last

    async def serve(self, peer: Peer) -> None:
        if self.frozen.is_set():
            await peer.hangup()
            return
        if await peer.request() == "host:version":
            peer.send(VERSION)
            return
        peer.send(LIST)
        if self.lists_last:
            await peer.hangup()


class Noted(SystemClock):
    """A clock whose waits are noted and not waited for, but that for the next pulse, which never comes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds == PULSE_SEC:
            await asyncio.Event().wait()
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


async def test_a_server_that_freezes_is_one_loss_of_the_node_and_is_back_when_it_thaws() -> None:
    heard, server = Heard(), Server()
    async with scripted_server(server.serve) as scripted:
        client = AdbClient("127.0.0.1", scripted.port, reply_timeout_sec=0.1)
        watch = AdbWatch(client, heard.saw, heard.lost, SystemClock(), pulse_sec=0.05)
        watching = asyncio.create_task(watch.run())
        await until(lambda: heard.told == [["ABC"]])
        server.frozen.set()
        await until(lambda: len(heard.told) > 1)
        server.frozen.clear()
        await until(lambda: heard.told[-1] == ["ABC"] and len(heard.told) > 2)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    losses = [told for told in heard.told if isinstance(told, str)]
    assert losses and all("did not answer" in told or "start-server" in told for told in losses)


async def test_one_late_answer_is_no_loss() -> None:
    heard, server = Heard(), Server()
    late = 0

    async def serve(peer: Peer) -> None:
        nonlocal late
        if heard.told and late % 2 == 0 and late < 4:
            late += 1
            await peer.hangup()
            return
        late += bool(heard.told)
        await server.serve(peer)

    async with scripted_server(serve) as scripted:
        # Long enough for an answer that comes at once to be in time on a busy machine.
        client = AdbClient("127.0.0.1", scripted.port, reply_timeout_sec=1)
        watching = asyncio.create_task(AdbWatch(client, heard.saw, heard.lost, SystemClock(), pulse_sec=0.02).run())
        await until(lambda: late > 6)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert heard.told == [["ABC"]]


async def test_a_server_that_dies_after_each_list_is_come_back_to_ever_more_slowly() -> None:
    heard, clock = Heard(), Noted()
    async with scripted_server(Server(lists_last=False).serve) as scripted:
        watch = AdbWatch(AdbClient("127.0.0.1", scripted.port), heard.saw, heard.lost, clock)
        watching = asyncio.create_task(watch.run())
        await until(lambda: len(clock.waits) >= 8)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    rungs = [*SERVER_RETRY_LADDER_SEC, *SERVER_RETRY_LADDER_SEC[-1:] * 3]
    assert all(0.8 * rung <= wait <= 1.2 * rung for rung, wait in zip(rungs, clock.waits, strict=False))


async def test_after_a_steady_time_a_death_is_the_first_one_again() -> None:
    clock = Noted()
    steady: list[int] = []

    def saw(entries: Sequence[AdbEntry]) -> None:
        # At the top of the ladder the server is steady once.
        if not steady and len(clock.waits) > len(SERVER_RETRY_LADDER_SEC):
            clock.now += 2 * STEADY_SEC
            steady.append(len(clock.waits))

    async with scripted_server(Server(lists_last=False).serve) as scripted:
        watch = AdbWatch(AdbClient("127.0.0.1", scripted.port), saw, Heard().lost, clock)
        watching = asyncio.create_task(watch.run())
        await until(lambda: steady and len(clock.waits) > steady[0])
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    before, after = clock.waits[steady[0] - 1], clock.waits[steady[0]]
    assert before >= 0.8 * SERVER_RETRY_LADDER_SEC[-1] and after <= 1.2 * SERVER_RETRY_LADDER_SEC[0]


async def test_a_watch_that_is_ended_while_it_notices_a_death_ends() -> None:
    heard, is_told, may_go = Heard(), asyncio.Event(), asyncio.Event()

    class Slow(Noted):
        """The pulse is slow to end, as a request on its way is."""

        async def sleep(self, seconds: float) -> None:
            try:
                await super().sleep(seconds)
            finally:
                if seconds == PULSE_SEC:
                    is_told.set()
                    await may_go.wait()

    async with scripted_server(Server(lists_last=False).serve) as scripted:
        watch = AdbWatch(AdbClient("127.0.0.1", scripted.port), heard.saw, heard.lost, Slow())
        watching = asyncio.create_task(watch.run())
        await is_told.wait()
        watching.cancel()
        may_go.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(watching, 5)
