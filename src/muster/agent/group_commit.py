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
from typing import Any, Protocol, TypeVar

from muster.agent.journal import JournalError
from muster.domain.limits import JOURNAL_GROUP_MAX, JOURNAL_WRITES_PENDING_MAX

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


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

    def __init__(self, path: Path, prepare: Work[None], after_commit: Callable[[], None]) -> None:
        self._path = path
        self._prepare = prepare
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
        self._thread.start()
        await asyncio.wrap_future(self._opened)

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
            connection = self._connect()
        except (sqlite3.Error, OSError, JournalError) as error:
            self._opened.set_exception(JournalError(f"cannot open the journal {self._path}: {error}"))
            return
        self._opened.set_result(None)
        with contextlib.closing(connection):
            while (group := self._next_group()) is not None:
                self._settle(group, _commit_group(connection, group))

    def _connect(self) -> sqlite3.Connection:
        # isolation_level None: transactions are begun and ended by us alone.
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=5.0)
        try:
            # An acknowledged commit must survive a power cut; shared by a group, FULL costs no more than NORMAL.
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "journal_size_limit=67108864"):
                connection.execute(f"PRAGMA {pragma}")
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

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


def _commit_group(connection: sqlite3.Connection, group: list[_Job]) -> list[_Result]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [_run_one(connection, job) for job in group]
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        return [_Result(error=JournalError(f"the journal cannot be written: {error}")) for _ in group]
    return results


def _run_one(connection: sqlite3.Connection, job: _Job) -> _Result:
    connection.execute("SAVEPOINT one")
    try:
        value = job.work(connection)
    except Exception as error:
        # A full disk makes SQLite roll back everything by itself: then the whole group has failed.
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO one")
        connection.execute("RELEASE one")
        if isinstance(error, sqlite3.Error):
            return _Result(error=JournalError(f"the journal cannot be written: {error}"))
        return _Result(error=error)
    connection.execute("RELEASE one")
    return _Result(value=value)
