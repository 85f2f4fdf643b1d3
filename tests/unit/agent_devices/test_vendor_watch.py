"""Node Preflight: asking the vendor tool at boot and every five seconds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.support.manual_clock import ManualClock

from muster.agent.devices import VendorEntry
from muster.agent.preflight.node import VendorSilent, VendorWatch

PHONE = VendorEntry("USB1", "ONLY1")


class Tool:
    """A vendor tool that answers while `up`; keeps when it was asked and what the watch told."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.up = True
        self.asked_at: list[float] = []
        self.lists: list[Sequence[VendorEntry] | None] = []

    async def ask(self) -> Sequence[VendorEntry]:
        self.asked_at.append(self.clock.monotonic())
        if not self.up:
            raise VendorSilent("nothing listens")
        return [PHONE]


@asynccontextmanager
async def watching(*, up: bool) -> AsyncIterator[tuple[VendorWatch, Tool, ManualClock]]:
    clock = ManualClock()
    tool = Tool(clock)
    tool.up = up
    watch = VendorWatch(tool.ask, tool.lists.append, clock)
    running = asyncio.create_task(watch.run())
    await clock.advance(0)
    try:
        yield watch, tool, clock
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_tool_that_answers_is_asked_every_five_seconds() -> None:
    async with watching(up=True) as (watch, tool, clock):
        assert watch.ok and tool.lists == [[PHONE]]
        first = watch.last_ok_ms
        await clock.advance(10.1)
        assert tool.asked_at == [0.0, 5.0, 10.0]
        assert first is not None and watch.last_ok_ms == first + 10_000


async def test_a_tool_that_is_not_there_at_boot_is_asked_often_for_five_seconds_and_then_seldom() -> None:
    async with watching(up=False) as (watch, tool, clock):
        await clock.advance(4.9)
        booting = [watch.is_booting]
        assert not watch.ok and len(tool.asked_at) > 15
        await clock.advance(0.2)
        assert [*booting, watch.is_booting] == [True, False]
        before = len(tool.asked_at)
        await clock.advance(10)
        assert len(tool.asked_at) - before <= 3
        assert watch.last_ok_ms is None


async def test_a_tool_that_comes_late_is_found() -> None:
    async with watching(up=False) as (watch, tool, clock):
        await clock.advance(60)
        tool.up = True
        await clock.advance(6)
        assert watch.ok and tool.lists[-1] == [PHONE]


async def test_a_tool_that_falls_silent_is_told_as_no_list_and_keeps_the_time_of_its_last_answer() -> None:
    async with watching(up=True) as (watch, tool, clock):
        answered = watch.last_ok_ms
        tool.up = False
        await clock.advance(5.1)
        assert not watch.ok and tool.lists[-1] is None
        assert watch.last_ok_ms == answered
        assert not watch.is_booting, "it has been there: phones need not wait for it again"


async def test_a_new_phone_has_the_tool_asked_at_once_and_twenty_of_them_ask_once() -> None:
    async with watching(up=True) as (watch, tool, clock):
        for _ in range(20):
            watch.poke()
        await clock.advance(1)
        assert len(tool.asked_at) == 2 and tool.asked_at[1] < 1


async def test_what_somebody_else_found_silent_is_not_used_until_it_answers_again() -> None:
    async with watching(up=True) as (watch, _tool, clock):
        watch.failed()
        assert not watch.ok
        await clock.advance(5.1)
        assert watch.ok
