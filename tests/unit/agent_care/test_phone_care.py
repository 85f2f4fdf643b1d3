"""What is done for phones beside their tasks, on a clock that a test moves."""

import asyncio
from pathlib import Path

import pytest
from tests.support.manual_clock import ManualClock
from tests.support.phones import MemoryPhone
from tests.support.ward import TCP, USB, Ward, ward

from muster.agent.ports import ReserveTerms
from muster.agent.reservations import Reservations
from muster.contracts.commands import DeviceActionKind
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.limits import (
    DEVICE_GRACE_WAIT_MS,
    QUARANTINE_PROBE_SEC,
    RECOVERIES_AT_ONCE,
    SILENT_PHONES_ASKED_AT_ONCE,
)


def back(room: Ward, name: str) -> None:
    room.phones.add(MemoryPhone(name, TCP))


async def test_a_silent_phone_on_a_cable_is_reconnected_and_asked_again() -> None:
    async with ward() as room:
        name = room.add(USB)
        room.repairs.on_repair = lambda _: room.repairs.well.add(name)
        room.care.unresponsive(name)
        await room.clock.advance(15)
        assert room.repairs.done == [f"reconnect {USB}"]


async def test_a_silent_phone_on_tcp_is_attached_anew_only_when_its_port_answers() -> None:
    async with ward() as room:
        name = room.add(TCP)
        room.care.unresponsive(name)
        await room.clock.advance(7)
        assert {*room.repairs.done} == {f"look {TCP}"}
        room.repairs.open_ports.add(TCP)
        room.repairs.on_repair = lambda _: room.repairs.well.add(name)
        await room.clock.advance(10)
        assert room.repairs.done[-1] == f"reattach {TCP}" and room.repairs.done.count(f"reattach {TCP}") == 1
        before = len(room.repairs.done)
        await room.clock.advance(60)
        assert len(room.repairs.done) == before, "it answers, so it is left alone"


async def test_a_phone_is_climbed_for_once_at_a_time_few_are_repaired_at_once_and_more_are_asked() -> None:
    async with ward() as room:
        names = [room.add(f"USB{number}", f"P{number}") for number in range(30)]
        room.repairs.until = asyncio.Event()
        for name in names * 2:
            room.care.unresponsive(name)
        await room.clock.advance(1)
        assert room.repairs.at_once_max == SILENT_PHONES_ASKED_AT_ONCE
        await room.clock.advance(10)
        assert len(room.repairs.done) == RECOVERIES_AT_ONCE
        room.repairs.until.set()
        await room.clock.advance(200)
        assert room.repairs.at_once == 0 and room.repairs.at_once_max == SILENT_PHONES_ASKED_AT_ONCE


async def test_when_a_hub_dies_each_of_its_twenty_phones_is_reconnected_within_its_grace() -> None:
    async with ward() as room:
        names = [room.add(f"USB{number}", f"P{number}") for number in range(20)]
        room.repairs.on_repair = lambda what: room.repairs.well.add(what.replace("reconnect USB", "P"))
        for name in names:
            room.care.unresponsive(name)
        await room.clock.advance(DEVICE_GRACE_WAIT_MS / 1000)
        assert sorted(room.repairs.done) == sorted(f"reconnect USB{number}" for number in range(20))


async def test_three_failures_in_a_row_lead_into_quarantine_and_two_clean_probes_out() -> None:
    async with ward() as room:
        name = room.add(USB)
        await room.fail(name, 2)
        await room.fail(name, 1, None)
        await room.fail(name, 2)
        assert room.book.why(name) is None, "a success between them begins the count anew"
        await room.fail(name, 1)
        assert room.book.why(name) is not None and len(room.announced) == 1
        await room.clock.advance(QUARANTINE_PROBE_SEC + 10)
        assert room.book.why(name) is not None, "it does not answer"
        room.repairs.well.add(name)
        await room.clock.advance(QUARANTINE_PROBE_SEC + 5)
        assert room.book.why(name) is not None, "one clean probe is no proof"
        await room.clock.advance(QUARANTINE_PROBE_SEC + 5)
        assert room.book.why(name) is None and len(room.announced) == 2


async def test_the_loss_of_the_adb_server_is_held_against_no_phone() -> None:
    async with ward() as room:
        name = room.add(USB)
        for _ in range(5):
            await room.care.began(name)
            await room.clock.advance(1)
            room.server_lost.append(room.clock.monotonic())
            await room.care.ended(name, FailureReason.ADB_MISSING)
        assert room.book.why(name) is None


async def test_quarantine_outlives_the_process(tmp_path: Path) -> None:
    async with ward(tmp_path) as room:
        name = room.add(USB)
        await room.fail(name, 3)
        why = room.book.why(name)
        assert why is not None
    async with ward(tmp_path) as room:
        assert room.book.why("A") == why
        room.add(USB)
        room.order("A", DeviceActionKind.RELEASE)
        await room.clock.advance(0)
        assert room.book.why("A") is None
    async with ward(tmp_path) as room:
        assert room.book.why("A") is None


async def test_a_phone_put_away_by_hand_comes_back_by_hand_alone() -> None:
    async with ward() as room:
        name = room.add(USB)
        room.repairs.well.add(name)
        room.phones.aliases["its other name"] = name
        assert room.care.refusal(name, DeviceActionKind.QUARANTINE) is None
        assert room.care.refusal(name, DeviceActionKind.RELEASE) == "the phone is neither in quarantine nor reserved"
        room.order("its other name", DeviceActionKind.QUARANTINE)
        await room.clock.advance(10 * QUARANTINE_PROBE_SEC)
        assert room.book.why(name) is not None
        assert room.care.refusal(name, DeviceActionKind.RELEASE) is None
        room.order(name, DeviceActionKind.RELEASE)
        await room.clock.advance(0)
        assert room.book.why(name) is None


@pytest.mark.parametrize(
    ("handle", "action", "done"),
    [
        (USB, DeviceActionKind.REBOOT, [f"reboot {USB}"]),
        (USB, DeviceActionKind.RECONNECT, [f"reconnect {USB}"]),
        (TCP, DeviceActionKind.RECONNECT, [f"look {TCP}", f"reattach {TCP}"]),
    ],
)
async def test_an_operator_reboots_and_reconnects_phones(
    handle: str, action: DeviceActionKind, done: list[str]
) -> None:
    async with ward() as room:
        name = room.add(handle)
        room.repairs.open_ports.add(TCP)
        assert room.care.refusal(name, action) is None
        room.order(name, action)
        await room.clock.advance(0)
        assert room.repairs.done == done


async def test_what_cannot_be_done_to_a_phone_is_said_before() -> None:
    async with ward() as room:
        reboot = DeviceActionKind.REBOOT
        assert room.care.refusal("nobody", reboot) == "this node does not know the phone"
        gone = room.add(USB, "GONE", state=AttachState.MISSING)
        assert "not attached" in (room.care.refusal(gone, reboot) or "")
        busy = room.add("USB2", "BUSY")
        await room.care.began(busy)
        assert "a task is running" in (room.care.refusal(busy, reboot) or "")
        room.care.left(busy)
        assert room.care.refusal(busy, reboot) is None


async def test_a_reserved_phone_says_who_has_it_until_the_time_is_over(tmp_path: Path) -> None:
    async with ward(tmp_path) as room:
        name = room.add(USB)
        terms = ReserveTerms("kim", "debugging the login", 90)
        assert room.care.refusal(name, DeviceActionKind.RESERVE, terms) is None
        room.order(name, DeviceActionKind.RESERVE, terms)
        assert room.reservations.why(name) == "reserved by kim for 90 min more: debugging the login", "at once"
        await room.clock.advance(1)
        assert room.announced, "the backend hears of it before the next heartbeat is due"
        park = ReserveTerms("park")
        refusal = room.care.refusal(name, DeviceActionKind.RESERVE, park)
        assert refusal == "reserved by kim for 90 min more: debugging the login; release it first"
        assert room.care.refusal(name, DeviceActionKind.RESERVE, ReserveTerms("kim")) is None, "kim may have it longer"
    clock = ManualClock(room.clock.now_ms() + 89 * 60_000)
    kept = Reservations(tmp_path / "reservations.json", clock)
    await kept.load()
    assert kept.why(name) == "reserved by kim for 1 min more: debugging the login", "a restart forgets nothing"
    clock.jump(60)
    assert (kept.why(name), kept.count(), kept.release(name)) == (None, 0, False)


@pytest.mark.parametrize(
    ("minutes", "told"), [(1, "1 min"), (120, "120 min"), (121, "3 h"), (48 * 60, "48 h"), (7 * 24 * 60, "7 d")]
)
def test_the_rest_of_a_reservation_is_rounded_up(minutes: int, told: str) -> None:
    reservations = Reservations(None, ManualClock())
    reservations.reserve("A", ReserveTerms("kim", None, minutes))
    assert reservations.why("A") == f"reserved by kim for {told} more"


async def test_releasing_a_phone_ends_its_reservation_and_its_quarantine() -> None:
    async with ward() as room:
        name = room.add(USB)
        room.order(name, DeviceActionKind.RESERVE, ReserveTerms("kim"))
        room.order(name, DeviceActionKind.QUARANTINE)
        await room.clock.advance(0)
        assert room.care.refusal(name, DeviceActionKind.RELEASE) is None
        room.order(name, DeviceActionKind.RELEASE)
        await room.clock.advance(0)
        assert (room.reservations.why(name), room.book.why(name)) == (None, None)


async def test_nobody_reboots_a_phone_or_ends_the_adb_server_under_the_fingers_of_whoever_reserved_a_phone() -> None:
    async with ward(may_reboot=True) as room:
        names = [room.add(f"USB{number}", f"P{number}") for number in range(12)]
        room.order(names[0], DeviceActionKind.RESERVE, ReserveTerms("kim"))
        for name in names:
            await room.fail(name, 1)
        await room.clock.advance(300)
        assert "reboot USB0" not in room.repairs.done and "reboot USB1" in room.repairs.done
        assert "restart server" not in room.repairs.done


async def test_a_repair_that_fails_ends_nothing_else() -> None:
    async with ward() as room:
        name = room.add(USB)
        room.repairs.fails = "adb: device not found"
        room.order(name, DeviceActionKind.REBOOT)
        room.care.unresponsive(name)
        await room.clock.advance(30)
        room.repairs.fails = None
        room.order(name, DeviceActionKind.RECONNECT)
        await room.clock.advance(0)
        assert room.repairs.done[-1] == f"reconnect {USB}"


async def test_a_silent_phone_is_rebooted_after_its_task_once_and_only_where_allowed() -> None:
    for may_reboot in (False, True):
        async with ward(may_reboot=may_reboot) as room:
            name = room.add(USB)
            await room.fail(name, 2)
            await room.clock.advance(60)
            assert room.repairs.done.count(f"reboot {USB}") == int(may_reboot)


async def test_a_tcp_phone_that_adb_forgot_is_looked_for_ever_more_seldom_and_fetched_when_it_is_back() -> None:
    async with ward() as room:
        name = room.add(TCP)
        room.phones.lose(name)
        await room.clock.advance(1_000)
        looks = len(room.repairs.done)
        assert 4 <= looks <= 8 and {*room.repairs.done} == {f"look {TCP}"}
        room.repairs.open_ports.add(TCP)
        room.repairs.on_repair = lambda _: back(room, name)
        await room.clock.advance(301)
        assert room.repairs.done[-1] == f"reattach {TCP}"
        after = len(room.repairs.done)
        await room.clock.advance(1_000)
        assert len(room.repairs.done) == after


async def test_the_adb_server_is_restarted_when_no_phone_answers_any_more_and_no_task_runs() -> None:
    async with ward() as room:
        names = [room.add(f"USB{number}", f"P{number}") for number in range(3)]
        await room.care.began("P0")
        for name in names:
            room.care.unresponsive(name)
        await room.clock.advance(40)
        assert "restart server" not in room.repairs.done, "a task is running"
        room.care.left("P0")
        await room.clock.advance(2)
        assert room.repairs.done.count("restart server") == 1
        for name in names:
            room.care.unresponsive(name)
        await room.clock.advance(60)
        assert room.repairs.done.count("restart server") == 1, "not again so soon"
