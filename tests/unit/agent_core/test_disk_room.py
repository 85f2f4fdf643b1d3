"""A disk that takes no more: no run is taken, everybody is told why, nothing is lost; it goes on when there is room."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from tests.support.agent_parts import (
    PNG,
    GatedExecutor,
    MemoryBackend,
    MemoryLocks,
    Replaced,
    command,
    opened_journal,
    run_start,
    seeded,
    tasks_of,
)
from tests.support.faulty_disk import FULL, IS_POSSIBLE, FaultyDisk
from tests.support.manual_clock import ManualClock

from muster.agent.composition import Agent, AgentPorts, AgentSettings
from muster.agent.disk_room import LOOK_SEC, DiskRoom, Written
from muster.agent.group_commit import GroupCommit
from muster.agent.journal import JournalError
from muster.agent.ports import DeviceStatus, Phone, SpoolError
from muster.agent.spool import DiskSpool
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source

ROOM = 1_000_000_000
LEAST = 200 * 1024 * 1024


@dataclass
class Part:
    """`Written`: a file whose disk may be full."""

    fault: str | None = None
    is_full: bool = False
    tries: int = 0

    async def try_again(self) -> None:
        self.tries += 1
        if self.is_full:
            raise JournalError("disk full")
        self.fault = None


@dataclass
class Free:
    """What the disk says is free."""

    free: int | None = ROOM
    told: list[str | None] = field(default_factory=list)

    def measured(self) -> int | None:
        if self.free == -1:
            raise OSError("stale file handle")
        return self.free

    def room(self, *parts: Written) -> DiskRoom:
        room = DiskRoom(parts, self.measured, on_change=lambda: self.told.append(room.trouble), clock=SystemClock())
        return room


def why(room: DiskRoom) -> str | None:
    """Its trouble at this moment."""
    return room.trouble


async def test_too_little_room_is_told_once_and_its_end_too() -> None:
    disk = Free()
    room = disk.room()
    for free in (ROOM, LEAST - 1, LEAST - 1, ROOM, ROOM):
        disk.free = free
        await room.look()
    assert disk.told == ["no run is taken: 200 MB are free on the disk, 200 MB are kept free", None]


async def test_runs_are_taken_again_when_there_is_clearly_room_not_at_the_first_free_byte() -> None:
    disk = Free(LEAST - 1)
    room = disk.room()
    await room.look()
    disk.free = LEAST + 1
    await room.look()
    assert why(room) is not None
    disk.free = LEAST * 12 // 10
    await room.look()
    assert why(room) is None


@pytest.mark.parametrize("unknown", [None, -1])
async def test_a_disk_that_cannot_be_measured_is_no_reason_to_stop(unknown: int | None) -> None:
    room = Free(unknown).room()
    await room.look()
    assert room.trouble is None


async def test_what_could_not_be_written_is_tried_until_it_can_and_what_can_is_left_alone() -> None:
    full, sound = Part(fault="the journal is full", is_full=True), Part()
    room = Free().room(full, sound)
    assert room.trouble == "no run is taken: the journal is full", "at once, whoever looks"
    for _ in range(3):
        await room.look()
    assert (full.tries, sound.tries) == (3, 0)
    full.is_full = False
    await room.look()
    assert room.trouble is None


# ---- the spool -------------------------------------------------------------------------------------------------------


async def test_a_spool_that_is_full_has_room_again_when_the_store_has_taken_a_picture(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        clock = SystemClock()
        spool = DiskSpool(
            tmp_path / "spool", journal, MemoryBackend(), clock=clock, new_id=id_source(clock), bytes_max=len(PNG) + 10
        )
        (task,) = tasks_of(run_start("A"))
        picture = await spool.add(task, "shot", PNG)
        with pytest.raises(SpoolError):
            await spool.add(task, "shot", PNG)
        room = Free().room(spool)
        await room.look()
        assert "the spool holds" in (why(room) or "")
        await spool.upload(picture)
        await room.look()
        assert why(room) is None
        assert list((tmp_path / "spool").iterdir()) == [], "nothing is left of the trial"


# ---- the whole agent -------------------------------------------------------------------------------------------------


class NoPhones:
    """`composition.Rack` and `Phones`: who is there does not matter to these tests."""

    vendor_ok = True
    last_vendor_ok_ms = None

    @property
    def phones(self) -> "NoPhones":
        return self

    def subscribe(self, changed: asyncio.Event) -> None:
        """Nothing changes."""

    async def wait_settled(self) -> None:
        """At once."""

    def find(self, device_id: str) -> Phone | None:
        return None

    def status(self, device_id: str) -> DeviceStatus | None:
        return None

    def all(self) -> Sequence[DeviceStatus]:
        return []

    def resolve(self, device_id: str) -> str:
        return device_id


@dataclass
class Node:
    """A whole agent at work on a disk of the test's."""

    backend: MemoryBackend
    executor: GatedExecutor
    disk: FaultyDisk
    clock: ManualClock
    free: Free

    async def until(self, holds: Callable[[], bool]) -> None:
        """Lets the clock run until it is so."""
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline, "it never became so"
            await self.clock.advance(0.25)
            await asyncio.sleep(0.002)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 4)):
            await self.clock.advance(0.25)
            await asyncio.sleep(0.001)

    @property
    def last_beat(self) -> dict[str, object]:
        beats = self.backend.of("node_heartbeat")
        return beats[-1] if beats else {}

    def is_well(self) -> bool:
        return self.last_beat.get("degraded") is False

    def is_full(self) -> bool:
        return self.last_beat.get("degraded") is True and self.last_beat.get("last_error_message") is not None


@asynccontextmanager
async def node(folder: Path) -> AsyncIterator[Node]:
    clock, free, backend, executor = ManualClock(), Free(), MemoryBackend(), GatedExecutor()
    settings = AgentSettings("http://none", "PC-01", folder, None, ("127.0.0.1", 1), None, drain_grace_sec=0.0)
    with FaultyDisk(folder) as disk:
        async with opened_journal(folder, open_commits=partial(GroupCommit, busy_sec=0.0)) as journal:
            ports = AgentPorts(
                clock, seeded(), id_source(clock), backend, journal, NoPhones(), MemoryLocks(), folder / "spool",
                observer=Replaced(executor), free_bytes=free.measured,
            )  # fmt: skip
            working = asyncio.create_task(Agent(settings, ports).run(lambda _line: None))
            there = Node(backend, executor, disk, clock, free)
            try:
                await there.until(there.is_well)
                yield there
            finally:
                disk.heal()
                executor.open_gates = True
                working.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await working


def finished(backend: MemoryBackend) -> list[str]:
    return sorted(payload["device_id"] for payload in backend.of("task_finished"))


async def test_an_agent_with_too_little_room_takes_no_run_says_why_and_takes_it_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with node(tmp_path) as there:
        there.free.free = 1024**2
        await there.until(there.is_full)
        assert there.last_beat["last_error_message"] == (
            "no run is taken: 1 MB are free on the disk, 200 MB are kept free"
        )
        await there.backend.hand_out(command(run_start("A", "B")))
        polls = there.backend.pull_times
        await there.pass_time(10)
        assert there.backend.of("command_ack") == [] and there.executor.started == []
        assert there.backend.pull_times - polls <= 14, "about once a second"
        there.free.free = ROOM
        await there.until(lambda: len(there.executor.started) == 2)
        await there.until(there.is_well)
        assert "last_error_message" not in there.last_beat


@pytest.mark.skipif(not IS_POSSIBLE, reason="this Python's SQLite cannot be reached by ctypes")
async def test_an_agent_whose_writes_fail_keeps_what_it_has_and_tells_all_of_it_when_there_is_room(
    tmp_path: Path,
) -> None:
    async with node(tmp_path) as there:
        await there.backend.hand_out(command(run_start("A", "B")))
        await there.until(lambda: len(there.executor.started) == 2)
        there.disk.fail(FULL, times=10**9)
        there.executor.let_end("A")
        await there.until(there.is_full)
        assert "database or disk is full" in str(there.last_beat["last_error_message"])
        await there.backend.hand_out(command(run_start("C", run=2)))
        await there.pass_time(3 * LOOK_SEC)
        assert finished(there.backend) == [] and there.is_full()
        there.disk.heal()
        await there.until(lambda: finished(there.backend) == ["A"])
        await there.until(lambda: len(there.executor.started) == 3)
        await there.until(there.is_well)
        there.executor.let_end("B")
        there.executor.let_end("C")
        await there.until(lambda: finished(there.backend) == ["A", "B", "C"])


async def test_what_a_full_agent_is_asked_to_stop_it_stops(tmp_path: Path) -> None:
    async with node(tmp_path) as there:
        start = run_start("A")
        await there.backend.hand_out(command(start))
        await there.until(lambda: len(there.executor.started) == 1)
        there.free.free = 1024**2
        await there.until(there.is_full)
        stop = {"type": "run_stop", "command_id": "0190ffff-0000-7000-8000-000000000009", "run_id": start.run_id}
        await there.backend.hand_out(stop)
        await there.until(lambda: finished(there.backend) == ["A"])
        assert there.backend.of("task_finished")[0]["status"] == "cancelled"
