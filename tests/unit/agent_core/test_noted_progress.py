"""A step's progress has no commit of its own: it goes with what is recorded next, or soon by itself."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.support.agent_parts import accept, narrator, opened_journal, run_start, step, tasks_of, told
from tests.support.virtual_time import run_in_virtual_time

from muster.agent.group_commit import GroupCommit, Work
from muster.agent.journal import JournalError
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import TaskOutcome
from muster.contracts.events import TaskFinished, TaskProgress
from muster.domain.limits import JOURNAL_PROGRESS_WAIT_MS, JOURNAL_PROGRESS_WAITING_MAX
from muster.domain.task import TaskState
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source

T = TypeVar("T")
TELL = narrator()
START = run_start("A", "B")
TASK, OTHER = tasks_of(START)


def progress() -> TaskProgress:
    return TELL.task_progress(TASK, step())


def end() -> TaskFinished:
    return TELL.task_finished(TASK, TaskOutcome(TaskState.SUCCEEDED), started_at_ms=None, duration_ms=None)


async def begun(journal: SqliteJournal) -> None:
    await accept(journal, START)
    await journal.begin_task(TELL.task_started(TASK, "usb"))


def on_disk(connection: sqlite3.Connection) -> int:
    (events,) = connection.execute("SELECT COUNT(*) FROM outbox WHERE fact = 0").fetchone()
    return int(events)


def seen_from_outside(folder: Path) -> int:
    """What another program finds in the file."""
    with closing(sqlite3.connect(folder / "journal.sqlite3")) as reader:
        return on_disk(reader)


class Disk:
    """What is committed outlives the process. `takes`: how many transactions that change something still succeed."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.takes = 1_000_000


class DiskCommits:
    """`group_commit.Commits` without a thread: one transaction for each work, a millisecond after it was asked for."""

    def __init__(self, disk: Disk, prepare: Work[None], after_commit: Callable[[], None]) -> None:
        self._disk = disk
        self._prepare = prepare
        self._after_commit = after_commit
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        self._prepare(self._disk.connection)

    async def close(self) -> None:
        """Nothing is left to be done."""

    async def run(self, work: Work[T]) -> T:
        connection = self._disk.connection
        async with self._turn:
            await asyncio.sleep(0.001)
            before = connection.total_changes
            connection.execute("BEGIN")
            result = work(connection)
            if connection.total_changes > before:
                self._disk.takes -= 1
                if self._disk.takes < 0:
                    connection.execute("ROLLBACK")
                    raise JournalError("disk full")
            connection.execute("COMMIT")
        self._after_commit()
        return result


def in_memory(disk: Disk, work: Callable[[SqliteJournal], Coroutine[Any, Any, None]]) -> None:
    """`work` with a journal on `disk`, in virtual time; the process ends with it and closes nothing."""

    async def life() -> None:
        def commits(_path: Path, prepare: Work[None], after_commit: Callable[[], None]) -> DiskCommits:
            return DiskCommits(disk, prepare, after_commit)

        new_id = id_source(SystemClock())
        journal = SqliteJournal(Path("journal"), new_id=new_id, spool_folder=Path("spool"), open_commits=commits)
        await journal.__aenter__()
        await work(journal)

    run_in_virtual_time(life())


async def test_the_steps_of_many_tasks_and_the_next_fact_are_one_commit(tmp_path: Path) -> None:
    commits = 0

    def counted(path: Path, prepare: Work[None], after_commit: Callable[[], None]) -> GroupCommit:
        def count() -> None:
            nonlocal commits
            commits += 1
            after_commit()

        return GroupCommit(path, prepare, count)

    async with opened_journal(tmp_path, open_commits=counted) as journal:
        await begun(journal)
        await journal.begin_task(TELL.task_started(OTHER, "usb"))
        before = commits
        for _ in range(50):
            await journal.record_progress(progress())
            await journal.record_progress(TELL.task_progress(OTHER, step()))
        assert await journal.end_task(end())
        assert commits == before + 1
        assert seen_from_outside(tmp_path) == 100


async def test_what_is_to_be_sent_is_on_the_disk_before_it_is_handed_out(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await begun(journal)
        await journal.record_progress(progress())
        events = await told(journal)
        assert events[-1]["type"] == "task_progress"
        assert seen_from_outside(tmp_path) == 1


async def test_whoever_tells_the_backend_hears_of_it_at_once(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await begun(journal)
        journal.news.clear()
        await journal.record_progress(progress())
        assert journal.news.is_set()
        assert (await journal.depth()).telemetry == 1


def test_it_is_recorded_soon_when_nothing_else_is() -> None:
    disk = Disk()

    async def work(journal: SqliteJournal) -> None:
        await begun(journal)
        await journal.record_progress(progress())
        await asyncio.sleep(JOURNAL_PROGRESS_WAIT_MS / 2000)
        await journal.record_progress(progress())
        assert on_disk(disk.connection) == 0
        await asyncio.sleep(JOURNAL_PROGRESS_WAIT_MS / 2000 + 1)
        assert on_disk(disk.connection) == 2

    in_memory(disk, work)


def test_of_what_a_dead_process_had_only_noted_nothing_is_told_and_its_numbers_are_used_for_the_first_time() -> None:
    disk = Disk()

    async def dies(journal: SqliteJournal) -> None:
        await begun(journal)
        await journal.record_progress(progress())

    async def goes_on(journal: SqliteJournal) -> None:
        assert await journal.end_task(end())
        numbers = [event["payload"].get("seq") for event in await told(journal) if event["type"].startswith("task_")]
        assert numbers == [1, 2]

    in_memory(disk, dies)
    in_memory(disk, goes_on)


async def test_closing_the_journal_records_it(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await begun(journal)
        await journal.record_progress(progress())
    assert seen_from_outside(tmp_path) == 1


def test_more_than_its_bound_is_not_kept_in_memory() -> None:
    disk = Disk()

    async def work(journal: SqliteJournal) -> None:
        await begun(journal)
        for _ in range(JOURNAL_PROGRESS_WAITING_MAX):
            assert on_disk(disk.connection) == 0
            await journal.record_progress(progress())
        assert on_disk(disk.connection) == JOURNAL_PROGRESS_WAITING_MAX

    in_memory(disk, work)


def test_on_a_full_disk_it_is_lost_and_costs_no_fact_and_what_waits_can_still_be_read() -> None:
    disk = Disk()

    async def work(journal: SqliteJournal) -> None:
        await begun(journal)
        facts = await told(journal)
        disk.takes = 0
        for _ in range(50):
            await journal.record_progress(progress())
        assert await told(journal) == facts
        assert journal.fault is not None
        disk.takes = 100
        await journal.record_progress(progress())
        assert await journal.end_task(end())
        assert [event["payload"].get("seq") for event in await told(journal)][-2:] == [2, 3]

    in_memory(disk, work)


def test_a_disk_that_does_not_take_it_is_shown_as_the_journals_fault_until_it_does() -> None:
    disk = Disk()

    async def work(journal: SqliteJournal) -> None:
        await begun(journal)
        disk.takes = 0
        await journal.record_progress(progress())
        await asyncio.sleep(1)
        assert journal.fault
        disk.takes = 100
        await journal.record_progress(progress())
        await asyncio.sleep(1)
        assert not journal.fault
        assert on_disk(disk.connection) == 1

    in_memory(disk, work)


async def test_a_bug_in_telling_it_is_a_write_that_failed_and_succeeds_when_done_again(tmp_path: Path) -> None:
    ids, broken = id_source(SystemClock()), False

    def new_id() -> str:
        nonlocal broken
        if broken:
            broken = False
            raise RuntimeError("no id")
        return ids()

    journal = SqliteJournal(tmp_path / "journal.sqlite3", new_id=new_id, spool_folder=tmp_path)
    async with journal:
        await begun(journal)
        await journal.record_progress(progress())
        broken = True
        with pytest.raises(JournalError, match="progress cannot be recorded: RuntimeError: no id"):
            await journal.end_task(end())
        assert await journal.end_task(end())
        assert [event["payload"]["seq"] for event in (await told(journal))[-1:]] == [2]
