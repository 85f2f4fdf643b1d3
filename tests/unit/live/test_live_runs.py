import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest
from tests.support.manual_clock import ManualClock, settle
from tests.support.runs import MemoryRuns

from muster.backend.live import LiveRuns, LiveStream, StreamRefusal
from muster.client.sse import SseEvent, SseParser
from muster.contracts.api import RunDelta, RunSnapshot
from muster.domain import limits
from muster.domain.task import TaskState


class CountingRuns(MemoryRuns):
    """Also counts what it is asked, and can be broken or held up."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.snapshots_loaded = 0
        self.deltas_loaded: list[frozenset[str]] = []
        self.broken = False
        self.open_gate = asyncio.Event()
        self.open_gate.set()

    async def snapshot(self, run_id: str) -> RunSnapshot | None:
        self.snapshots_loaded += 1
        await self.open_gate.wait()
        return await super().snapshot(run_id)

    async def delta(self, run_id: str, task_ids: Collection[str]) -> RunDelta | None:
        self.deltas_loaded.append(frozenset(task_ids))
        if self.broken:
            raise OSError("the database has gone")
        return await super().delta(run_id, task_ids)


class Viewer:
    """Reads a stream in the background, as a browser would."""

    def __init__(self, stream: LiveStream) -> None:
        self.stream = stream
        self.events: list[SseEvent] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        parser = SseParser()
        async for chunk in self.stream:
            self.events += parser.feed(chunk)

    @property
    def kinds(self) -> list[str]:
        return [event.event for event in self.events]

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [json.loads(event.data) for event in self.events if event.event == kind]

    async def leave(self) -> None:
        self.stream.close()
        await self.reading


class Hall:
    """A run of three phones, and the live stream over it."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.runs = CountingRuns(self.clock)
        self.run_id = self.runs.add("one", devices=3)
        self.live = LiveRuns(self.runs.snapshot, self.runs.delta, self.clock, **options)
        self.viewers: list[Viewer] = []

    async def watch(self, last_event_id: str | None = None) -> Viewer:
        stream = await self.live.subscribe(self.run_id, last_event_id)
        assert isinstance(stream, LiveStream)
        viewer = Viewer(stream)
        self.viewers.append(viewer)
        await settle()
        return viewer

    def move(self, device_id: str, status: TaskState, **fields: Any) -> str:
        task_id = self.runs.move(self.run_id, device_id, status, **fields)
        self.live.changed(self.run_id, [task_id])
        return task_id


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    async with make_hall() as hall:
        yield hall


@contextlib.asynccontextmanager
async def make_hall(**options: Any) -> AsyncIterator[Hall]:
    hall = Hall(**options)
    yield hall
    await hall.live.close()
    await asyncio.gather(*(viewer.reading for viewer in hall.viewers))
    await settle()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, "a watch or a timer outlived the stream"


async def test_a_viewer_begins_with_the_whole_state(hall: Hall) -> None:
    viewer = await hall.watch()
    assert viewer.kinds == ["snapshot"]
    snapshot = RunSnapshot.model_validate_json(viewer.events[0].data)
    assert len(snapshot.tasks) == 3
    assert snapshot.now == hall.clock.now_ms()


async def test_an_unknown_run_is_refused_before_a_stream_begins(hall: Hall) -> None:
    assert await hall.live.subscribe("no such run") is StreamRefusal.UNKNOWN_RUN
    await settle()
    assert hall.live.viewers == 0


async def test_changes_nobody_watches_cost_nothing(hall: Hall) -> None:
    hall.move("SIM-0001", TaskState.RUNNING)
    await hall.clock.advance(5)
    assert hall.runs.deltas_loaded == []


async def test_the_first_change_goes_out_at_once_and_the_next_ones_together_200_ms_later(hall: Hall) -> None:
    viewer = await hall.watch()
    first = hall.move("SIM-0001", TaskState.RUNNING)
    await settle()
    assert viewer.kinds == ["snapshot", "delta"]
    second = hall.move("SIM-0002", TaskState.RUNNING)
    hall.move("SIM-0001", TaskState.WAITING)
    hall.move("SIM-0001", TaskState.FAILED)
    await hall.clock.advance(0.19)
    assert viewer.kinds == ["snapshot", "delta"]
    await hall.clock.advance(0.02)
    assert viewer.kinds == ["snapshot", "delta", "delta"]
    assert hall.runs.deltas_loaded == [{first}, {first, second}]
    states = {task["device_id"]: task["status"] for task in viewer.bodies("delta")[1]["tasks"]}
    assert states == {"SIM-0001": "failed", "SIM-0002": "running"}


async def test_all_viewers_get_the_same_bytes_from_one_load(hall: Hall) -> None:
    streams = [await hall.live.subscribe(hall.run_id) for _ in range(5)]
    hall.move("SIM-0001", TaskState.RUNNING)
    await settle()
    frames = []
    for stream in streams:
        assert isinstance(stream, LiveStream)
        await anext(stream)
        frames.append(await anext(stream))
        stream.close()
    assert all(frame is frames[0] for frame in frames)
    assert len(hall.runs.deltas_loaded) == 1


async def test_viewers_who_arrive_together_share_one_snapshot(hall: Hall) -> None:
    hall.runs.open_gate.clear()
    arriving = [asyncio.create_task(hall.watch()) for _ in range(4)]
    await settle()
    hall.runs.open_gate.set()
    viewers = await asyncio.gather(*arriving)
    await settle()
    assert hall.runs.snapshots_loaded <= 2
    assert all(viewer.kinds == ["snapshot"] for viewer in viewers)


async def test_a_change_while_a_snapshot_is_being_read_is_not_lost(hall: Hall) -> None:
    hall.runs.open_gate.clear()
    arriving = asyncio.create_task(hall.watch())
    await settle()
    task_id = hall.move("SIM-0002", TaskState.RUNNING)
    hall.runs.open_gate.set()
    viewer = await arriving
    await hall.clock.advance(0.5)
    assert viewer.kinds[:2] == ["snapshot", "delta"]
    assert hall.runs.deltas_loaded == [{task_id}]


async def test_a_heartbeat_comes_every_two_seconds_with_the_backends_time(hall: Hall) -> None:
    viewer = await hall.watch()
    await hall.clock.advance(6.1)
    assert viewer.kinds == ["snapshot", "heartbeat", "heartbeat", "heartbeat"]
    start = hall.clock.now_ms() - 6_100
    assert [body["now"] - start for body in viewer.bodies("heartbeat")] == [2_000, 4_000, 6_000]


async def test_a_viewer_that_comes_back_gets_only_what_it_missed(hall: Hall) -> None:
    await hall.watch()
    viewer = await hall.watch()
    hall.move("SIM-0001", TaskState.RUNNING)
    await settle()
    await viewer.leave()
    seen = viewer.events[-1].id
    for status in (TaskState.WAITING, TaskState.FAILED):
        hall.move("SIM-0001", status)
        await hall.clock.advance(0.3)
    again = await hall.watch(seen)
    assert again.kinds == ["delta", "delta"]
    assert [body["tasks"][0]["status"] for body in again.bodies("delta")] == ["waiting", "failed"]


async def test_an_id_from_before_a_restart_gets_a_snapshot(hall: Hall) -> None:
    await hall.watch()
    again = await hall.watch("0190d4d2-0000-7000-8000-000000000000.512")
    assert again.kinds == ["snapshot"]


async def test_a_viewer_that_does_not_read_is_dropped_and_can_resume(hall: Hall) -> None:
    slow = await hall.live.subscribe(hall.run_id)
    assert isinstance(slow, LiveStream)
    quick = await hall.watch()
    await anext(slow)
    for n in range(limits.STREAM_VIEWER_FRAMES_MAX + 1):
        hall.move("SIM-0001", TaskState.RUNNING, step_index=n)
        await hall.clock.advance(0.25)
    assert slow.ended.is_set()
    with pytest.raises(StopAsyncIteration):
        await anext(slow)
    assert hall.live.viewers == 1
    slow.close()
    assert quick.kinds.count("delta") == limits.STREAM_VIEWER_FRAMES_MAX + 1
    resumed = await hall.watch(quick.events[0].id)
    assert resumed.kinds.count("delta") == limits.STREAM_VIEWER_FRAMES_MAX + 1


async def test_a_finished_run_stays_open_and_quiet(hall: Hall) -> None:
    for device in ("SIM-0001", "SIM-0002", "SIM-0003"):
        hall.move(device, TaskState.SUCCEEDED)
    viewer = await hall.watch()
    await hall.clock.advance(4.5)
    assert viewer.kinds == ["snapshot", "heartbeat", "heartbeat"]
    assert viewer.bodies("snapshot")[0]["run"]["status"] == "completed"


async def test_the_watch_ends_with_its_last_viewer(hall: Hall) -> None:
    one, two = await hall.watch(), await hall.watch()
    await one.leave()
    hall.move("SIM-0001", TaskState.RUNNING)
    await settle()
    assert two.kinds == ["snapshot", "delta"]
    await two.leave()
    await settle()
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("live:")] == []


async def test_a_load_that_fails_ends_the_streams_and_the_next_viewer_starts_anew(hall: Hall) -> None:
    viewer = await hall.watch()
    hall.runs.broken = True
    hall.move("SIM-0001", TaskState.RUNNING)
    await viewer.reading
    hall.runs.broken = False
    again = await hall.watch(viewer.events[-1].id)
    assert again.kinds == ["snapshot"]


async def test_a_viewer_that_gives_up_before_its_snapshot_leaves_nothing_behind(hall: Hall) -> None:
    hall.runs.open_gate.clear()
    arriving = asyncio.create_task(hall.live.subscribe(hall.run_id))
    await settle()
    arriving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await arriving
    assert hall.live.viewers == 0


async def test_closing_ends_every_stream_and_opens_no_new_one(hall: Hall) -> None:
    viewers = [await hall.watch() for _ in range(3)]
    await hall.live.close()
    await asyncio.gather(*(viewer.reading for viewer in viewers))
    assert await hall.live.subscribe(hall.run_id) is StreamRefusal.UNAVAILABLE


async def test_viewers_are_limited() -> None:
    async with make_hall(viewers_max=2) as hall:
        await hall.watch()
        last = await hall.watch()
        assert await hall.live.subscribe(hall.run_id) is StreamRefusal.TOO_MANY_VIEWERS
        await last.leave()
        await hall.watch()
