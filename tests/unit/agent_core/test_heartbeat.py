"""Presence: at once, every ten seconds, at each change; and nothing that a phone says can silence it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from tests.support.manual_clock import ManualClock
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.heartbeat import Condition, HeartbeatLoop, HeartbeatSources, NodeFacts, device_reports
from muster.agent.journal import JournalError
from muster.agent.ports import DeviceStatus, Phone
from muster.contracts.events import NodeHeartbeat, NodeTrouble
from muster.domain.device import AttachState
from muster.runtime.supervision import Background


@dataclass
class Rack:
    """`Phones`, the vendor tool's state and the workload, as the test sets them."""

    phones: list[DeviceStatus] = field(default_factory=list)
    vendor_ok: bool = True
    last_vendor_ok_ms: int | None = 1_800_000_000_000
    running: int = 3
    queued_devices: int = 7
    depth: int | None = 12

    def find(self, device_id: str) -> Phone | None:
        return None

    def status(self, device_id: str) -> DeviceStatus | None:
        return next((phone for phone in self.phones if phone.device_id == device_id), None)

    def all(self) -> Sequence[DeviceStatus]:
        return self.phones

    def resolve(self, device_id: str) -> str:
        return device_id

    async def outbox_depth(self) -> int:
        if self.depth is None:
            raise JournalError("disk full")
        return self.depth


@asynccontextmanager
async def beating(rack: Rack, clock: ManualClock, changed: asyncio.Event) -> AsyncIterator[list[NodeHeartbeat]]:
    sent: list[NodeHeartbeat] = []
    sources = HeartbeatSources(rack, rack, rack, rack.outbox_depth, lambda: True)
    facts = NodeFacts("PC-01", "1.2.3", 20, starts_emulators=True)
    loop = HeartbeatLoop(facts, sources, sent.append, changed=changed, clock=clock)
    async with Background() as background:
        _ = background.start("heartbeat", loop.run())
        yield sent


def phone(device_id: str = "A", state: AttachState = AttachState.DEVICE, last_seen: float | None = 0.0) -> DeviceStatus:
    return DeviceStatus(device_id, f"handle-{device_id}", state, last_seen)


async def test_the_first_beat_is_at_once_and_then_every_ten_seconds() -> None:
    clock = ManualClock()
    async with beating(Rack(), clock, asyncio.Event()) as sent:
        await clock.advance(0)
        assert len(sent) == 1 and sent[0].starts_emulators, "as its facts say"
        await clock.advance(9.9)
        assert len(sent) == 1
        await clock.advance(0.1)
        assert len(sent) == 2
        await clock.advance(50)
        assert len(sent) == 7


async def test_many_changes_within_a_moment_make_one_beat() -> None:
    clock, changed = ManualClock(), asyncio.Event()
    async with beating(Rack(), clock, changed) as sent:
        await clock.advance(3)
        for _ in range(20):
            changed.set()
            await clock.advance(0.005)
        assert len(sent) == 1
        await clock.advance(0.15)
        assert len(sent) == 2
        await clock.advance(9)
        assert len(sent) == 2


async def test_it_tells_counts_and_ages() -> None:
    clock = ManualClock()
    rack = Rack(phones=[phone("A", last_seen=0.0), phone("B", AttachState.OFFLINE, None)])
    async with beating(rack, clock, asyncio.Event()) as sent:
        await clock.advance(10)
    beat = sent[-1]
    assert (beat.connected_devices_count, beat.running_devices_count, beat.queue_devices_count) == (1, 3, 7)
    assert (beat.vendor_ws_ok, beat.outbox_depth, beat.degraded, beat.max_concurrency) == (True, 12, True, 20)
    assert beat.timestamp == clock.now_ms()
    assert [(device.device_id, device.age_ms) for device in beat.devices] == [("A", 10_000), ("B", None)]


async def test_presence_outlives_a_journal_that_cannot_be_read() -> None:
    clock = ManualClock()
    async with beating(Rack(depth=None), clock, asyncio.Event()) as sent:
        await clock.advance(10)
    assert [beat.outbox_depth for beat in sent] == [0, 0]


@dataclass
class HangingRack(Rack):
    """Its journal answers once."""

    asked: int = 0

    async def outbox_depth(self) -> int:
        self.asked += 1
        if self.asked > 1:
            await asyncio.Event().wait()
        return 12


def test_presence_outlives_a_disk_that_hangs_and_tells_the_last_depth_that_was_known() -> None:
    async def beats() -> list[tuple[float, int]]:
        clock, sent = LoopClock(), list[tuple[float, int]]()
        rack = HangingRack()
        sources = HeartbeatSources(rack, rack, rack, rack.outbox_depth, lambda: False)
        loop = HeartbeatLoop(
            NodeFacts("PC-01", "1.2.3", 20),
            sources,
            lambda beat: sent.append((clock.monotonic(), beat.outbox_depth)),
            changed=asyncio.Event(),
            clock=clock,
        )
        async with Background() as background:
            _ = background.start("heartbeat", loop.run())
            await clock.sleep(50)
        return sent

    sent = run_in_virtual_time(beats())
    assert [depth for _, depth in sent] == [12, 12, 12, 12]
    assert [at for at, _ in sent] == pytest.approx([0, 15, 30, 45])


async def test_a_node_that_takes_no_run_is_degraded_and_says_why() -> None:
    clock, sent, rack = ManualClock(), list[NodeHeartbeat](), Rack()
    sources = HeartbeatSources(rack, rack, rack, rack.outbox_depth, lambda: False, lambda: "the disk is full")
    loop = HeartbeatLoop(NodeFacts("PC-01", "1.2.3", 20), sources, sent.append, changed=asyncio.Event(), clock=clock)
    async with Background() as background:
        _ = background.start("heartbeat", loop.run())
        await clock.advance(1)
    assert [(beat.degraded, beat.last_error_message) for beat in sent] == [(True, "the disk is full")]


def test_a_phone_with_impossible_values_is_reported_without_them() -> None:
    odd = DeviceStatus(
        "A", "usb", AttachState.DEVICE, 5.0, model="M" * 500, battery=300, temperature=float("nan"),
        last_error_message="e" * 5000,
    )  # fmt: skip
    (report,) = device_reports([odd], now=3.0)
    assert (report.model, report.battery, report.temperature, report.age_ms) == ("M" * 128, None, None, 0)
    assert len(report.last_error_message or "") <= 1000


def test_a_phone_whose_very_id_is_impossible_does_not_silence_the_others() -> None:
    assert [report.device_id for report in device_reports([phone("bad\nid"), phone(""), phone("B")], 1.0)] == ["B"]


async def test_what_stops_work_makes_the_node_degraded_and_what_does_not_is_only_told() -> None:
    full = NodeTrouble(reason="disk_full", message="12 MB are free", stops_work=True)
    low = NodeTrouble(reason="disk_low", message="1 GB is free")
    told = {trouble.reason: await _first_beat(Condition((trouble,), dead_letters=3)) for trouble in (full, low)}
    assert {reason: (beat.degraded, beat.troubles) for reason, beat in told.items()} == {
        "disk_full": (True, [full]),
        "disk_low": (False, [low]),
    }
    assert told["disk_low"].dead_letters == 3


async def test_phones_in_quarantine_and_reserved_ones_are_counted() -> None:
    kept = [replace(phone("A"), quarantined="hung thrice"), replace(phone("B"), reserved="kim"), phone("C")]
    beat = await _first_beat(Condition(), Rack(kept))
    assert (beat.quarantined_devices_count, beat.reserved_devices_count, len(beat.devices)) == (1, 1, 3)


async def _first_beat(condition: Condition, rack: Rack | None = None) -> NodeHeartbeat:
    rack, clock = rack or Rack(), ManualClock()
    sent: list[NodeHeartbeat] = []
    sources = HeartbeatSources(rack, rack, rack, rack.outbox_depth, lambda: False, condition=lambda: condition)
    loop = HeartbeatLoop(NodeFacts("PC-01", "1", 20), sources, sent.append, changed=asyncio.Event(), clock=clock)
    async with Background() as background:
        _ = background.start("heartbeat", loop.run())
        await clock.advance(0)
    return sent[0]
