"""The journal's writer: groups share a commit, failures stay where they belong, acknowledged means durable."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muster.agent.group_commit import GroupCommit
from muster.agent.journal import JournalError


def prepare(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)")


def note(text: str):  # type: ignore[no-untyped-def]
    return lambda connection: connection.execute("INSERT INTO notes (text) VALUES (?)", (text,)).lastrowid


def notes(connection: sqlite3.Connection) -> list[str]:
    return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id")]


@pytest.fixture
async def commits(tmp_path: Path) -> AsyncIterator[GroupCommit]:
    writer = GroupCommit(tmp_path / "notes.sqlite3", prepare, lambda: None)
    await writer.open()
    yield writer
    await writer.close()


async def blocked(commits: GroupCommit) -> threading.Event:
    """Holds the writer's thread in a job until the event is set, so that what follows makes one group."""
    entered, release = threading.Event(), threading.Event()

    def wait(_: sqlite3.Connection) -> None:
        entered.set()
        release.wait(20)

    holding = asyncio.create_task(commits.run(wait))
    await asyncio.to_thread(entered.wait, 20)
    holding.add_done_callback(lambda _: None)
    return release


async def test_each_commit_is_synced_so_that_a_power_cut_takes_nothing_acknowledged(commits: GroupCommit) -> None:
    """No test can cut the power: `synchronous=FULL` (2) is what SQLite promises it by in a write-ahead log."""

    def pragmas(connection: sqlite3.Connection) -> list[object]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert await commits.run(pragmas) == ["wal", 2]


async def test_writes_that_wait_together_share_one_commit(tmp_path: Path) -> None:
    ends: list[None] = []
    writer = GroupCommit(tmp_path / "notes.sqlite3", prepare, lambda: ends.append(None))
    await writer.open()
    release = await blocked(writer)
    writing = asyncio.gather(*(writer.run(note(f"note {number}")) for number in range(100)))
    await asyncio.sleep(0)
    release.set()
    await writing
    assert len(ends) == 2, "the blocking job's commit and one for the hundred"
    await writer.close()


async def test_a_failing_write_undoes_itself_and_not_its_neighbours(commits: GroupCommit) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (text) VALUES ('half done')")
        raise ValueError("a bug")

    release = await blocked(commits)
    writing = asyncio.gather(
        commits.run(note("before")), commits.run(fails), commits.run(note("after")), return_exceptions=True
    )
    await asyncio.sleep(0)
    release.set()
    _, failure, _ = await writing
    assert isinstance(failure, ValueError)
    assert await commits.run(notes) == ["before", "after"]


async def test_a_write_that_sqlite_refuses_is_a_journal_error_of_its_own(commits: GroupCommit) -> None:
    await commits.run(note("one"))
    with pytest.raises(JournalError, match="UNIQUE"):
        await commits.run(note("one"))
    await commits.run(note("two"))
    assert await commits.run(notes) == ["one", "two"]


async def test_a_full_disk_fails_what_was_not_acknowledged_and_nothing_else(commits: GroupCommit) -> None:
    page_count = await commits.run(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    # SQLite's own way of saying that the disk is full.
    await commits.run(lambda connection: connection.execute(f"PRAGMA max_page_count = {page_count + 20}").fetchall())
    acknowledged = []
    with pytest.raises(JournalError, match="full"):
        for number in range(1000):
            await commits.run(note(f"{number} " + "x" * 1000))
            acknowledged.append(number)
    assert acknowledged
    await commits.run(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchall())
    await commits.run(note("room again"))
    kept = await commits.run(notes)
    assert [text.split()[0] for text in kept] == [*map(str, acknowledged), "room"]


async def test_closing_finishes_what_was_handed_over(tmp_path: Path) -> None:
    writer = GroupCommit(tmp_path / "notes.sqlite3", prepare, lambda: None)
    await writer.open()
    writing = [asyncio.create_task(writer.run(note(f"note {number}"))) for number in range(500)]
    await asyncio.sleep(0)
    await writer.close()
    await asyncio.gather(*writing)
    with sqlite3.connect(tmp_path / "notes.sqlite3") as reader:
        assert len(notes(reader)) == 500
    reader.close()


async def test_more_writers_than_its_queue_holds_all_get_through(commits: GroupCommit) -> None:
    await asyncio.gather(*(commits.run(note(f"note {number}")) for number in range(2_500)))
    assert len(await commits.run(notes)) == 2_500


async def test_opening_and_closing_leaves_no_thread(tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(5):
        writer = GroupCommit(tmp_path / "notes.sqlite3", prepare, lambda: None)
        await writer.open()
        await writer.close()
        await writer.close()
    after = {thread.name for thread in threading.enumerate() if thread.name == "journal-writer"}
    assert after <= before


async def test_a_journal_that_nobody_waits_for_any_more_while_it_opens_is_closed_again(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    def slowly(connection: sqlite3.Connection) -> None:
        entered.set()
        release.wait(20)
        prepare(connection)

    writer = GroupCommit(tmp_path / "notes.sqlite3", slowly, lambda: None)
    opening = asyncio.create_task(writer.open())
    await asyncio.to_thread(entered.wait, 20)
    opening.cancel()
    await asyncio.sleep(0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not [thread for thread in threading.enumerate() if thread.name == "journal-writer"]
    with pytest.raises(JournalError, match="closed"):
        await writer.run(notes)
