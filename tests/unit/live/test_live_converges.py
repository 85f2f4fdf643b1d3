"""Whatever viewers come, go, fall behind and resume: when things are quiet, each shows the truth."""

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.manual_clock import ManualClock, settle
from tests.support.runs import MemoryRuns

from muster.backend.live import LiveRuns, LiveStream
from muster.client.sse import SseParser
from muster.contracts.api import RunDelta, RunSnapshot
from muster.domain.task import TaskState

DEVICES = 4
VIEWERS = 3


class Screen:
    """A viewer's page: it applies what it reads, and comes back where it left off."""

    def __init__(self, live: LiveRuns, run_id: str) -> None:
        self._live, self._run_id = live, run_id
        self._stream: LiveStream | None = None
        self._reading: asyncio.Task[None] | None = None
        self._last_id: str | None = None
        self.tiles: dict[str, TaskState] = {}
        self.failed = -1

    async def look(self) -> None:
        if self._stream is not None and not self._stream.ended.is_set():
            return
        await self.look_away()
        opened = await self._live.subscribe(self._run_id, self._last_id)
        assert isinstance(opened, LiveStream)
        self._stream = opened
        self._reading = asyncio.create_task(self._read(opened))

    async def look_away(self) -> None:
        if self._stream is not None and self._reading is not None:
            self._stream.close()
            await self._reading
        self._stream = self._reading = None

    async def _read(self, stream: LiveStream) -> None:
        parser = SseParser()
        async for chunk in stream:
            for event in parser.feed(chunk):
                self._last_id = event.id
                if event.event != "heartbeat":
                    body = (RunSnapshot if event.event == "snapshot" else RunDelta).model_validate_json(event.data)
                    self.tiles |= {task.device_id: task.status for task in body.tasks}
                    self.failed = body.run.counts.failed


async def scene(seed: int, acts: int) -> None:
    rng, clock = random.Random(seed), ManualClock()
    runs = MemoryRuns(clock)
    run_id = runs.add("one", devices=DEVICES)
    live = LiveRuns(runs.snapshot, runs.delta, clock)
    screens = [Screen(live, run_id) for _ in range(VIEWERS)]
    for _ in range(acts):
        roll, screen = rng.random(), rng.choice(screens)
        if roll < 0.5:
            device = f"SIM-{rng.randint(1, DEVICES):04d}"
            live.changed(run_id, [runs.move(run_id, device, rng.choice(list(TaskState)))])
        elif roll < 0.65:
            await screen.look()
        elif roll < 0.75:
            await screen.look_away()
        elif roll < 0.9:
            await clock.advance(rng.choice([0.05, 0.2, 1.0]))
        else:
            await settle()
    for screen in screens:
        await screen.look()
    await clock.advance(1.0)
    truth = {task.device_id: task.status for task in runs.tasks(run_id)}
    assert [screen.tiles for screen in screens] == [truth] * VIEWERS
    assert {screen.failed for screen in screens} == {list(truth.values()).count(TaskState.FAILED)}
    for screen in screens:
        await screen.look_away()
    await settle()
    assert live.viewers == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}, "something outlived its viewers"


@settings(max_examples=examples(60), deadline=None)
@given(seed=st.integers(0, 2**32), acts=st.integers(0, 80))
def test_every_viewer_ends_up_with_the_truth(seed: int, acts: int) -> None:
    asyncio.run(scene(seed, acts))
