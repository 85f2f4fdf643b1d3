"""The node's disk in memory: the journal's committed tables and the spool's files. It alone outlives a crash.

The journal's statements and its group commit are the product's own; the thread, the file and the time are not here.
"""

import asyncio
import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.world.life import Life
from tests.world.streams import Streams

from muster.agent.group_commit import Work, _commit_group, _Job
from muster.agent.journal import JournalError

T = TypeVar("T")
# A picture is a thousand times what a commit writes; half of its time the file is there, and nobody knows of it yet.
PICTURE_WAITS = 5


@dataclass
class Disk:
    """`commit_fails`: how likely a commit that changes something fails. `after_commit` may kill the process."""

    streams: Streams
    connection: sqlite3.Connection = field(
        default_factory=lambda: sqlite3.connect(":memory:", isolation_level=None, check_same_thread=True)
    )
    files: dict[str, bytes] = field(default_factory=dict)
    is_full: bool = False
    commit_fails: float = 0.0
    latency_sec: float = 0.001
    after_commit: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self._waits, self._groups = self.streams("disk latency"), self.streams("disk groups")
        self._errors = self.streams("disk errors")

    def fill(self) -> None:
        """No page more: SQLite itself says that the disk is full."""
        self.is_full = True
        (pages,) = self.connection.execute("PRAGMA page_count").fetchone()
        self.connection.execute(f"PRAGMA max_page_count = {max(pages, 1)}")

    def make_room(self) -> None:
        self.is_full = False
        self.connection.execute("PRAGMA max_page_count = 1073741823")

    def wait_sec(self) -> float:
        return self._waits.expovariate(1 / self.latency_sec)

    def group_size(self, waiting: int) -> int:
        return self._groups.randint(1, waiting)

    def commit(self, group: list[_Job]) -> Sequence[Any]:
        """The product's own group commit, on a connection whose COMMIT may fail."""
        before = self.connection.total_changes
        connection = _FaultyConnection(self.connection, self._commit_goes_wrong)
        results = _commit_group(connection, group)  # type: ignore[arg-type]  # as much of a connection as it needs
        if self.connection.total_changes != before and not self.connection.in_transaction:
            self.after_commit()
        return results

    def _commit_goes_wrong(self) -> bool:
        return self._errors.random() < self.commit_fails


class _FaultyConnection:
    def __init__(self, inner: sqlite3.Connection, goes_wrong: Callable[[], bool]) -> None:
        self._inner = inner
        self._before = inner.total_changes
        self._goes_wrong = goes_wrong
        self.executemany = inner.executemany
        self.executescript = inner.executescript

    @property
    def in_transaction(self) -> bool:
        return self._inner.in_transaction

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement == "COMMIT" and self._inner.total_changes != self._before and self._goes_wrong():
            raise sqlite3.OperationalError("disk I/O error")
        return self._inner.execute(statement, *values)


class MemoryCommits:
    """`group_commit.Commits` of one process on the disk. What was handed over and not yet committed dies with it."""

    def __init__(self, disk: Disk, prepare: Work[None], after_commit: Callable[[], None], life: Life) -> None:
        self._disk = disk
        self._prepare = prepare
        self._after_commit = after_commit
        self._life = life
        self._jobs: deque[_Job] = deque()
        self._is_open = False

    async def open(self) -> None:
        try:
            self._prepare(self._disk.connection)
        except sqlite3.Error as error:
            if self._disk.connection.in_transaction:
                self._disk.connection.execute("ROLLBACK")
            raise JournalError(f"cannot open the journal: {error}") from error
        self._is_open = True

    async def close(self) -> None:
        self._is_open = False
        await asyncio.gather(*(job.future for job in self._jobs), return_exceptions=True)

    async def run(self, work: Work[T]) -> T:
        self._life.must_be_alive()
        if not self._is_open:
            raise JournalError("the journal is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._jobs.append(_Job(work, future))
        loop.call_later(self._disk.wait_sec(), self._commit)
        return await future

    def _commit(self) -> None:
        """The oldest in hand, with some of those behind it."""
        if not self._jobs or self._life.is_over():
            return
        group = [self._jobs.popleft() for _ in range(self._disk.group_size(len(self._jobs)))]
        results = self._disk.commit(group)
        if self._life.is_over():
            return
        asyncio.get_running_loop().call_later(self._disk.wait_sec() / 4, self._tell, group, results)

    def _tell(self, group: list[_Job], results: Sequence[Any]) -> None:
        self._after_commit()
        for job, result in zip(group, results, strict=True):
            if job.future.done():
                continue
            if result.error is not None:
                job.future.set_exception(result.error)
            else:
                job.future.set_result(result.value)


class MemoryPictureFiles:
    """`picture_files.PictureFiles` of one process on the disk."""

    def __init__(self, disk: Disk, life: Life) -> None:
        self._disk = disk
        self._life = life

    async def write(self, path: Path, content: bytes) -> str:
        self._life.must_be_alive()
        await asyncio.sleep(PICTURE_WAITS * self._disk.wait_sec())
        if self._disk.is_full:
            raise OSError(28, "No space left on device")
        self._disk.files[path.name] = content
        await asyncio.sleep(PICTURE_WAITS * self._disk.wait_sec())
        return hashlib.sha256(content).hexdigest()

    def remove(self, path: Path) -> None:
        self._life.must_be_alive()
        self._disk.files.pop(path.name, None)

    def names(self, folder: Path) -> Sequence[str]:
        self._life.must_be_alive()
        return list(self._disk.files)
