"""What every journal must do; each implementation runs under this file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_parts import (
    accept,
    narrator,
    opened_journal,
    run_start,
    step,
    tasks_of,
    told,
    types_of,
)
from tests.world.disk import Disk, MemoryCommits
from tests.world.life import Life
from tests.world.streams import streams

from muster.agent.journal import Journal, JournalError, OutboxDepth, Refusal
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import SpooledArtifact, StoredArtifact, TaskOutcome
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState

TELL = narrator()
SUCCEEDED = TaskOutcome(TaskState.SUCCEEDED)


Opener = Callable[..., AbstractAsyncContextManager[SqliteJournal]]


def in_memory() -> Opener:
    """The simulated world's journal: opening it again is a restart on the same disk."""
    disk = Disk(streams(1))

    def commits(_path: Path, prepare: Any, after_commit: Callable[[], None]) -> MemoryCommits:
        return MemoryCommits(disk, prepare, after_commit, Life(1))

    @asynccontextmanager
    async def opened(folder: Path, **options: Any) -> AsyncIterator[SqliteJournal]:
        async with opened_journal(folder, open_commits=commits, **options) as journal:
            yield journal

    return opened


@pytest.fixture(params=["file", "memory"])
def open_journal(request: pytest.FixtureRequest) -> Opener:
    return opened_journal if request.param == "file" else in_memory()


@pytest.fixture
async def journal(tmp_path: Path, open_journal: Opener) -> AsyncIterator[SqliteJournal]:
    async with open_journal(tmp_path) as opened:
        port: Journal = opened  # the type checker compares the class with its port here
        assert port is opened
        yield opened


def ended(task_number: int, *devices: str, outcome: TaskOutcome = SUCCEEDED):  # type: ignore[no-untyped-def]
    task = tasks_of(run_start(*devices))[task_number]
    return TELL.task_finished(task, outcome, started_at_ms=None, duration_ms=None)


async def test_accepting_a_run_tells_of_it_in_the_same_breath(journal: SqliteJournal) -> None:
    new = await accept(journal, run_start("A", "B"))
    assert [task.device_id for task in new] == ["A", "B"]
    assert types_of(await told(journal)) == ["command_ack", "run_started"]
    assert [task.state for task in await journal.open_tasks()] == [TaskState.QUEUED] * 2


async def test_a_command_that_is_known_brings_no_task_and_no_second_event(journal: SqliteJournal) -> None:
    await accept(journal, run_start("A"))
    assert await accept(journal, run_start("A")) == []
    assert types_of(await told(journal)) == ["command_ack", "run_started"]


async def test_a_known_command_whose_acknowledgement_was_sent_is_acknowledged_again(journal: SqliteJournal) -> None:
    await accept(journal, run_start("A"))
    await journal.settle([event.position for event in await journal.pending(10, 10_000)], [])
    assert await accept(journal, run_start("A")) == []
    assert types_of(await told(journal)) == ["command_ack"]


async def test_a_task_that_is_known_under_another_command_is_not_taken_twice(journal: SqliteJournal) -> None:
    first = run_start("A")
    await accept(journal, first)
    again = first.model_copy(update={"command_id": run_start("A", run=9).command_id})
    assert await accept(journal, again) == []


async def test_events_of_a_task_are_numbered_from_one_in_order(journal: SqliteJournal) -> None:
    start = run_start("A", "B")
    await accept(journal, start)
    first, second = tasks_of(start)
    await journal.begin_task(TELL.task_started(first, "usb-1"))
    await journal.begin_task(TELL.task_started(second, "usb-2"))
    await journal.record_progress(TELL.task_progress(first, step()))
    await journal.record_progress(TELL.task_progress(first, step(StepState.COMPLETED)))
    await journal.end_task(ended(0, "A", "B"))
    events = [event["payload"] for event in await told(journal) if event["type"].startswith("task_")]
    assert [event["seq"] for event in events if event["device_id"] == "A"] == [1, 2, 3, 4]
    assert [event["seq"] for event in events if event["device_id"] == "B"] == [1]


async def test_seq_goes_on_after_a_restart(tmp_path: Path, open_journal: Opener) -> None:
    start = run_start("A")
    async with open_journal(tmp_path) as journal:
        await accept(journal, start)
        await journal.begin_task(TELL.task_started(tasks_of(start)[0], "usb-1"))
    async with open_journal(tmp_path) as journal:
        await journal.end_task(ended(0, "A"))
        assert [event["payload"].get("seq") for event in await told(journal)][2:] == [1, 2, None]


async def test_event_ids_sort_in_the_order_of_recording(journal: SqliteJournal) -> None:
    start = run_start(*(f"phone-{number}" for number in range(50)))
    await accept(journal, start)
    await asyncio.gather(*(journal.begin_task(TELL.task_started(task, "usb")) for task in tasks_of(start)))
    ids = [event["event_id"] for event in await told(journal)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 52


async def test_the_last_task_of_a_run_tells_that_the_run_is_finished_here(journal: SqliteJournal) -> None:
    start = run_start("A", "B", "C", "D")
    await accept(journal, start)
    outcomes = [
        SUCCEEDED,
        TaskOutcome(TaskState.FAILED, FailureReason.STEP_FAILED),
        TaskOutcome(TaskState.FAILED, FailureReason.LOGIN_FLOW_TIMEOUT),
        TaskOutcome(TaskState.SKIPPED_OFFLINE, FailureReason.ADB_MISSING),
    ]
    for number, outcome in enumerate(outcomes):
        assert "run_finished" not in types_of(await told(journal))
        await journal.end_task(ended(number, "A", "B", "C", "D", outcome=outcome))
    last = (await told(journal))[-1]
    assert last["type"] == "run_finished"
    assert last["payload"]["summary"] == {
        "succeeded": 1, "failed": 2, "timeout": 1, "skipped_offline": 1, "cancelled": 0,
    }  # fmt: skip


async def test_a_terminal_state_is_final(journal: SqliteJournal) -> None:
    start = run_start("A")
    await accept(journal, start)
    assert await journal.end_task(ended(0, "A", outcome=TaskOutcome(TaskState.CANCELLED, FailureReason.CANCELLED)))
    before = await told(journal)
    assert not await journal.end_task(ended(0, "A"))
    assert not await journal.begin_task(TELL.task_started(tasks_of(start)[0], "usb-1"))
    await journal.record_progress(TELL.task_progress(tasks_of(start)[0], step()))
    assert await told(journal) == before


async def test_another_attempt_than_the_journaled_one_changes_nothing(journal: SqliteJournal) -> None:
    start = run_start("A")
    await accept(journal, start)
    stale = replace(tasks_of(start)[0], attempt=7)
    assert not await journal.begin_task(TELL.task_started(stale, "usb-1"))
    assert not await journal.end_task(TELL.task_finished(stale, SUCCEEDED, started_at_ms=None, duration_ms=None))
    assert [task.state for task in await journal.open_tasks()] == [TaskState.QUEUED]


async def test_a_refused_command_ends_each_of_its_tasks(journal: SqliteJournal) -> None:
    start = run_start("A", "B")
    failed = TELL.unreadable(start.run_id, start.tasks, "the recipe cannot be read")
    assert await journal.refuse_command(TELL.command_ack(start.command_id, "the recipe cannot be read"), failed)
    events = await told(journal)
    assert types_of(events) == ["command_ack", "task_finished", "task_finished", "run_finished"]
    assert events[0]["payload"]["error_message"] == "the recipe cannot be read"
    assert {event["payload"]["status"] for event in events[1:3]} == {"failed"}
    assert not await journal.refuse_command(TELL.command_ack(start.command_id, "again"), failed)
    assert await told(journal) == events


async def test_refusing_a_command_does_not_touch_a_task_that_is_known(journal: SqliteJournal) -> None:
    start = run_start("A")
    await accept(journal, start)
    other = TELL.command_ack(run_start("A", run=9).command_id, "bad")
    assert await journal.refuse_command(other, TELL.unreadable(start.run_id, start.tasks, "bad"))
    assert [task.state for task in await journal.open_tasks()] == [TaskState.QUEUED]


async def test_open_runs_and_tasks_survive_a_restart_in_their_order(tmp_path: Path, open_journal: Opener) -> None:
    async with open_journal(tmp_path) as journal:
        await accept(journal, run_start("B", "A", run=2))
        await accept(journal, run_start("A", run=1))
        await accept(journal, run_start("C", run=3))
        done = tasks_of(run_start("C", run=3))[0]
        await journal.end_task(TELL.task_finished(done, SUCCEEDED, started_at_ms=None, duration_ms=None))
    async with open_journal(tmp_path) as journal:
        assert [run.run_id for run in await journal.open_runs()] == [
            run_start(run=2).run_id,
            run_start(run=1).run_id,
        ]
        assert [task.device_id for task in await journal.open_tasks()] == ["B", "A", "A"]


async def test_pending_keeps_within_its_bytes_but_gives_at_least_one(journal: SqliteJournal) -> None:
    await accept(journal, run_start("A"))
    (first,) = await journal.pending(10, 1)
    both = await journal.pending(10, 10_000)
    assert len(both) == 2
    assert both[0].position == first.position
    assert len(await journal.pending(1, 10_000)) == 1


async def test_settled_events_leave_and_refused_ones_are_kept_apart(journal: SqliteJournal) -> None:
    await accept(journal, run_start("A"))
    ack, started = await journal.pending(10, 10_000)
    await journal.settle([ack.position], [Refusal(started.position, 422, "payload.run_id: unknown")])
    assert await told(journal) == []
    assert await journal.depth() == OutboxDepth(facts=0, telemetry=0)
    (dead,) = await journal.dead_letters(10)
    assert (dead.event_id, dead.status, dead.message) == (started.event_id, 422, "payload.run_id: unknown")


async def test_above_its_bound_the_oldest_telemetry_goes_and_no_fact_does(tmp_path: Path, open_journal: Opener) -> None:
    start = run_start("A")
    async with open_journal(tmp_path, telemetry_max=10) as journal:
        await accept(journal, start)
        task = tasks_of(start)[0]
        await journal.begin_task(TELL.task_started(task, "usb-1"))
        for _ in range(50):
            await journal.record_progress(TELL.task_progress(task, step()))
        events = await told(journal)
        assert types_of(events)[:3] == ["command_ack", "run_started", "task_started"]
        assert len(events) <= 3 + 10
        assert events[-1]["payload"]["seq"] == 51, "the newest progress is kept"
        assert await journal.depth() == OutboxDepth(facts=3, telemetry=len(events) - 3)


def picture(tmp_path: Path, name: str = "a.png") -> SpooledArtifact:
    task = tasks_of(run_start("A"))[0]
    return SpooledArtifact(
        task.task_id, task.run.run_id, "A", 1, "shot", 1_800_000_000_000, tmp_path / "spool" / name, "a" * 64, 108
    )


async def test_a_picture_is_a_leftover_only_after_its_task_has_ended(journal: SqliteJournal, tmp_path: Path) -> None:
    await accept(journal, run_start("A"))
    await journal.spool_add(picture(tmp_path))
    assert await journal.spool_leftovers(10) == []
    assert await journal.spool_bytes() == 108
    await journal.end_task(ended(0, "A"))
    (leftover,) = await journal.spool_leftovers(10)
    assert leftover.artifact == picture(tmp_path)
    assert leftover.storage_path is None


async def test_a_picture_that_the_tasks_end_tells_of_leaves_the_journal(journal: SqliteJournal, tmp_path: Path) -> None:
    await accept(journal, run_start("A"))
    for name in ("a.png", "b.png"):
        await journal.spool_add(picture(tmp_path, name))
        await journal.spool_stored(name, f"key/{name}")
    told_of = TaskOutcome(TaskState.SUCCEEDED, artifact=StoredArtifact("shot", "key/a.png", "a" * 64, 108))
    await journal.end_task(ended(0, "A", outcome=told_of))
    (leftover,) = await journal.spool_leftovers(10)
    assert (leftover.artifact.path.name, leftover.storage_path) == ("b.png", "key/b.png")


async def test_telling_of_a_late_picture_is_a_fact_with_the_tasks_next_number(
    journal: SqliteJournal, tmp_path: Path
) -> None:
    await accept(journal, run_start("A"))
    await journal.spool_add(picture(tmp_path))
    await journal.end_task(ended(0, "A"))
    stored = TELL.artifact_stored(picture(tmp_path), StoredArtifact("shot", "key", "a" * 64, 108))
    assert await journal.tell_stored("a.png", stored)
    assert not await journal.tell_stored("a.png", stored)
    last = (await told(journal))[-1]
    assert (last["type"], last["payload"]["seq"]) == ("artifact_stored", 2)
    assert await journal.spool_names() == frozenset()


async def test_a_refused_picture_is_not_offered_again_but_still_counts(journal: SqliteJournal, tmp_path: Path) -> None:
    await accept(journal, run_start("A"))
    await journal.spool_add(picture(tmp_path))
    await journal.end_task(ended(0, "A"))
    await journal.spool_refused("a.png", "404: no such task")
    assert await journal.spool_leftovers(10) == []
    assert await journal.spool_bytes() == 108
    assert await journal.spool_names() == {"a.png"}


async def test_pruning_forgets_old_ended_runs_but_nothing_that_must_still_be_told(journal: SqliteJournal) -> None:
    await accept(journal, run_start("A"))
    await accept(journal, run_start("B", run=2))
    await journal.end_task(ended(0, "A"))
    far_future = TELL.clock.now_ms() + 10**9
    assert await journal.prune(far_future) == 0, "its events still wait"
    await journal.settle([event.position for event in await journal.pending(100, 1 << 20)], [])
    assert await journal.prune(0) == 0, "it is not old"
    assert await journal.prune(far_future) == 1
    assert [task.device_id for task in await journal.open_tasks()] == ["B"]
    assert [task.device_id for task in await accept(journal, run_start("A"))] == ["A"], "it is forgotten"


async def test_news_comes_with_each_new_event_and_not_with_reading(journal: SqliteJournal) -> None:
    assert not journal.news.is_set()
    await accept(journal, run_start("A"))
    assert journal.news.is_set()
    journal.news.clear()
    pending = await journal.pending(10, 10_000)
    await journal.settle([event.position for event in pending], [])
    assert not journal.news.is_set()


async def test_a_caller_that_is_cancelled_does_not_undo_what_it_asked_for(journal: SqliteJournal) -> None:
    asked = asyncio.create_task(accept(journal, run_start("A")))
    await asyncio.sleep(0)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert types_of(await told(journal)) == ["command_ack", "run_started"]
    assert journal.news.is_set()


# ---- SQLite's file alone ---------------------------------------------------------------------------------------------


async def test_many_writers_share_commits_and_each_gets_its_own_answer(journal: SqliteJournal) -> None:
    devices = [f"phone-{number}" for number in range(300)]
    start = run_start(*devices)
    await accept(journal, start)
    begun = await asyncio.gather(*(journal.begin_task(TELL.task_started(task, "usb")) for task in tasks_of(start)))
    assert begun == [True] * 300
    again = await asyncio.gather(*(journal.begin_task(TELL.task_started(task, "usb")) for task in tasks_of(start)))
    assert again == [False] * 300


async def test_what_was_acknowledged_is_there_for_whoever_opens_the_file_after_a_kill(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await accept(journal, run_start("A"))
        # The writer's connection is still open, as after kill -9: another one sees the commit in the WAL.
        with sqlite3.connect(tmp_path / "journal.sqlite3") as other:
            assert other.execute("SELECT COUNT(*) FROM outbox").fetchone() == (2,)
        other.close()


async def test_it_writes_ahead_and_syncs_each_commit(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        pragma = await journal._commits.run(
            lambda connection: [
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
            ]
        )
    assert pragma == ["wal", 2], "2 is FULL"


async def test_a_file_that_is_no_database_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(b"not a database" * 100)
    with pytest.raises(JournalError, match=r"journal\.sqlite3"):
        async with opened_journal(tmp_path):
            pass


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite3") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(JournalError, match="newer muster"):
        async with opened_journal(tmp_path):
            pass


async def test_after_closing_it_says_so(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        pass
    with pytest.raises(JournalError, match="closed"):
        await accept(journal, run_start("A"))
