"""An end is in the journal before the phone is given to its next task, whoever wanted that end."""

import asyncio
import io
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.agent_parts import GatedExecutor, narrator, told
from tests.support.loop_stage import HANGS, OFFLINE, Faulty, HeldLedger, ScriptedReadiness, Stage, at_work, told_of
from tests.support.manual_clock import ManualClock, settle

from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import NotReady, Reporter, Task, TaskOutcome
from muster.agent.resume import resume
from muster.agent.scheduler.loop import TEARDOWN_SEC_MAX
from muster.domain.failure import FailureReason
from muster.domain.limits import JOURNAL_RETRY_LADDER_SEC
from muster.domain.task import TaskState
from muster.runtime.logs import configure_logs

CANCELLED = TaskOutcome(TaskState.CANCELLED, FailureReason.CANCELLED, "this attempt is stale")


class Ledgers:
    """Makes the stage's ledger and lets the test have it."""

    def __init__(self, *held: str) -> None:
        self._held = set(held)
        self.ledger: HeldLedger

    def __call__(self, journal: SqliteJournal) -> HeldLedger:
        self.ledger = HeldLedger(journal, self._held)
        return self.ledger


async def _parked_and_its_neighbour(stage: Stage, readiness: ScriptedReadiness) -> tuple[Task, Task]:
    (parked,) = await stage.take("A")
    (neighbour,) = await stage.take("A", run=2)
    await readiness.has("A")
    return parked, neighbour


@pytest.mark.parametrize("how", ["its grace ends", "it is cancelled", "it is fenced"])
async def test_a_phones_next_task_waits_until_the_end_of_the_parked_one_is_recorded(tmp_path: Path, how: str) -> None:
    executor, readiness, ledgers = Faulty(faults={"A": [HANGS]}), ScriptedReadiness(), Ledgers("end", "fence")
    async with at_work(tmp_path, executor, slots=1, readiness=readiness, ledger=ledgers) as stage:
        parked, neighbour = await _parked_and_its_neighbour(stage, readiness)
        if how == "its grace ends":
            readiness.answer("A", OFFLINE)
        elif how == "it is cancelled":
            stage.loop.cancel(parked.task_id)
        else:
            stage.loop.fence(parked.task_id, 1)
        await ledgers.ledger.has_asked("fence" if how == "it is fenced" else "end", "A")
        await settle()
        assert (executor.tried, stage.locks.held) == (["A"], set()), "the phone is not given away yet"
        (other,) = await stage.take("B", run=3)
        await executor.has_started(1)
        assert executor.started == [other.task_id], "the slot is not held up by it"
        ledgers.ledger.gate.set()
        executor.let_end("B")
        await executor.has_started(2)
        assert executor.started == [other.task_id, neighbour.task_id]
        executor.let_end("A")
        await stage.loop.drain(20)
        assert await stage.journal.open_tasks() == []


async def test_a_phones_next_task_waits_until_the_end_of_a_queued_one_before_it_is_recorded(tmp_path: Path) -> None:
    executor, ledgers, clock = GatedExecutor(), Ledgers("end"), ManualClock()
    async with at_work(tmp_path, executor, ledger=ledgers, clock=clock) as stage:
        stage.locks.elsewhere.add("A")
        (first,) = await stage.take("A")
        (second,) = await stage.take("A", run=2)
        stage.loop.cancel(first.task_id)
        await ledgers.ledger.has_asked("end", "A")
        stage.locks.elsewhere.clear()
        await clock.is_slept_on()
        await clock.advance(3)  # the loop has looked at the lock
        assert executor.started == []
        ledgers.ledger.gate.set()
        await executor.has_started(1)
        assert executor.started == [second.task_id]
        executor.let_end("A")
        await stage.finished(2)


async def test_when_a_disk_that_was_full_for_long_has_room_again_an_end_is_recorded_within_seconds(
    tmp_path: Path,
) -> None:
    executor, ledgers, clock = GatedExecutor(open_gates=True), Ledgers(), ManualClock()
    async with at_work(tmp_path, executor, ledger=ledgers, clock=clock) as stage:
        ledgers.ledger.full = 1_000_000
        await stage.take("A")
        await ledgers.ledger.has_asked("end", "A")
        await clock.is_slept_on()
        await clock.advance(600)
        ledgers.ledger.full = 0
        await clock.advance(1.2 * JOURNAL_RETRY_LADDER_SEC[-1])
        assert JOURNAL_RETRY_LADDER_SEC[-1] <= 2
        (event,) = await stage.finished(1)
        assert event["status"] == "succeeded"


async def test_the_end_of_a_later_task_does_not_hold_up_an_earlier_one(tmp_path: Path) -> None:
    executor, ledgers = GatedExecutor(), Ledgers("end")
    async with at_work(tmp_path, executor, slots=1, ledger=ledgers) as stage:
        await stage.take("B")
        (earlier,) = await stage.take("A", run=2)
        (later,) = await stage.take("A", run=3)
        await executor.has_started(1)
        stage.loop.cancel(later.task_id)
        await ledgers.ledger.has_asked("end", "A")
        ledgers.ledger.held.clear()
        executor.let_end("B")
        await executor.has_started(2)
        assert executor.started[1] == earlier.task_id
        ledgers.ledger.gate.set()
        executor.let_end("A")
        await stage.finished(3)


async def test_a_task_handed_out_again_while_its_end_is_recorded_begins_anew_once_and_before_its_phones_later_ones(
    tmp_path: Path,
) -> None:
    executor, readiness, ledgers = Faulty(faults={"A": [HANGS]}), ScriptedReadiness(), Ledgers("end")
    async with at_work(tmp_path, executor, readiness=readiness, ledger=ledgers) as stage:
        parked, neighbour = await _parked_and_its_neighbour(stage, readiness)
        readiness.answer("A", OFFLINE)
        await ledgers.ledger.has_asked("end", "A")
        await stage.take_again("A", attempt=2)
        ledgers.ledger.held.clear()
        ledgers.ledger.gate.set()
        for number, expected in enumerate((parked, neighbour), 1):
            await executor.has_started(number)
            assert executor.started[-1] == expected.task_id
            executor.let_end("A")
        await stage.finished(2)
        events = [event for event in await told(stage.journal) if event["payload"].get("task_id") == parked.task_id]
        assert told_of(events, "A")[-2:] == [("task_started", "running", 2), ("task_finished", "succeeded", 2)]
        assert ("task_finished", "failed", 1) not in told_of(events, "A"), "the journal had the new attempt already"


async def test_a_phone_is_free_when_the_journal_knows_better_than_the_end_that_it_is_told(tmp_path: Path) -> None:
    log = io.StringIO()
    configure_logs(stream=log)
    executor, readiness, ledgers = Faulty(faults={"A": [HANGS]}), ScriptedReadiness(), Ledgers("end")
    async with at_work(tmp_path, executor, readiness=readiness, ledger=ledgers) as stage:
        parked, neighbour = await _parked_and_its_neighbour(stage, readiness)
        readiness.answer("A", OFFLINE)
        await ledgers.ledger.has_asked("end", "A")
        assert await stage.journal.fence_task(
            narrator().task_finished(parked, CANCELLED, started_at_ms=None, duration_ms=None)
        )
        ledgers.ledger.gate.set()
        await executor.has_started(1)
        assert executor.started == [neighbour.task_id]
        executor.let_end("A")
        await stage.finished(1)
        assert "A stale attempt has ended, and nobody is told" in log.getvalue()
        assert "[error" not in log.getvalue(), "it is no fault of this node's"


async def test_draining_waits_for_an_end_that_is_being_recorded(tmp_path: Path) -> None:
    executor, readiness, ledgers = Faulty(faults={"A": [HANGS]}), ScriptedReadiness(), Ledgers("end")
    async with at_work(tmp_path, executor, readiness=readiness, ledger=ledgers) as stage:
        _, neighbour = await _parked_and_its_neighbour(stage, readiness)
        readiness.answer("A", OFFLINE)
        await ledgers.ledger.has_asked("end", "A")
        draining = asyncio.create_task(stage.loop.drain(20))
        await settle()
        assert not draining.done()
        ledgers.ledger.gate.set()
        await draining
        assert [task.task_id for task in await stage.journal.open_tasks()] == [neighbour.task_id]
        assert executor.tried == ["A"], "nothing is started any more"


async def test_whoever_cancels_a_task_while_it_drains_ends_it(tmp_path: Path) -> None:
    executor = GatedExecutor()
    async with at_work(tmp_path, executor, slots=1) as stage:
        _, queued = await stage.take("A", "B")
        await executor.has_started(1)
        draining = asyncio.create_task(stage.loop.drain(20))
        await settle()
        executor.let_end("A")
        await stage.finished(1)
        stage.loop.cancel(queued.task_id)
        await draining
        await stage.finished(2)
        assert await stage.journal.open_tasks() == []


async def test_a_crash_while_an_end_is_recorded_loses_neither_the_end_nor_the_order(tmp_path: Path) -> None:
    executor, readiness, ledgers = Faulty(faults={"A": [HANGS]}), ScriptedReadiness(), Ledgers("end")
    async with at_work(tmp_path, executor, readiness=readiness, ledger=ledgers) as stage:
        parked, neighbour = await _parked_and_its_neighbour(stage, readiness)
        readiness.answer("A", OFFLINE)
        await ledgers.ledger.has_asked("end", "A")
    executor = Faulty()
    async with at_work(tmp_path, executor) as stage:
        taken_up = await resume(stage.journal, narrator())
        assert [task.task_id for task in taken_up] == [parked.task_id, neighbour.task_id]
        assert [task.state for task in await stage.journal.open_tasks()] == [TaskState.WAITING, TaskState.QUEUED]
        stage.loop.submit(taken_up)
        for number in (1, 2):
            await executor.has_started(number)
            executor.let_end("A")
        await stage.finished(2)
        assert executor.started == [parked.task_id, neighbour.task_id]


async def test_a_task_cancelled_while_its_next_attempt_is_recorded_ends_and_is_not_tried_again(tmp_path: Path) -> None:
    executor, readiness, ledgers = Faulty(faults={"A": [HANGS]}), ScriptedReadiness(), Ledgers("progress", "retry")
    async with at_work(tmp_path, executor, readiness=readiness, ledger=ledgers) as stage:
        (parked,) = await stage.take("A", maxAttempts=3)
        await readiness.has("A")
        readiness.answer("A", OFFLINE)
        await ledgers.ledger.has_asked("progress", "A")
        stage.loop.cancel(parked.task_id)
        await settle()
        ledgers.ledger.gate.set()
        (end,) = await stage.finished(1)
        assert (end["status"], end["attempt"], executor.started) == ("cancelled", 2, [])
        await stage.loop.drain(20)
        assert await stage.journal.open_tasks() == []


async def test_a_task_handed_out_again_and_then_cancelled_does_not_begin_anew(tmp_path: Path) -> None:
    executor = GatedExecutor(teardown_gate=asyncio.Event())
    async with at_work(tmp_path, executor) as stage:
        (task,) = await stage.take("A")
        await executor.has_started(1)
        await stage.take_again("A", attempt=2)
        stage.loop.cancel(task.task_id)
        assert executor.teardown_gate is not None
        executor.teardown_gate.set()
        (end,) = await stage.finished(1)
        assert (end["status"], end["attempt"]) == ("cancelled", 2)
        assert executor.started == [task.task_id]


async def test_being_called_stale_again_and_again_does_not_cut_the_teardown_short(tmp_path: Path) -> None:
    executor = GatedExecutor(teardown_gate=asyncio.Event())
    async with at_work(tmp_path, executor) as stage:
        (task,) = await stage.take("A")
        await executor.has_started(1)
        for _ in range(3):
            stage.loop.fence(task.task_id, 1)
            await settle()
        assert (executor.torn_down, stage.locks.held) == ([], {"A"})
        assert executor.teardown_gate is not None
        executor.teardown_gate.set()
        await stage.loop.drain(20)
        assert executor.torn_down == [task.task_id]
        assert await stage.journal.open_tasks() == []


@dataclass
class TimesOut:
    """An execution whose first step has run out of its time and is being torn down; the second never ends."""

    is_tearing_down: asyncio.Event = field(default_factory=asyncio.Event)
    torn_down: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:
        await report.started(f"handle-of-{task.device_id}")
        try:
            async with asyncio.timeout(0):
                try:
                    await asyncio.Event().wait()
                finally:
                    self.is_tearing_down.set()
                    await self.gate.wait()
                    self.torn_down.set()
        except TimeoutError:
            await asyncio.Event().wait()
        raise AssertionError("the second step never ends")


@pytest.mark.parametrize("how", ["it is cancelled", "it is fenced", "it is handed out again"])
async def test_a_stop_that_comes_while_a_timed_out_step_is_torn_down_is_obeyed_after_that(
    tmp_path: Path, how: str
) -> None:
    executor, clock = TimesOut(), ManualClock()
    async with at_work(tmp_path, executor, clock=clock) as stage:
        (task,) = await stage.take("A")
        await executor.is_tearing_down.wait()
        if how == "it is cancelled":
            stage.loop.cancel(task.task_id)
        elif how == "it is fenced":
            stage.loop.fence(task.task_id, 1)
        else:
            await stage.take_again("A", attempt=2)
            stage.loop.cancel(task.task_id)
        await clock.advance(1)
        assert (stage.locks.held, executor.torn_down.is_set()) == ({"A"}, False), "its teardown is not cut short"
        executor.gate.set()
        await settle()
        await clock.advance(1)
        await stage.loop.drain(20)
        assert executor.torn_down.is_set()
        assert await stage.journal.open_tasks() == []
        assert stage.locks.held == set()


async def test_a_teardown_that_does_not_end_does_not_keep_a_stop_off_for_ever(tmp_path: Path) -> None:
    executor, clock = TimesOut(), ManualClock()
    async with at_work(tmp_path, executor, clock=clock) as stage:
        (task,) = await stage.take("A")
        await executor.is_tearing_down.wait()
        stage.loop.cancel(task.task_id)
        await clock.advance(TEARDOWN_SEC_MAX + 1)
        (end,) = await stage.finished(1)
        assert (end["status"], stage.locks.held) == ("cancelled", set())
