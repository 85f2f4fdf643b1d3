"""An operator's order at the phone's care: late, repeated, cut off before the disk had it, for a phone that is gone."""

import asyncio
from pathlib import Path

import pytest
from tests.support.ward import TCP, USB, Ward, ward

from muster.agent.ports import ReserveTerms
from muster.contracts.commands import DeviceActionKind
from muster.domain.device import AttachState
from muster.domain.limits import DEVICE_ACTION_EXPIRY_SEC, QUARANTINE_PROBE_SEC

QUARANTINE, RELEASE, RESERVE = DeviceActionKind.QUARANTINE, DeviceActionKind.RELEASE, DeviceActionKind.RESERVE
REBOOT, RECONNECT = DeviceActionKind.REBOOT, DeviceActionKind.RECONNECT
LATE = "too late: this node did not come to it within the time in which it was wanted"


def before(room: Ward, seconds: float) -> int:
    return room.clock.now_ms() - round(seconds * 1000)


@pytest.mark.parametrize("action", [REBOOT, RECONNECT])
async def test_a_repair_that_is_taken_up_too_late_is_not_done_and_says_so(action: DeviceActionKind) -> None:
    async with ward() as room:
        name = room.add(USB)
        room.order(name, action, taken_at_ms=before(room, DEVICE_ACTION_EXPIRY_SEC + 1))
        await room.clock.advance(1)
        assert (room.failed, room.repairs.done) == ([LATE], [])
        room.order(name, action, taken_at_ms=before(room, DEVICE_ACTION_EXPIRY_SEC - 1))
        await room.clock.advance(1)
        assert (room.failed, room.repairs.done) == ([LATE], [f"{action.value} {USB}"])


async def test_a_repair_for_which_others_left_no_time_is_not_done_either() -> None:
    async with ward() as room:
        room.repairs.until = asyncio.Event()
        for number in range(5):
            room.order(room.add(f"USB{number}", f"P{number}"), RECONNECT)
        await room.clock.advance(DEVICE_ACTION_EXPIRY_SEC + 1)
        assert len(room.repairs.done) == 4
        room.repairs.until.set()
        await room.clock.advance(1)
        assert len(room.repairs.done) == 4 and room.failed == [LATE]


async def test_why_a_repair_could_not_be_done_is_told() -> None:
    async with ward() as room:
        room.order("STRANGER", REBOOT)
        room.order(room.add(TCP, "GONE", state=AttachState.MISSING), RECONNECT)
        busy = room.add(USB, "BUSY")
        await room.care.began(busy)
        room.order(busy, REBOOT)
        await room.clock.advance(1)
        assert room.failed == [
            "this node does not know the phone",
            f"nothing answers at {TCP}",
            "a task has begun on the phone",
        ]


async def test_what_is_noted_of_a_phone_holds_however_late_it_is_taken_up_and_a_reservation_until_its_own_end() -> None:
    async with ward() as room:
        hour = before(room, 3600)
        room.order("A", QUARANTINE, taken_at_ms=hour, reason="swollen battery")
        room.order("A", RESERVE, ReserveTerms("kim", None, 90), taken_at_ms=hour)
        room.order("B", RESERVE, ReserveTerms("kim", None, 60), taken_at_ms=hour)
        assert room.book.why("A") == "an operator put it into quarantine: swollen battery", "at once"
        assert room.reservations.why("A") == "reserved by kim for 30 min more"
        assert room.reservations.why("B") is None, "its time is over"
        room.order("A", RELEASE, taken_at_ms=hour)
        assert (room.book.why("A"), room.reservations.why("A"), room.failed) == (None, None, [])


async def test_a_clock_that_was_put_back_prolongs_no_reservation() -> None:
    async with ward() as room:
        room.order("A", RESERVE, ReserveTerms("kim", None, 90), taken_at_ms=before(room, -3600))
        assert room.reservations.why("A") == "reserved by kim for 90 min more"


async def test_the_last_word_of_several_is_the_one_that_holds_and_the_same_orders_again_lead_there_again() -> None:
    async with ward() as room:
        name = room.add(USB)
        for _ in range(2):
            room.order(name, RESERVE, ReserveTerms("kim"))
            room.order(name, QUARANTINE)
            room.order(name, RELEASE)
            room.order(name, RESERVE, ReserveTerms("park"))
            await room.clock.advance(1)
            assert (room.book.why(name), room.reservations.owner(name)) == (None, "park")


async def test_a_file_that_cannot_be_written_holds_up_what_is_written_to_it_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "quarantine.json").mkdir(parents=True)
    async with ward(tmp_path) as room:
        name = room.add(USB)
        room.order(name, QUARANTINE)
        await room.clock.is_slept_on()
        room.order(name, RESERVE, ReserveTerms("kim"))
        async with asyncio.timeout(20):
            while len(room.orders) > 1:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
    async with ward(tmp_path) as room:
        assert room.reservations.owner(name) == "kim"


async def test_what_is_noted_of_a_phone_is_done_only_when_the_disk_has_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    async with ward(folder) as room:
        name = room.add(USB)
        folder.write_text("a file, where a folder should be", encoding="utf-8")
        room.order(name, QUARANTINE)
        assert room.book.why(name) is not None
        await room.clock.is_slept_on()
        for _ in range(3):
            await room.clock.advance(QUARANTINE_PROBE_SEC)
        assert len(room.orders) == 1, "it is tried again"
        folder.unlink()
        async with asyncio.timeout(20):
            while len(room.orders):
                await room.clock.advance(10)
                await asyncio.sleep(0.01)
    async with ward(folder) as room:
        assert room.book.why("A") is not None
