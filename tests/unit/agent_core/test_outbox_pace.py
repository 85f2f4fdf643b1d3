"""How many requests the sender makes of what it has to tell."""

import asyncio
import itertools
from collections.abc import Sequence

from tests.support.agent_parts import MemoryBackend, seeded
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.journal import DeadLetter, OutboxDepth, OutboxEvent, Refusal
from muster.agent.outbox import OutboxSender
from muster.domain.limits import EVENT_BATCH_MAX, OUTBOX_COALESCE_MS, OUTBOX_PACE_MS
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source
from muster.runtime.supervision import Background


class MemoryOutbox:
    """`Outbox` that notes when each event was made."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.events: list[OutboxEvent] = []
        self.made: list[float] = []

    def add(self, count: int = 1) -> None:
        for _ in range(count):
            position = len(self.made)
            body = {"event_id": str(position), "type": "task_progress", "payload": {}}
            self.events.append(OutboxEvent(position, str(position), body, 100))
            self.made.append(asyncio.get_running_loop().time())
        self.news.set()

    async def pending(self, count_max: int, bytes_max: int, fresh_since_ms: int | None = None) -> Sequence[OutboxEvent]:
        return self.events[:count_max]

    async def settle(self, accepted: Sequence[int], refused: Sequence[Refusal]) -> None:
        self.events = [event for event in self.events if event.position not in accepted]

    async def depth(self) -> OutboxDepth:
        return OutboxDepth(0, len(self.events))

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        return []


def requests_for(*groups: tuple[float, int]) -> tuple[list[tuple[float, int]], list[float]]:
    """Each group: how many events come, and when. The requests as (when, how many events); each event's delay."""

    async def sent() -> tuple[list[tuple[float, int]], list[float]]:
        clock, outbox, backend = LoopClock(), MemoryOutbox(), MemoryBackend()
        requests: list[tuple[float, int]] = []
        delays: list[float] = []

        def note(events: Sequence[dict[str, object]]) -> None:
            requests.append((clock.monotonic(), len(events)))
            delays.extend(clock.monotonic() - outbox.made[int(str(event["event_id"]))] for event in events)

        backend.before_callback = note
        sender = OutboxSender(outbox, backend, clock=clock, rng=seeded(), new_id=id_source(SystemClock()))
        async with Background() as background:
            _ = background.start("outbox", sender.run())
            for at, count in groups:
                await clock.sleep(at - clock.monotonic())
                outbox.add(count)
            await clock.sleep(1.0)
        assert not outbox.events, "everything is told"
        return requests, delays

    return run_in_virtual_time(sent())


def test_what_comes_after_a_pause_goes_at_once() -> None:
    requests, delays = requests_for(*((at, 1) for at in (0.0, 1.0, 2.0, 2.2)))
    assert [count for _, count in requests] == [1, 1, 1, 1]
    assert max(delays) <= 2 * OUTBOX_COALESCE_MS / 1000


def test_what_goes_on_coming_goes_in_at_most_five_requests_a_second_and_none_waits_longer_than_one_pace() -> None:
    requests, delays = requests_for(*((number / 150, 1) for number in range(450)))
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(requests)]
    assert sum(count for _, count in requests) == 450
    assert min(gaps) > 0.999 * OUTBOX_PACE_MS / 1000
    assert max(delays) <= (OUTBOX_PACE_MS + 2 * OUTBOX_COALESCE_MS) / 1000


def test_a_backlog_goes_without_a_pause_between_its_batches() -> None:
    requests, _ = requests_for((0.0, 10 * EVENT_BATCH_MAX))
    assert len(requests) >= 10
    assert requests[9][0] - requests[0][0] < OUTBOX_PACE_MS / 1000
