"""Recovery against the real adb server: phones that hang and thaw, drop, lose their port, and are started anew."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.waiting import until

from muster.agent.care import CareParts, PhoneCare
from muster.agent.ports import DeviceOrder, ReserveTerms
from muster.agent.quarantine_book import QuarantineBook
from muster.agent.rack import AttachedRack
from muster.agent.rack import RackSettings as AgentRackSettings
from muster.agent.repairs import AdbRepairs, RepairFailed
from muster.agent.reservations import Reservations
from muster.contracts.commands import DeviceActionKind
from muster.domain.failure import FailureReason
from muster.domain.limits import DEVICE_GRACE_WAIT_MS
from muster.runtime.clock import SystemClock
from muster.runtime.supervision import Background
from muster.sim.main import Rack, RackSettings
from muster.sim.phone import Phone
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]
PATIENCE_SEC = 60.0


@dataclass
class Ward:
    rack: Rack
    phones: list[Phone]
    seen: AttachedRack
    repairs: AdbRepairs
    care: PhoneCare
    book: QuarantineBook
    orders: Background

    def order(self, name: str, action: DeviceActionKind, terms: ReserveTerms | None = None) -> None:
        """As if an operator asked for it now."""
        order = DeviceOrder("an order", name, action, SystemClock().now_ms(), terms)
        self.care.begin(order)
        _ = self.orders.start(action.value, self.care.see_through(order))


@asynccontextmanager
async def ward(folder: Path) -> AsyncIterator[Ward]:
    clock = SystemClock()
    sim = RackSettings(devices=2, latency="none", control_port=None, vendor_port=None, data_dir=folder / "sim")
    async with Rack(sim) as rack:
        book, reservations = QuarantineBook(folder / "quarantine.json", clock), Reservations(None, clock)
        settings = AgentRackSettings(*rack.adb_address, None, folder / "agent")
        async with AttachedRack(settings, clock, why_quarantined=book.why, why_reserved=reservations.why) as seen:
            await seen.wait_settled()
            repairs = AdbRepairs(seen.adb, seen, clock)
            parts = CareParts(
                seen, repairs, book, clock, seen.announce, seen.server_lost_at,
                reservations=reservations, grace_ms=DEVICE_GRACE_WAIT_MS,
            )  # fmt: skip
            async with PhoneCare(parts) as care, Background() as orders:
                yield Ward(rack, list(rack.phones.values()), seen, repairs, care, book, orders)


def name_of(phone: Phone) -> str:
    return phone.properties.get("ro.serialno")


async def test_a_phone_that_hangs_does_not_answer_and_its_neighbour_does_until_it_thaws(tmp_path: Path) -> None:
    async with ward(tmp_path) as room:
        hung, neighbour = room.phones
        await set_state(hung, PhoneState.HUNG, room.rack)
        assert await asyncio.gather(*(room.repairs.answers(name_of(phone)) for phone in room.phones)) == [False, True]
        room.care.unresponsive(name_of(hung))
        hung.thaw()
        await until(lambda: room.seen.find(name_of(hung)) is not None, within_sec=PATIENCE_SEC)
        assert await room.repairs.answers(name_of(hung))
        assert room.seen.find(name_of(neighbour)) is not None


async def test_a_closed_port_is_never_handed_to_the_server_and_an_open_one_brings_the_phone_back(
    tmp_path: Path,
) -> None:
    async with ward(tmp_path) as room:
        phone = room.phones[0]
        handle, name = phone.serial, name_of(phone)
        assert await room.repairs.port_answers(handle)
        phone.adbd.stop()
        assert not await room.repairs.port_answers(handle)
        with pytest.raises(RepairFailed, match="nothing answers"):
            await room.repairs.reattach(handle)
        assert room.care.refusal(name, DeviceActionKind.RECONNECT) is None, "the port may be back any moment"
        await phone.adbd.start()
        room.order(name, DeviceActionKind.RECONNECT)
        await until(lambda: room.seen.find(name) is not None, within_sec=PATIENCE_SEC)
        await room.repairs.reattach(handle)
        await until(lambda: room.seen.find(name) is not None, within_sec=PATIENCE_SEC)
        assert await room.repairs.answers(name)


async def test_a_phone_is_rebooted_by_hand(tmp_path: Path) -> None:
    async with ward(tmp_path) as room:
        phone = room.phones[0]
        uptime = phone.uptime_sec()
        assert room.care.refusal(name_of(phone), DeviceActionKind.REBOOT) is None
        room.order(name_of(phone), DeviceActionKind.REBOOT)
        await until(lambda: phone.uptime_sec() < min(uptime, 30) and phone.booted, within_sec=PATIENCE_SEC)
        await until(lambda: room.seen.find(name_of(phone)) is not None, within_sec=PATIENCE_SEC)
        async with asyncio.timeout(PATIENCE_SEC):
            while not await room.repairs.answers(name_of(phone)):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.1)


async def test_quarantine_and_reservation_are_shown_where_the_heartbeat_looks(tmp_path: Path) -> None:
    async with ward(tmp_path) as room:
        name, changed = name_of(room.phones[0]), asyncio.Event()
        room.seen.subscribe(changed)
        changed.clear()
        for _ in range(3):
            await room.care.ended(name, FailureReason.DEVICE_UNRESPONSIVE)
        assert changed.is_set(), "a heartbeat is sent at once"
        status = next(status for status in room.seen.all() if status.device_id == name)
        assert status.quarantined and status.last_error_message == f"in quarantine: {status.quarantined}"
        assert room.seen.find(name) is not None, "what runs on it is not cut off"
        room.order(name, DeviceActionKind.RELEASE)
        await until(lambda: room.book.why(name) is None)
        assert all(status.quarantined is None for status in room.seen.all())
        room.order(name, DeviceActionKind.RESERVE, ReserveTerms("kim"))
        status = next(status for status in room.seen.all() if status.device_id == name)
        assert status.reserved == status.last_error_message == "reserved by kim for 60 min more"


async def test_the_adb_server_is_ended_as_the_last_rung_and_the_watch_brings_all_phones_back(tmp_path: Path) -> None:
    async with ward(tmp_path) as room:
        names = [name_of(phone) for phone in room.phones]
        assert not room.seen.adb_gone
        await room.repairs.restart_server()
        await until(lambda: room.seen.server_lost_at() is not None, within_sec=PATIENCE_SEC)
        await until(lambda: all(room.seen.find(name) is not None for name in names), within_sec=PATIENCE_SEC)
        assert not room.seen.adb_gone
