"""The sender: at least once, in order, at once; what stops it and what must not."""

import asyncio
import io
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_parts import (
    NODE,
    HastyClock,
    MemoryBackend,
    accept,
    broken,
    narrator,
    opened_journal,
    run_start,
    seeded,
    step,
    tasks_of,
    told,
    types_of,
)
from tests.support.manual_clock import ManualClock
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.journal import DeadLetter, OutboxDepth, OutboxEvent, Refusal
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.link import LinkError, LinkRefused
from muster.agent.outbox import OutboxSender
from muster.agent.ports import TaskOutcome
from muster.contracts.events import EventVerdict, NodeHeartbeat
from muster.domain.limits import EVENT_BATCH_MAX, OUTBOX_PACE_MS
from muster.domain.task import TaskState
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.ids import id_source
from muster.runtime.logs import configure_logs
from muster.runtime.supervision import Background

TELL = narrator()


@asynccontextmanager
async def sending(
    journal: SqliteJournal, backend: MemoryBackend, clock: Clock | None = None
) -> AsyncIterator[OutboxSender]:
    clock = clock or HastyClock()
    sender = OutboxSender(journal, backend, clock=clock, rng=seeded(), new_id=id_source(SystemClock()))
    async with Background() as background:
        _ = background.start("outbox", sender.run())
        yield sender


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    async with opened_journal(tmp_path) as opened:
        yield opened


async def run_of(journal: SqliteJournal, *devices: str, run: int = 1) -> None:
    """A run from its acceptance to its end: 2 events, 3 for each device, and 1."""
    start = run_start(*devices, run=run)
    await accept(journal, start)
    for task in tasks_of(start):
        await journal.begin_task(TELL.task_started(task, "usb-1"))
        await journal.record_progress(TELL.task_progress(task, step()))
        done = TaskOutcome(TaskState.SUCCEEDED)
        await journal.end_task(TELL.task_finished(task, done, started_at_ms=None, duration_ms=None))


def failing(times: int, error: Callable[[], LinkError]) -> Callable[[Sequence[dict[str, Any]]], LinkError | None]:
    left = times

    def fault(_events: Sequence[dict[str, Any]]) -> LinkError | None:
        nonlocal left
        left -= 1
        return error() if left >= 0 else None

    return fault


def heartbeat(depth: int = 0) -> NodeHeartbeat:
    return NodeHeartbeat(
        node_id=NODE,
        timestamp=1,
        connected_devices_count=0,
        running_devices_count=0,
        queue_devices_count=0,
        vendor_ws_ok=False,
        agent_version="0",
        outbox_depth=depth,
        devices=[],
    )


async def test_what_is_recorded_is_told_at_once_and_forgotten(journal: SqliteJournal) -> None:
    backend = MemoryBackend()
    async with sending(journal, backend) as sender:
        await run_of(journal, "A", "B")
        assert await sender.flush(20)
        assert len(backend.applied) == 9
        assert (await journal.depth()).total == 0


async def test_what_was_recorded_before_the_start_is_told_too(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await run_of(journal, "A")
    backend = MemoryBackend()
    async with opened_journal(tmp_path) as journal, sending(journal, backend) as sender:
        sender.beat(heartbeat())
        assert await sender.flush(20)
    assert types_of(backend.applied)[:1] == ["node_heartbeat"]
    assert len(backend.applied) == 7


async def test_a_backend_that_is_gone_gets_everything_when_it_is_back(journal: SqliteJournal) -> None:
    clock = HastyClock()
    backend = MemoryBackend(before_callback=failing(8, broken))
    await run_of(journal, "A")
    async with sending(journal, backend, clock) as sender:
        assert await sender.flush(20)
    assert len(backend.applied) == 6
    # The shorter ones let a burst come together. A busy machine takes its part of a wait before it begins.
    waits = [round(seconds) for seconds in clock.slept if seconds > OUTBOX_PACE_MS / 1000]
    # 1, 2, 5, 10, 30, then 30 for ever, each ±20 %.
    assert len(waits) == 8
    for wait, rung in zip(waits, [1, 2, 5, 10, 30, 30, 30, 30], strict=True):
        assert 0.8 * rung - 0.5 <= wait <= 1.2 * rung + 0.5


async def test_whoever_waits_for_the_backend_hears_once_that_it_is_back(journal: SqliteJournal) -> None:
    heard = []
    await run_of(journal, "A")
    async with sending(journal, MemoryBackend(before_callback=failing(3, broken))) as sender:
        sender.on_back = lambda: heard.append("back")
        assert await sender.flush(20)
        await run_of(journal, "B", run=2)
        assert await sender.flush(20)
    assert heard == ["back"]


async def test_an_answer_lost_after_the_backend_applied_it_applies_nothing_twice(journal: SqliteJournal) -> None:
    backend = MemoryBackend(after_callback=failing(3, broken))
    await run_of(journal, "A")
    async with sending(journal, backend) as sender:
        assert await sender.flush(20)
    assert len(backend.batches) == 4
    assert len(backend.applied) == 6


async def test_five_failures_in_a_row_make_the_node_degraded_and_one_success_ends_it(journal: SqliteJournal) -> None:
    clock = ManualClock()
    backend = MemoryBackend(before_callback=failing(5, broken))
    await run_of(journal, "A")
    async with sending(journal, backend, clock) as sender:
        seen = []
        async with asyncio.timeout(20):
            while not backend.applied:
                await clock.advance(0.5)
                await asyncio.sleep(0.001)  # the journal's thread runs in real time
                seen.append(sender.degraded)
        assert await sender.flush(20)
        assert True in seen
        assert not sender.degraded


async def test_a_backend_that_has_been_away_for_a_while_is_tried_with_one_event(journal: SqliteJournal) -> None:
    backend = MemoryBackend(before_callback=failing(8, broken))
    await run_of(journal, "A")
    async with sending(journal, backend) as sender:
        assert await sender.flush(20)
    assert [len(batch) for batch in backend.batches] == [6, 6, 6, 6, 6, 1, 1, 1, 1, 5]


async def test_an_event_refused_for_good_is_buried_and_holds_up_nothing(journal: SqliteJournal) -> None:
    def judge(event: dict[str, Any]) -> EventVerdict | None:
        if event["type"] != "run_started":
            return None
        return EventVerdict(event_id=event["event_id"], ok=False, status=422, field="payload.run_id", message="unknown")

    backend = MemoryBackend(judge=judge)
    async with sending(journal, backend) as sender:
        await run_of(journal, "A")
        assert await sender.flush(20)
    assert types_of(backend.applied) == [
        "command_ack",
        "task_started",
        "task_progress",
        "task_finished",
        "run_finished",
    ]
    (dead,) = await journal.dead_letters(10)
    assert (dead.status, dead.message) == (422, "payload.run_id: unknown")


@pytest.mark.parametrize("status", [408, 429, 500, 503])
async def test_an_event_that_the_backend_wants_later_is_sent_again_after_a_wait(
    journal: SqliteJournal, status: int
) -> None:
    refusals = 3

    def judge(event: dict[str, Any]) -> EventVerdict | None:
        nonlocal refusals
        if event["type"] == "task_started" and refusals:
            refusals -= 1
            return EventVerdict(event_id=event["event_id"], ok=False, status=status)
        return None

    backend = MemoryBackend(judge=judge)
    clock = HastyClock()
    async with sending(journal, backend, clock) as sender:
        await run_of(journal, "A")
        assert await sender.flush(20)
    assert len(backend.applied) == 6
    assert len([seconds for seconds in clock.slept if seconds > 0.5]) == 3
    assert await journal.dead_letters(10) == []


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_batch_refused_whole_is_split_until_the_culprit_stands_alone(
    journal: SqliteJournal, status: int
) -> None:
    def fault(events: Sequence[dict[str, Any]]) -> LinkError | None:
        if any(event["type"] == "task_progress" and event["payload"]["device_id"] == "B" for event in events):
            return LinkRefused(status, "I will not read this")
        return None

    backend = MemoryBackend(before_callback=fault)
    await run_of(journal, "A", "B", "C")
    async with sending(journal, backend) as sender:
        assert await sender.flush(20)
    assert len(backend.applied) == 11
    (dead,) = await journal.dead_letters(10)
    assert (dead.body["type"], dead.status) == ("task_progress", status)


@pytest.mark.parametrize("status", [404, 405, 409, 410])
async def test_a_wrong_address_buries_nothing(journal: SqliteJournal, status: int) -> None:
    backend = MemoryBackend(before_callback=failing(3, lambda: LinkRefused(status, "not here")))
    await run_of(journal, "A")
    async with sending(journal, backend) as sender:
        assert await sender.flush(20)
    assert len(backend.applied) == 6
    assert await journal.dead_letters(10) == []


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_secret_pauses_the_sender_and_raises_an_alarm(journal: SqliteJournal, status: int) -> None:
    log = io.StringIO()
    configure_logs(stream=log)
    clock = HastyClock()
    backend = MemoryBackend(before_callback=failing(2, lambda: LinkRefused(status, "wrong secret")))
    await run_of(journal, "A")
    async with sending(journal, backend, clock) as sender:
        assert await sender.flush(20)
    assert len(backend.batches) == 3
    assert [24 <= seconds <= 36 for seconds in clock.slept if seconds > 1] == [True, True]
    assert "refuses this node's secret" in log.getvalue()
    assert await journal.dead_letters(10) == []


async def test_an_answer_without_a_verdict_for_each_event_settles_nothing(journal: SqliteJournal) -> None:
    class Rubbish(MemoryBackend):
        answers = 0

        async def callback(self, events: Sequence[dict[str, Any]]):  # type: ignore[no-untyped-def]
            answer = await MemoryBackend.callback(self, events)
            self.answers += 1
            assert answer.results is not None
            if self.answers == 1:
                return answer.model_copy(update={"results": None})
            if self.answers == 2:
                return answer.model_copy(update={"results": answer.results[1:]})
            if self.answers == 3:
                return answer.model_copy(update={"results": answer.results[::-1]})
            return answer

    backend = Rubbish()
    await run_of(journal, "A")
    async with sending(journal, backend) as sender:
        assert await sender.flush(20)
    assert backend.answers == 4
    assert len(backend.applied) == 6


class StoppedClock(HastyClock):
    """Its date stands still: what is recorded from now on is no backlog, however long a slow disk takes."""

    def __init__(self) -> None:
        super().__init__()
        self._made_ms = super().now_ms()

    def now_ms(self) -> int:
        return self._made_ms


async def test_batches_are_bounded_and_in_the_order_of_recording(journal: SqliteJournal) -> None:
    devices, clock = [f"phone-{number}" for number in range(150)], StoppedClock()
    await run_of(journal, *devices)
    order = [event["event_id"] for event in await told(journal)]
    backend = MemoryBackend()
    async with sending(journal, backend, clock) as sender:
        assert await sender.flush(20)
    assert [event["event_id"] for event in backend.applied] == order
    assert max(len(batch) for batch in backend.batches) <= EVENT_BATCH_MAX
    assert len(backend.batches) <= 4


async def test_a_heartbeat_goes_out_while_waiting_to_retry_and_finds_the_backend_back(journal: SqliteJournal) -> None:
    clock = ManualClock()
    backend = MemoryBackend(before_callback=failing(6, broken))
    await run_of(journal, "A")
    async with sending(journal, backend, clock) as sender:
        async with asyncio.timeout(20):
            while len(backend.batches) < 6:
                await clock.advance(1)
                await asyncio.sleep(0.001)  # the journal's thread runs in real time
        waiting_since = clock.monotonic()
        sender.beat(heartbeat(depth=1))
        sender.beat(heartbeat(depth=2))
        await backend.applied_until(lambda applied: len(applied) >= 1)
        # Only the newest was sent, and the backlog follows without waiting for the ladder's 30 s.
        assert backend.of("node_heartbeat")[0]["outbox_depth"] == 2
        async with asyncio.timeout(20):
            while len(backend.applied) < 7:
                await clock.advance(0.01)
                await asyncio.sleep(0.001)
        assert clock.monotonic() - waiting_since < 20


async def test_a_heartbeat_that_fails_is_not_kept(journal: SqliteJournal) -> None:
    backend = MemoryBackend(before_callback=failing(1, broken))
    async with sending(journal, backend) as sender:
        sender.beat(heartbeat())
        await backend.was_called(1)
        await run_of(journal, "A")
        assert await sender.flush(20)
    assert backend.of("node_heartbeat") == []
    assert (await journal.depth()).total == 0


async def test_waiting_for_a_heartbeat_is_not_satisfied_by_one_that_was_on_its_way(journal: SqliteJournal) -> None:
    clock = ManualClock()
    backend = MemoryBackend()
    async with sending(journal, backend, clock) as sender:
        sender.beat(heartbeat(depth=1))
        waiting = asyncio.create_task(sender.next_beat_accepted())
        await clock.advance(1)
        await backend.applied_until(lambda applied: len(applied) == 1)
        await clock.advance(0)
        assert not waiting.done()
        sender.beat(heartbeat(depth=2))
        await clock.advance(1)
        await asyncio.wait_for(waiting, 20)
    assert [beat["outbox_depth"] for beat in backend.of("node_heartbeat")] == [1, 2]


async def test_flushing_gives_up_when_the_backend_is_gone(journal: SqliteJournal) -> None:
    backend = MemoryBackend(before_callback=failing(10**9, broken))
    await run_of(journal, "A")
    async with sending(journal, backend, ManualClock()) as sender:
        assert not await sender.flush(0.05)
    assert (await journal.depth()).total == 6


async def test_behind_a_backlog_the_present_is_told_in_the_first_batch_and_each_tasks_order_is_kept(
    journal: SqliteJournal,
) -> None:
    clock = ManualClock(now_ms=TELL.clock.now_ms() + 3 * 24 * 3600 * 1000)
    for run in range(1, 121):
        await run_of(journal, "A", "B", run=run)
    today = narrator(clock)
    fresh, old = run_start("Z", run=500), run_start("Y", run=501)
    await accept(journal, old)
    await accept(journal, fresh)
    # Of Y's task something of three days ago still waits: its present has to wait behind it.
    await journal.begin_task(TELL.task_started(tasks_of(old)[0], "usb-1"))
    await journal.record_progress(today.task_progress(tasks_of(old)[0], step()))
    await journal.begin_task(today.task_started(tasks_of(fresh)[0], "usb-1"))
    await journal.record_progress(today.task_progress(tasks_of(fresh)[0], step()))
    done = TaskOutcome(TaskState.SUCCEEDED)
    await journal.end_task(today.task_finished(tasks_of(fresh)[0], done, started_at_ms=None, duration_ms=None))
    batch = await journal.pending(199, 1 << 20, clock.now_ms() - 10_000)
    of_fresh = [event.body for event in batch if event.body["payload"].get("device_id") == "Z"]
    assert types_of(of_fresh) == ["task_started", "task_progress", "task_finished"]
    assert not [event for event in batch if event.body["payload"].get("device_id") == "Y"]
    assert len(batch) >= 100 and [event.position for event in batch] == sorted(event.position for event in batch)
    backend = MemoryBackend()
    async with sending(journal, backend) as sender:
        assert await sender.flush(60)
    by_task: dict[str, list[int]] = {}
    for event in backend.applied:
        if "task_id" in event["payload"]:
            by_task.setdefault(event["payload"]["task_id"], []).append(event["payload"]["seq"])
    assert all(seqs == sorted(seqs) for seqs in by_task.values())


async def test_a_flush_of_an_outbox_that_cannot_be_read_waits_its_time_and_says_so(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await run_of(journal, "A")
    async with sending(journal, MemoryBackend()) as sender:
        assert not await sender.flush(0.05)


class HangingOutbox:
    """`Outbox` on a disk that hangs."""

    def __init__(self) -> None:
        self.news = asyncio.Event()

    async def pending(self, count_max: int, bytes_max: int, fresh_since_ms: int | None = None) -> Sequence[OutboxEvent]:
        await asyncio.Event().wait()
        return []

    async def settle(self, accepted: Sequence[int], refused: Sequence[Refusal]) -> None:
        await asyncio.Event().wait()

    async def depth(self) -> OutboxDepth:
        return OutboxDepth(0, 0)

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        return []


def test_a_disk_that_hangs_silences_no_heartbeat() -> None:
    async def heard() -> list[float]:
        clock, backend, times = LoopClock(), MemoryBackend(), list[float]()
        sender = OutboxSender(HangingOutbox(), backend, clock=clock, rng=seeded(), new_id=id_source(SystemClock()))
        async with Background() as background:
            _ = background.start("outbox", sender.run())
            for _ in range(20):
                sender.beat(heartbeat(0))
                await clock.sleep(10)
                times += [clock.monotonic()] * (len(backend.of("node_heartbeat")) - len(times))
        return times

    times = run_in_virtual_time(heard())
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) >= 8 and max(gaps) <= 30, "it stays in sight"
