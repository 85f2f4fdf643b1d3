"""One SQLite connection on one thread; what many coroutines write at the same time shares one commit, one fsync."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from muster.agent.journal import JournalError
from muster.domain.limits import JOURNAL_BUSY_SEC, JOURNAL_GROUP_MAX, JOURNAL_WRITES_PENDING_MAX
from muster.runtime.logs import get_logger

log = get_logger()
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
# After one of these (SQLite's primary codes) nobody knows what is on the disk and what only in memory: a failed fsync
# is told once, and the pages that it lost count as written from then on.
IN_DOUBT: Final = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PROTOCOL,
    }
)


class Commits(Protocol):
    """Runs work on the journal's one connection, in the order of the calls."""

    async def open(self) -> None:
        """Opens it and prepares its tables. Raises JournalError."""
        ...

    async def close(self) -> None:
        """After everything that was handed to it."""
        ...

    async def run(self, work: Work[T]) -> T:
        """`work` is durable, all or nothing, when this returns. Raises JournalError."""
        ...


# From the file's path, what prepares its tables, and what to call on the event loop after each commit.
OpenCommits = Callable[[Path, Work[None], Callable[[], None]], Commits]


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    future: asyncio.Future[Any]


class GroupCommit:
    """`await run(work)` returns after `work` is on the disk. Work runs in the order of the calls, each in a savepoint.

    A failing work undoes itself alone; a failing commit fails its whole group with JournalError. `after_commit` is
    called on the event loop after each commit.
    """

    def __init__(
        self,
        path: Path,
        prepare: Work[None],
        after_commit: Callable[[], None],
        *,
        busy_sec: float = JOURNAL_BUSY_SEC,
    ) -> None:
        self._path = path
        self._prepare = prepare
        self._busy_sec = busy_sec
        self._after_commit = after_commit
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._room = asyncio.Semaphore(JOURNAL_WRITES_PENDING_MAX)
        self._loop: asyncio.AbstractEventLoop | None = None
        # A daemon, so that a process that ends by an exception does not hang on it; `close` joins it.
        self._thread = threading.Thread(target=self._serve, name="journal-writer", daemon=True)
        self._opened: Future[None] = Future()
        self._closed = False

    async def open(self) -> None:
        """Opens the file and prepares its tables. Raises JournalError."""
        self._loop = asyncio.get_running_loop()
        # From here on it cannot be cancelled: the thread says how the opening went, whoever still listens.
        self._opened.set_running_or_notify_cancel()
        self._thread.start()
        try:
            await asyncio.wrap_future(self._opened)
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        """Ends the thread after everything that was handed to it."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    async def run(self, work: Work[T]) -> T:
        """Runs `work` in the next group, even when the caller is cancelled meanwhile. Raises JournalError."""
        await self._room.acquire()
        if self._closed or self._loop is None:
            self._room.release()
            raise JournalError("the journal is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, future))
        return await future

    def _serve(self) -> None:
        try:
            file = _JournalFile(self._path, self._prepare, self._busy_sec)
        except (sqlite3.Error, OSError, JournalError) as error:
            self._opened.set_exception(JournalError(f"cannot open the journal {self._path}: {error}"))
            return
        self._opened.set_result(None)
        with contextlib.closing(file):
            while (group := self._next_group()) is not None:
                self._settle(group, file.commit(group))

    def _next_group(self) -> list[_Job] | None:
        job = self._jobs.get()
        if job is None:
            return None
        group = [job]
        while len(group) < JOURNAL_GROUP_MAX:
            try:
                job = self._jobs.get_nowait()
            except Empty:
                break
            if job is None:
                self._jobs.put(None)
                break
            group.append(job)
        return group

    def _settle(self, group: list[_Job], results: "list[_Result]") -> None:
        assert self._loop is not None
        # The loop may be gone when the process is being torn down: nobody waits for the answer then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._tell, group, results)

    def _tell(self, group: list[_Job], results: "list[_Result]") -> None:
        self._after_commit()
        for job, result in zip(group, results, strict=True):
            self._room.release()
            if job.future.done():
                continue
            if result.error is not None:
                job.future.set_exception(result.error)
            else:
                job.future.set_result(result.value)


@dataclass(frozen=True, slots=True)
class _Result:
    value: Any = None
    error: Exception | None = None


class _JournalFile:
    """The open file, on the writer's thread. After an I/O error nothing is written until it has been opened anew.

    What a failed commit left in the write-ahead log may be whole, and whoever recovers the file takes it for recorded.
    So the old connection, which knows what was acknowledged, first brings that into the database and empties the log;
    until this has worked the connection stays, and everything asked of it fails.
    """

    def __init__(self, path: Path, prepare: Work[None], busy_sec: float) -> None:
        self._path = path
        self._prepare = prepare
        self._busy_sec = busy_sec
        self._connection: sqlite3.Connection | None = self._connect()
        self._is_in_doubt = False

    def commit(self, group: list[_Job]) -> list[_Result]:
        """All of the group's work on the disk, or an error for each."""
        try:
            connection = self._trusted()
        except (sqlite3.Error, JournalError) as error:
            return _all_failed(group, f"the journal cannot be opened again: {error}")
        return _commit_group(connection, group, self._failed)

    def close(self) -> None:
        """What was acknowledged is on the disk already."""
        if self._connection is not None:
            self._connection.close()

    def _failed(self, error: sqlite3.Error) -> None:
        assert self._connection is not None, "it has just been used"
        self._is_in_doubt = _is_in_doubt(error) or self._connection.in_transaction
        if self._is_in_doubt:
            log.error("The journal's disk has failed; the file is opened anew before it is used", error=str(error))

    def _trusted(self) -> sqlite3.Connection:
        if self._connection is None or self._is_in_doubt:
            self._give_up_connection()
            self._connection = self._connect()
            self._is_in_doubt = False
            log.info("The journal is open again")
        return self._connection

    def _give_up_connection(self) -> None:
        if self._connection is not None:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            (is_busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if is_busy:
                raise JournalError("another program reads it")
            self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        # isolation_level None: transactions are begun and ended by us alone.
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=self._busy_sec)
        try:
            # An acknowledged commit must survive a power cut; shared by a group, FULL costs no more than NORMAL.
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "journal_size_limit=67108864"):
                connection.execute(f"PRAGMA {pragma}")
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _commit_group(
    connection: sqlite3.Connection, group: list[_Job], failed: Callable[[sqlite3.Error], None] = lambda _error: None
) -> list[_Result]:
    """`failed` is told why nothing of the group was done."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [_run_one(connection, job) for job in group]
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        failed(error)
        return _all_failed(group, f"the journal cannot be written: {error}")
    return results


def _all_failed(group: list[_Job], why: str) -> list[_Result]:
    return [_Result(error=JournalError(why)) for _ in group]


def _run_one(connection: sqlite3.Connection, job: _Job) -> _Result:
    connection.execute("SAVEPOINT one")
    try:
        value = job.work(connection)
    except Exception as error:
        # A full disk makes SQLite roll back everything by itself: then the whole group has failed.
        if not connection.in_transaction or _is_in_doubt(error):
            raise
        connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        if isinstance(error, sqlite3.Error):
            return _Result(error=JournalError(f"the journal cannot be written: {error}"))
        return _Result(error=error)
    connection.execute("RELEASE one")
    return _Result(value=value)


def _is_in_doubt(error: Exception) -> bool:
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in IN_DOUBT
