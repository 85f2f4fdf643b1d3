"""Repairs and tasks take turns at a phone: neither is begun under the other's hands."""

import asyncio

from tests.support.phones import Told, plan
from tests.support.phones import task as some_task
from tests.support.ward import TCP, USB, Ward, ward

from muster.agent.care import LOST_FIRST_SEC
from muster.agent.cared_parts import CaredExecutor
from muster.agent.ports import NotReady, Reporter, Task, TaskOutcome
from muster.contracts.commands import DeviceActionKind
from muster.runtime.supervision import Background


class Hanging:
    """An executor whose task goes on until it is stopped."""

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def under_repair(room: Ward) -> tuple[str, asyncio.Event]:
    """A phone that is being repaired for the task that waits for it, and what ends the repair."""
    name, over = room.add(USB), asyncio.Event()
    room.repairs.until = over
    await room.care.began(name)
    room.care.unresponsive(name)
    await room.clock.advance(4)
    return name, over


async def test_a_phone_is_busy_until_its_task_has_left_it_also_when_that_is_stopped() -> None:
    async with ward() as room, Background() as background:
        name = room.add(USB)
        task, report = some_task(plan({"id": "hello", "kind": "adb", "command": "id"}), name), Told()
        running = background.start("t", CaredExecutor(Hanging(), room.care).execute(task, report))
        await room.clock.advance(0)
        assert "a task is running" in (room.care.refusal(name, DeviceActionKind.REBOOT) or "")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert room.care.refusal(name, DeviceActionKind.REBOOT) is None


async def test_what_was_asked_for_before_a_task_began_is_not_done_under_its_hands() -> None:
    async with ward() as room:
        name = room.add(USB)
        await room.fail(name, 1)
        await room.care.began(name)
        await room.clock.advance(60)
        assert room.repairs.done == [], "the last task missed it, and the next one is at work"
        room.care.unresponsive(name)
        await room.clock.advance(4)
        assert room.repairs.done == [f"reconnect {USB}"], "this one misses it too, and waits"


async def test_a_task_that_misses_its_phone_while_it_is_still_looked_after_for_the_last_one_has_it_repaired() -> None:
    async with ward() as room:
        name = room.add(USB)
        await room.fail(name, 1)
        await room.care.began(name)
        room.care.unresponsive(name)
        await room.clock.advance(4)
        assert room.repairs.done == [f"reconnect {USB}"]


async def test_a_task_begins_when_the_repair_of_its_phone_is_over() -> None:
    async with ward() as room:
        name, over = room.add(USB), asyncio.Event()
        room.repairs.until = over
        room.order(name, DeviceActionKind.RECONNECT)
        await room.clock.advance(1)
        beginning = asyncio.ensure_future(room.care.began(name))
        await room.clock.advance(1)
        assert room.repairs.done == [f"reconnect {USB}"] and not beginning.done()
        over.set()
        await asyncio.wait_for(beginning, 20)


async def test_an_operators_repair_is_not_done_to_a_phone_on_which_a_task_has_begun_meanwhile() -> None:
    async with ward() as room:
        name = room.add(USB)
        room.order(name, DeviceActionKind.REBOOT)
        await room.care.began(name)
        await room.clock.advance(1)
        assert room.repairs.done == []


async def test_a_phone_that_answers_who_missed_it_is_not_repaired_under_its_hands() -> None:
    async with ward() as room:
        name = room.add(USB)
        await room.care.began(name)
        room.care.unresponsive(name)
        await room.clock.advance(1)
        assert await room.care.answered(name)
        await room.clock.advance(60)
        assert room.repairs.done == []


async def test_a_phone_is_not_repaired_under_the_hands_of_a_task_that_has_waited_for_it_in_vain_and_goes_on() -> None:
    async with ward() as room:
        name, over = await under_repair(room)
        goes_on = asyncio.ensure_future(room.care.waited_in_vain(name))
        await room.clock.advance(1)
        assert room.repairs.done == [f"reconnect {USB}"] and not goes_on.done(), "not before the repair is over"
        over.set()
        await asyncio.wait_for(goes_on, 20)
        await room.clock.advance(60)
        assert room.repairs.done == [f"reconnect {USB}"]


async def test_who_missed_a_phone_goes_on_when_the_repair_is_over_and_looks_at_it_once_more() -> None:
    async with ward() as room:
        name, over = await under_repair(room)
        answered = asyncio.ensure_future(room.care.answered(name))
        await room.clock.advance(1)
        assert room.repairs.done == [f"reconnect {USB}"] and not answered.done()
        over.set()
        assert not await asyncio.wait_for(answered, 20)


async def test_who_waited_for_another_repair_looks_again_whether_a_task_has_begun_meanwhile() -> None:
    async with ward() as room:
        name, over = room.add(USB), asyncio.Event()
        room.repairs.until = over
        room.care.unresponsive(name)
        room.order(name, DeviceActionKind.RECONNECT)
        await room.clock.advance(1)
        beginning = asyncio.ensure_future(room.care.began(name))
        await room.clock.advance(4)
        assert not beginning.done(), "the operator's repair goes on, and the ladder waits for it too"
        over.set()
        await asyncio.wait_for(beginning, 20)
        await room.clock.advance(60)
        assert room.repairs.done == [f"reconnect {USB}"]


async def test_a_phone_that_is_looked_for_is_left_alone_when_a_task_began_while_it_waited_for_an_operators_repair() -> (
    None
):
    async with ward() as room:
        name, looked, over = room.add(TCP), asyncio.Event(), asyncio.Event()
        room.repairs.open_ports, room.repairs.look_until, room.repairs.until = {TCP}, looked, over
        room.phones.lose(name)
        await room.clock.advance(LOST_FIRST_SEC + 2)
        room.order(name, DeviceActionKind.RECONNECT)
        await room.clock.advance(1)
        beginning = asyncio.ensure_future(room.care.began(name))
        await room.clock.advance(1)
        looked.set()
        await room.clock.advance(1)
        over.set()
        await asyncio.wait_for(beginning, 20)
        await room.clock.advance(1)
        assert room.repairs.done.count(f"reattach {TCP}") == 1
