import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from tests.support.backend import eventually

from muster.store.database import Database, StoreUnavailableError, sqlite_url


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(sqlite_url(tmp_path / "one.db")) as opened:
        async with opened.writing() as tx:
            await tx.execute(text("CREATE TABLE counter (id INTEGER PRIMARY KEY, value INTEGER NOT NULL)"))
            await tx.execute(text("INSERT INTO counter VALUES (1, 0)"))
        yield opened


async def value(database: Database) -> int:
    async with database.reading() as tx:
        found: int = (await tx.execute(text("SELECT value FROM counter"))).scalar_one()
        return found


async def test_writers_take_turns_and_readers_do_not_wait(database: Database) -> None:
    async def add() -> None:
        async with database.writing() as tx:
            seen = (await tx.execute(text("SELECT value FROM counter"))).scalar_one()
            await tx.execute(text("UPDATE counter SET value = :value"), {"value": seen + 1})

    await asyncio.gather(*(add() for _ in range(100)), *(value(database) for _ in range(100)))
    assert await value(database) == 100


async def test_a_reader_sees_one_snapshot(database: Database) -> None:
    async with database.reading() as tx:
        before = (await tx.execute(text("SELECT value FROM counter"))).scalar_one()
        async with database.writing() as other:
            await other.execute(text("UPDATE counter SET value = 7"))
        assert (await tx.execute(text("SELECT value FROM counter"))).scalar_one() == before == 0
    assert await value(database) == 7


async def test_a_unit_of_work_that_fails_leaves_nothing_and_the_next_goes_on(database: Database) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        async with database.writing() as tx:
            await tx.execute(text("UPDATE counter SET value = 9"))
            raise RuntimeError("stop")
    assert await value(database) == 0
    async with database.writing() as tx:
        await tx.execute(text("UPDATE counter SET value = 1"))
    assert await value(database) == 1


async def test_a_unit_of_work_that_is_cancelled_leaves_nothing_and_the_next_goes_on(database: Database) -> None:
    entered = asyncio.Event()

    async def hang() -> None:
        async with database.writing() as tx:
            await tx.execute(text("UPDATE counter SET value = 9"))
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await value(database) == 0
    async with database.writing() as tx:
        await tx.execute(text("UPDATE counter SET value = 2"))
    assert await value(database) == 2


async def test_reading_cannot_write(database: Database) -> None:
    with pytest.raises(StoreUnavailableError, match="readonly"):
        async with database.reading() as tx:
            await tx.execute(text("UPDATE counter SET value = 3"))


async def test_a_broken_pipe_is_told_apart_from_a_bug(database: Database) -> None:
    with pytest.raises(StoreUnavailableError, match="no such table"):
        async with database.reading() as tx:
            await tx.execute(text("SELECT * FROM gone"))
    with pytest.raises(IntegrityError):
        async with database.writing() as tx:
            await tx.execute(text("INSERT INTO counter VALUES (1, 0)"))


async def test_an_address_that_leads_nowhere_is_unavailable(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "no-such-folder" / "one.db")) as database:
        with pytest.raises(StoreUnavailableError):
            async with database.writing():
                pass
    # aiosqlite's thread of a connection that failed reports to the loop once more: it must still be there.
    await eventually(lambda: not [one for one in threading.enumerate() if "_connection_worker" in one.name])


async def test_what_was_committed_is_durable_in_the_file_itself(database: Database, tmp_path: Path) -> None:
    async with database.reading() as tx:
        assert (await tx.execute(text("PRAGMA journal_mode"))).scalar_one() == "wal"
        assert (await tx.execute(text("PRAGMA synchronous"))).scalar_one() == 2
        assert (await tx.execute(text("PRAGMA foreign_keys"))).scalar_one() == 1
    async with database.writing() as tx:
        await tx.execute(text("UPDATE counter SET value = 5"))
    with sqlite3.connect(tmp_path / "one.db") as stranger:
        assert stranger.execute("SELECT value FROM counter").fetchone() == (5,)
    stranger.close()


async def test_a_full_disk_is_unavailable_and_over_when_there_is_room(database: Database) -> None:
    async with database.writing() as tx:
        pages = (await tx.execute(text("PRAGMA page_count"))).scalar_one()
        await tx.execute(text(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreUnavailableError, match="full"):
        async with database.writing() as tx:
            await tx.execute(text("CREATE TABLE large AS SELECT hex(randomblob(100000)) AS x"))
    async with database.writing() as tx:
        await tx.execute(text("PRAGMA max_page_count = 1000000"))
    async with database.writing() as tx:
        await tx.execute(text("CREATE TABLE large AS SELECT hex(randomblob(100000)) AS x"))
