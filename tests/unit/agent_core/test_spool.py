"""Pictures: on the disk before any upload, gone only when the store has them, told of even when late."""

import asyncio
import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
from tests.support.agent_parts import (
    PNG,
    HastyClock,
    MemoryBackend,
    accept,
    broken,
    narrator,
    opened_journal,
    run_start,
    seeded,
    tasks_of,
    told,
    types_of,
)
from tests.support.manual_clock import ManualClock
from tests.support.waiting import until

from muster.agent.group_commit import GroupCommit
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.link import LinkBroken, LinkError, LinkRefused
from muster.agent.picture_files import PART_SUFFIX, DiskPictureFiles
from muster.agent.ports import Spool, SpooledArtifact, SpoolError, StoredArtifact, Task, TaskOutcome, UploadError
from muster.agent.spool import TRIES_A_SWEEP, DiskSpool, SpoolSweeper
from muster.contracts.api import UploadTicket
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.ids import id_source
from muster.runtime.supervision import Background

CLOCK = SystemClock()


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    async with opened_journal(tmp_path) as opened:
        yield opened


def spool_of(
    tmp_path: Path, journal: SqliteJournal, backend: MemoryBackend, bytes_max: int = 1_000_000, clock: Clock = CLOCK
) -> DiskSpool:
    return DiskSpool(tmp_path / "spool", journal, backend, clock=clock, new_id=id_source(CLOCK), bytes_max=bytes_max)


@asynccontextmanager
async def sweeping(
    journal: SqliteJournal, spool: DiskSpool, clock: HastyClock | None = None
) -> AsyncIterator[SpoolSweeper]:
    sweeper = SpoolSweeper(spool, journal, narrator=narrator(), clock=clock or HastyClock(), rng=seeded())
    async with Background() as background:
        _ = background.start("sweeper", sweeper.run())
        yield sweeper


async def begun(journal: SqliteJournal, device: str = "A", run: int = 1) -> Task:
    start = run_start(device, run=run)
    await accept(journal, start)
    return tasks_of(start)[0]


async def end(journal: SqliteJournal, task: Task, artifact: StoredArtifact | None = None) -> None:
    failed = TaskOutcome(TaskState.FAILED, FailureReason.UPLOAD_ERROR, artifact=artifact)
    await journal.end_task(narrator().task_finished(task, failed, started_at_ms=None, duration_ms=None))


async def has_told(journal: SqliteJournal, kind: str) -> None:
    async with asyncio.timeout(20):
        while True:
            journal.news.clear()
            if kind in types_of(await told(journal)):
                return
            await journal.news.wait()


async def test_a_picture_is_on_the_disk_with_its_hash_before_anything_is_sent(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    backend = MemoryBackend()
    spool: Spool = spool_of(tmp_path, journal, backend)
    artifact = await spool.add(await begun(journal), "shot", PNG)
    assert artifact.path.read_bytes() == PNG
    assert (artifact.sha256, artifact.size) == (hashlib.sha256(PNG).hexdigest(), len(PNG))
    assert [path.name for path in (tmp_path / "spool").iterdir()] == [artifact.path.name]
    assert await journal.spool_names() == {artifact.path.name}
    assert backend.objects == {}


async def test_an_uploaded_picture_leaves_the_disk(tmp_path: Path, journal: SqliteJournal) -> None:
    backend = MemoryBackend()
    spool = spool_of(tmp_path, journal, backend)
    artifact = await spool.add(await begun(journal), "shot", PNG)
    stored = await spool.upload(artifact)
    assert backend.objects == {stored.storage_path: PNG}
    assert (stored.step_id, stored.sha256, stored.size) == ("shot", artifact.sha256, len(PNG))
    assert not artifact.path.exists()


@pytest.mark.parametrize("fault", [broken(), LinkRefused(404, "no such task"), LinkRefused(403, "expired")])
async def test_a_picture_that_the_store_does_not_take_stays(
    tmp_path: Path, journal: SqliteJournal, fault: LinkError
) -> None:
    spool = spool_of(tmp_path, journal, MemoryBackend(upload_fault=lambda: fault))
    artifact = await spool.add(await begun(journal), "shot", PNG)
    with pytest.raises(UploadError, match="not stored yet"):
        await spool.upload(artifact)
    assert artifact.path.read_bytes() == PNG


async def test_a_full_spool_takes_no_more(tmp_path: Path, journal: SqliteJournal) -> None:
    spool = spool_of(tmp_path, journal, MemoryBackend(), bytes_max=2 * len(PNG))
    task = await begun(journal)
    first = await spool.add(task, "shot", PNG)
    await spool.add(task, "shot", PNG)
    with pytest.raises(SpoolError, match="the spool holds"):
        await spool.add(task, "shot", PNG)
    await spool.upload(first)
    await spool.add(task, "shot", PNG)


async def test_a_folder_that_cannot_be_written_takes_no_picture(tmp_path: Path, journal: SqliteJournal) -> None:
    spool = spool_of(tmp_path / "nowhere", journal, MemoryBackend())
    with pytest.raises(SpoolError, match="this node's disk"):
        await spool.add(await begun(journal), "shot", PNG)


async def test_what_a_task_left_behind_is_stored_later_and_told(tmp_path: Path, journal: SqliteJournal) -> None:
    backend = MemoryBackend()
    spool = spool_of(tmp_path, journal, backend)
    task = await begun(journal)
    artifact = await spool.add(task, "shot", PNG)
    async with sweeping(journal, spool) as sweeper:
        await end(journal, task)
        sweeper.wake()
        await has_told(journal, "artifact_stored")
    event = (await told(journal))[-1]
    assert event["payload"]["artifact"] == {
        "kind": "screenshot",
        "step_id": "shot",
        "storage_path": next(iter(backend.objects)),
        "sha256": artifact.sha256,
        "size": len(PNG),
    }
    assert list((tmp_path / "spool").iterdir()) == []
    assert await journal.spool_names() == frozenset()


async def test_the_picture_of_an_open_task_is_left_to_the_task(tmp_path: Path, journal: SqliteJournal) -> None:
    backend = MemoryBackend()
    spool = spool_of(tmp_path, journal, backend)
    open_task = await begun(journal, "A", run=1)
    kept = await spool.add(open_task, "shot", PNG)
    ended = await begun(journal, "B", run=2)
    await spool.add(ended, "shot", PNG)
    async with sweeping(journal, spool) as sweeper:
        await end(journal, ended)
        sweeper.wake()
        await has_told(journal, "artifact_stored")
    assert await journal.spool_names() == {kept.path.name}
    assert kept.path.exists()


async def test_a_stored_picture_that_nothing_told_of_is_told_without_a_second_upload(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    backend = MemoryBackend()
    spool = spool_of(tmp_path, journal, backend)
    task = await begun(journal)
    first, second = await spool.add(task, "one", PNG), await spool.add(task, "two", PNG)
    named, unnamed = await spool.upload(first), await spool.upload(second)
    async with sweeping(journal, spool) as sweeper:
        await end(journal, task, artifact=named)
        sweeper.wake()
        await has_told(journal, "artifact_stored")
    event = (await told(journal))[-1]
    assert event["payload"]["artifact"]["storage_path"] == unnamed.storage_path
    assert len(backend.objects) == 2


async def test_a_picture_that_a_kill_left_on_the_disk_after_it_was_stored_leaves_the_disk_when_it_is_told(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    backend = MemoryBackend()
    spool = spool_of(tmp_path, journal, backend)
    task = await begun(journal)
    artifact = await spool.add(task, "shot", PNG)
    await journal.spool_stored(artifact.path.name, "key")  # and then the process was killed
    await end(journal, task)
    async with sweeping(journal, spool):
        await has_told(journal, "artifact_stored")
    assert list((tmp_path / "spool").iterdir()) == []


class UnremovableFiles(DiskPictureFiles):
    """A virus scanner holds every file open (Windows)."""

    def remove(self, path: Path) -> None:
        raise PermissionError(13, "in use", str(path))


async def test_a_stored_picture_whose_file_cannot_be_removed_is_stored_all_the_same(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    backend = MemoryBackend()
    spool = DiskSpool(
        tmp_path / "spool", journal, backend, clock=CLOCK, new_id=id_source(CLOCK), files=UnremovableFiles()
    )
    artifact = await spool.add(await begun(journal), "shot", PNG)
    stored = await spool.upload(artifact)
    assert backend.objects == {stored.storage_path: PNG}


async def test_a_picture_that_the_journal_does_not_take_leaves_no_file_behind(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        spool = spool_of(tmp_path, journal, MemoryBackend(), clock=HastyClock())
        task = await begun(journal)
        await spool.add(task, "shot", PNG)
        with sqlite3.connect(tmp_path / "journal.sqlite3") as other:
            other.execute("DROP TABLE spool")
            other.execute("CREATE TABLE spool (size INTEGER, storage_path TEXT)")
        other.close()
        with pytest.raises(SpoolError, match="cannot be kept"):
            await spool.add(task, "shot", PNG)
        assert len(list((tmp_path / "spool").iterdir())) == 1


class UnlockingClock(HastyClock):
    """Another program lets go of the journal during the first pause."""

    def __init__(self, other: sqlite3.Connection) -> None:
        super().__init__()
        self._other = other

    async def sleep(self, seconds: float) -> None:
        self._other.rollback()
        await super().sleep(seconds)


async def test_a_journal_that_fails_for_a_moment_costs_no_picture(tmp_path: Path) -> None:
    async with opened_journal(tmp_path, open_commits=partial(GroupCommit, busy_sec=0.0)) as journal:
        task = await begun(journal)
        with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as other:
            other.execute("BEGIN IMMEDIATE")
            clock = UnlockingClock(other)
            picture = await spool_of(tmp_path, journal, MemoryBackend(), clock=clock).add(task, "shot", PNG)
        assert clock.slept == [1.0]
        assert await journal.spool_names() == {picture.path.name}


class StalledFiles(DiskPictureFiles):
    """The file is there, and the disk does not say so."""

    def __init__(self) -> None:
        self.is_written = asyncio.Event()

    async def write(self, path: Path, content: bytes) -> str:
        await super().write(path, content)
        self.is_written.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_the_file_of_a_task_that_was_cut_off_while_it_was_written_is_swept(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    files = StalledFiles()
    spool = DiskSpool(tmp_path / "spool", journal, MemoryBackend(), clock=CLOCK, new_id=id_source(CLOCK), files=files)
    task = await begun(journal)
    adding = asyncio.create_task(spool.add(task, "shot", PNG))
    await files.is_written.wait()
    await spool.tidy()
    assert len(list((tmp_path / "spool").iterdir())) == 1, "it is being added"
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    await spool.tidy()
    assert list((tmp_path / "spool").iterdir()) == []


class HalfWrittenFiles(DiskPictureFiles):
    """The disk's, with a stop after the first half of a picture."""

    def __init__(self) -> None:
        self.is_half_written, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def write(self, path: Path, content: bytes) -> str:
        path.with_suffix(PART_SUFFIX).write_bytes(content[: len(content) // 2])
        self.is_half_written.set()
        await self.may_go_on.wait()
        assert path.with_suffix(PART_SUFFIX).exists(), "nobody may take away what is being written"
        return await super().write(path, content)


async def test_sweeping_after_a_neighbours_end_leaves_a_picture_alone_that_is_half_written(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    files = HalfWrittenFiles()
    spool = DiskSpool(tmp_path / "spool", journal, MemoryBackend(), clock=CLOCK, new_id=id_source(CLOCK), files=files)
    adding = asyncio.create_task(spool.add(await begun(journal), "shot", PNG))
    await files.is_half_written.wait()
    await spool.tidy()
    files.may_go_on.set()
    picture = await adding
    assert list((tmp_path / "spool").iterdir()) == [picture.path]


async def test_the_sweeper_tries_again_until_the_store_is_back(tmp_path: Path, journal: SqliteJournal) -> None:
    left = 4

    def fault() -> LinkError | None:
        nonlocal left
        left -= 1
        return broken() if left >= 0 else None

    spool = spool_of(tmp_path, journal, MemoryBackend(upload_fault=fault))
    task = await begun(journal)
    await spool.add(task, "shot", PNG)
    await end(journal, task)
    clock = HastyClock()
    async with sweeping(journal, spool, clock):
        await has_told(journal, "artifact_stored")
    assert [round(seconds) for seconds in clock.slept] == sorted(round(seconds) for seconds in clock.slept)
    assert len(clock.slept) == 4


async def left_over(journal: SqliteJournal, spool: DiskSpool, run: int) -> SpooledArtifact:
    task = await begun(journal, f"phone-{run}", run=run)
    artifact = await spool.add(task, "shot", PNG)
    await end(journal, task)
    return artifact


async def test_a_picture_that_is_refused_for_good_holds_up_nothing(tmp_path: Path, journal: SqliteJournal) -> None:
    calls = 0

    def fault() -> LinkError | None:
        nonlocal calls
        calls += 1
        return LinkRefused(404, "no such task") if calls == 1 else None

    spool = spool_of(tmp_path, journal, MemoryBackend(upload_fault=fault))
    refused, _ = await left_over(journal, spool, 1), await left_over(journal, spool, 2)
    async with sweeping(journal, spool):
        await has_told(journal, "artifact_stored")
    assert await journal.spool_names() == {refused.path.name}
    assert refused.path.exists(), "kept for somebody to look at"
    assert await journal.spool_leftovers(10) == []


async def test_a_picture_whose_file_is_gone_holds_up_nothing(tmp_path: Path, journal: SqliteJournal) -> None:
    spool = spool_of(tmp_path, journal, MemoryBackend())
    gone, _ = await left_over(journal, spool, 1), await left_over(journal, spool, 2)
    gone.path.unlink()
    async with sweeping(journal, spool):
        await has_told(journal, "artifact_stored")
    assert await journal.spool_names() == {gone.path.name}


async def test_tidying_removes_what_a_crash_left_half_done_and_nothing_else(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    spool = spool_of(tmp_path, journal, MemoryBackend())
    kept = await spool.add(await begun(journal), "shot", PNG)
    (tmp_path / "spool" / "half.part").write_bytes(b"half")
    (tmp_path / "spool" / "orphan.png").write_bytes(PNG)
    await spool.tidy()
    assert list((tmp_path / "spool").iterdir()) == [kept.path]


class PickyStore(MemoryBackend):
    """A store that fails at some pictures, always."""

    async def put_object(self, ticket: UploadTicket, path: Path) -> None:
        if b"bad" in await asyncio.to_thread(path.read_bytes):
            raise LinkBroken("500: internal error")
        await super().put_object(ticket, path)


async def test_a_picture_that_the_store_cannot_take_holds_up_no_other(tmp_path: Path, journal: SqliteJournal) -> None:
    backend = PickyStore()
    spool = spool_of(tmp_path, journal, backend)
    for number in range(1, 9):
        task = await begun(journal, run=number)
        # The oldest of them are bad, and more than are tried in a row.
        await spool.add(task, "shot", PNG + (b"bad" if number <= 5 else b"good"))
        await end(journal, task)
    async with sweeping(journal, spool):
        await until(lambda: len(backend.objects) == 3)
    kept = [leftover.artifact for leftover in await journal.spool_leftovers(10) if leftover.storage_path is None]
    assert len(kept) == 5, "they are tried for ever"


async def test_a_store_that_is_away_is_not_asked_for_each_picture_in_turn(
    tmp_path: Path, journal: SqliteJournal
) -> None:
    asked = 0

    def fault() -> LinkError:
        nonlocal asked
        asked += 1
        return broken()

    spool = spool_of(tmp_path, journal, MemoryBackend(upload_fault=fault))
    for number in range(1, 21):
        task = await begun(journal, run=number)
        await spool.add(task, "shot", PNG)
        await end(journal, task)
    clock = ManualClock()
    sweeper = SpoolSweeper(spool, journal, narrator=narrator(), clock=clock, rng=seeded())
    async with Background() as background:
        _ = background.start("sweeper", sweeper.run())
        await until(lambda: asked == TRIES_A_SWEEP)
        await clock.advance(0.5)
    assert asked == TRIES_A_SWEEP


async def test_a_picture_that_was_refused_is_forgotten_with_its_run(tmp_path: Path, journal: SqliteJournal) -> None:
    spool = spool_of(tmp_path, journal, MemoryBackend())
    task = await begun(journal)
    picture = await spool.add(task, "shot", PNG)
    await end(journal, task)
    await journal.spool_refused(picture.path.name, "no such task")
    await journal.settle([event.position for event in await journal.pending(100, 1 << 20)], [])
    assert await journal.prune(CLOCK.now_ms() - 60_000) == 0
    assert picture.path.exists(), "somebody may want to look at it"
    assert await journal.prune(CLOCK.now_ms() + 60_000) == 1
    await spool.tidy()
    assert not picture.path.exists()
