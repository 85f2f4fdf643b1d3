"""What the journal says of itself is what lies in its tables, whatever was rolled back."""

import random
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.agent_parts import accept, narrator, opened_journal, run_start, step, tasks_of

from muster.agent import journal_counts as counts
from muster.agent import journal_tables as tables
from muster.agent.journal import Refusal
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import SpooledArtifact, Task, TaskOutcome
from muster.contracts.events import TaskFinished
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState

OUTCOMES = [
    TaskOutcome(TaskState.SUCCEEDED),
    TaskOutcome(TaskState.FAILED, FailureReason.STEP_FAILED, "no"),
    TaskOutcome(TaskState.FAILED, FailureReason.TASK_TIMEOUT, "no"),
    TaskOutcome(TaskState.SKIPPED_OFFLINE, FailureReason.ADB_OFFLINE, "no"),
    TaskOutcome(TaskState.CANCELLED, FailureReason.CANCELLED, "no"),
]


def finished(task: Task, outcome: TaskOutcome) -> TaskFinished:
    return narrator().task_finished(task, outcome, started_at_ms=None, duration_ms=None)


def in_the_tables(folder: Path) -> Mapping[tuple[str, str], int]:
    with closing(sqlite3.connect(folder / "journal.sqlite3")) as connection:
        rows = connection.execute(
            "SELECT state, COALESCE(failure_reason, '') FROM tasks WHERE state NOT IN ('queued', 'running', 'waiting')"
        )
        return Counter(rows.fetchall())


async def run_of_ends(journal: SqliteJournal, rng: random.Random, number: int) -> None:
    """Tasks that end in every way, some of them asked to end twice, some tried again first."""
    start = run_start(*(f"P{phone}" for phone in range(6)), run=number)
    await accept(journal, start)
    for task in tasks_of(start):
        outcome = rng.choice(OUTCOMES)
        if outcome.status in (TaskState.SUCCEEDED, TaskState.FAILED):
            await journal.begin_task(narrator().task_started(task, "handle"))
        await journal.end_task(finished(task, outcome))
        assert not await journal.end_task(finished(task, rng.choice(OUTCOMES)))


@pytest.mark.parametrize("seed", range(3))
async def test_ends_are_counted_by_status_and_reason_as_they_lie_in_the_tables(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with opened_journal(tmp_path) as journal:
        for number in range(1, 6):
            await run_of_ends(journal, rng, number)
        figures = await journal.figures()
    assert figures.ended == in_the_tables(tmp_path)
    assert (figures.accepted, sum(figures.ended.values())) == (30, 30)


def test_an_end_that_was_rolled_back_was_none() -> None:
    start = run_start("A", "B")
    first, second = tasks_of(start)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        tables.prepare(connection)
        counts.prepare(connection)
        for task in start.tasks:
            tables.add_task(connection, start.run_id, task)
        connection.execute("BEGIN")
        assert tables.end(connection, finished(first, OUTCOMES[4])) is not None
        assert counts.figures(connection).ended == {("cancelled", "cancelled"): 1}
        connection.execute("ROLLBACK")
        assert counts.figures(connection).ended == {}
        tables.end(connection, finished(second, OUTCOMES[4]))
        assert counts.figures(connection).ended == {("cancelled", "cancelled"): 1}


async def test_a_cancelled_task_that_comes_late_and_one_of_a_refused_run_count_too(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        late = run_start("A", run=1)
        await journal.accept_cancel(narrator().command_ack(run_start(run=9).command_id), late.run_id)
        await accept(journal, late)
        refused = run_start("B", run=2)
        ends = narrator().unreadable(refused.run_id, refused.tasks, "nobody can read this")
        await journal.refuse_command(narrator().command_ack(refused.command_id, "unreadable"), ends)
        figures = await journal.figures()
    assert figures.ended == in_the_tables(tmp_path)
    assert sum(figures.ended.values()) == 2


async def test_counts_begin_with_the_process_and_what_waits_outlives_it(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await run_of_ends(journal, random.Random(1), 1)
        waited = (await journal.figures()).outbox
    async with opened_journal(tmp_path) as journal:
        figures = await journal.figures()
    assert (figures.ended, figures.accepted) == ({}, 0)
    assert figures.outbox == waited
    assert waited.total > 0


async def test_tries_and_graces_are_counted(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        start = run_start("A", maxAttempts=2)
        await accept(journal, start)
        (task,) = tasks_of(start)
        tell = narrator()
        await journal.begin_task(tell.task_started(task, "handle"))
        await journal.park_task(tell.task_progress(task, step()))
        await journal.park_task(tell.task_progress(task, step()))
        await journal.retry_task(tell.attempt_failed(task, FailureReason.ADB_OFFLINE, "gone"))
        figures = await journal.figures()
    assert (figures.parked, figures.retried) == (1, 1)


async def test_the_age_of_what_waits_is_that_of_its_oldest_by_kind(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        empty = (await journal.figures()).oldest
        start = run_start("A", "B")
        await accept(journal, start)
        task, _ = tasks_of(start)
        await journal.begin_task(narrator().task_started(task, "handle"))
        await journal.record_progress(narrator().task_progress(task, step()))
        events = await journal.pending(100, 1 << 20)
        oldest = (await journal.figures()).oldest
        assert oldest.fact_ms == events[0].body["payload"]["timestamp"]
        assert oldest.telemetry_ms == events[-1].body["payload"]["timestamp"]
        await journal.settle([event.position for event in events[:-1]], [])
        left = (await journal.figures()).oldest
    assert (empty.fact_ms, empty.telemetry_ms) == (None, None)
    assert (left.fact_ms, left.telemetry_ms) == (None, oldest.telemetry_ms)


async def test_dead_letters_and_pictures_are_counted_where_they_lie(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        start = run_start("A")
        await accept(journal, start)
        (task,) = tasks_of(start)
        for name, size in (("a.png", 10), ("b.png", 200), ("c.png", 3000)):
            picture = SpooledArtifact(
                task.task_id, start.run_id, "A", 1, "hello", 1, tmp_path / "spool" / name, "0" * 64, size
            )
            await journal.spool_add(picture)
        await journal.spool_stored("a.png", "somewhere")
        await journal.spool_refused("b.png", "never")
        event, *_ = await journal.pending(1, 1 << 20)
        await journal.settle([], [Refusal(event.position, 422, "no")])
        figures = await journal.figures()
    assert (figures.pictures, figures.picture_bytes, figures.pictures_refused, figures.dead_letters) == (2, 3200, 1, 1)
