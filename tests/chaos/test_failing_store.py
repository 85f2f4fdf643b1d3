"""A store that fails at each of its writes, syncs and locks in turn: what was told is never lost, nothing is half done.

The journal is the real one on a real file; the faults come from SQLite's own disk layer (tests/support/faulty_disk.py).
`make test` takes a sample of the places (FAILING_STORE=10), `make chaos` every one (FAILING_STORE=all).
"""

import asyncio
import os
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.support.agent_parts import (
    PNG,
    HastyClock,
    MemoryBackend,
    narrator,
    opened_journal,
    run_start,
    seeded,
    step,
    tasks_of,
    told,
)
from tests.support.faulty_disk import FAULTS, FULL, IS_POSSIBLE, SYNC_ERROR, WRITE_ERROR, Fault, FaultyDisk

from muster.agent.group_commit import GroupCommit
from muster.agent.journal import JournalError
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.outbox import OutboxSender
from muster.agent.ports import SpoolError, StoredArtifact, Task, TaskOutcome, UploadError
from muster.agent.spool import DiskSpool, SpoolSweeper
from muster.contracts.events import EventVerdict
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source
from muster.runtime.supervision import Background

T = TypeVar("T")
Record = dict[str, list[tuple[Any, ...]]]
TELL = narrator()
START = run_start("A", "B", "C", maxAttempts=2)
LATER = run_start("A", run=2)
OPEN = partial(GroupCommit, busy_sec=0.0)
TRIES_MAX = 200
SIZE = os.environ.get("FAILING_STORE", "10")
PLACES_MAX = 1_000_000 if SIZE == "all" else int(SIZE)
pytestmark = [
    pytest.mark.skipif(not IS_POSSIBLE, reason="this Python's SQLite cannot be reached by ctypes"),
    pytest.mark.timeout(3600 if SIZE == "all" else 300),
]
LONG = 7
"""A fault that lasts for so many operations in a row."""


class PowerCut(Exception):
    """Nothing after it was done."""


class Agent:
    """Does to its journal what an agent does, one thing after another, each until it is done."""

    def __init__(self, journal: SqliteJournal, folder: Path) -> None:
        self.journal = journal
        self.backend = MemoryBackend(judge=_refuses_run_started)
        self.after_each: Callable[[], Awaitable[None]] = _nothing
        self.failures = 0
        self.clock = HastyClock()
        (folder / "spool").mkdir(exist_ok=True)
        self.spool = DiskSpool(
            folder / "spool", journal, self.backend, clock=self.clock, new_id=id_source(SystemClock())
        )

    async def work(self) -> None:
        """A run on three phones: one goes well, one's picture comes late, one is tried again; a second is stopped."""
        a, b, c = tasks_of(START)
        await self._accept()
        for task in (a, b, c):
            await self._begin(task)
        await self._deliver()
        await self._end(a, await self._picture(a, is_in_time=True))
        await self._picture(b, is_in_time=False)
        await self._end(b, None)
        await self._once(lambda: self.journal.retry_task(TELL.attempt_failed(c, FailureReason.UNKNOWN, "no")))
        again = Task(c.task_id, c.device_id, 2, c.run)
        await self._begin(again)
        await self._late_pictures()
        await self._end(again, None)
        await self._stop_the_second_run()
        await self._deliver()

    async def _until_done(self, act: Callable[[], Awaitable[T]]) -> T:
        """As the reporter and the pull loop do: what failed is done again."""
        for _ in range(TRIES_MAX):
            try:
                answer = await act()
            except (JournalError, SpoolError, UploadError):
                self.failures += 1
                continue
            await self.after_each()
            return answer
        raise AssertionError("it never worked again")

    async def _once(self, act: Callable[[], Awaitable[bool]]) -> None:
        """The answer is that of a first time."""
        assert await self._until_done(act), "something that had failed was recorded all the same"

    async def _accept(self) -> None:
        for start in (START, LATER):
            ack, started = TELL.command_ack(start.command_id), TELL.run_started(start)
            new = await self._until_done(partial(self.journal.accept_run, start, ack, started))
            assert list(new) == start.tasks

    async def _begin(self, task: Task) -> None:
        await self._once(lambda: self.journal.begin_task(TELL.task_started(task, "usb")))
        await self._once(lambda: self._progress(task))

    async def _progress(self, task: Task) -> bool:
        """It goes with what is recorded next."""
        await self.journal.record_progress(TELL.task_progress(task, step(StepState.RUNNING)))
        await self.journal.try_again()
        return True

    async def _picture(self, task: Task, *, is_in_time: bool) -> StoredArtifact | None:
        picture = await self._until_done(lambda: self.spool.add(task, "shot", PNG))
        return await self._until_done(lambda: self.spool.upload(picture)) if is_in_time else None

    async def _end(self, task: Task, artifact: StoredArtifact | None) -> None:
        done = TaskOutcome(TaskState.SUCCEEDED, artifact=artifact)
        finished = TELL.task_finished(task, done, started_at_ms=None, duration_ms=None)
        await self._once(lambda: self.journal.end_task(finished))

    async def _late_pictures(self) -> None:
        sweeper = SpoolSweeper(self.spool, self.journal, narrator=TELL, clock=self.clock, rng=seeded())

        async def all_gone() -> bool:
            async with Background() as background, asyncio.timeout(20):
                _ = background.start("spool", sweeper.run())
                while not await self._is_swept():  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0)
            return True

        await self._once(all_gone)

    async def _is_swept(self) -> bool:
        try:
            return not await self.journal.spool_leftovers(10)
        except JournalError:
            self.failures += 1
            return False

    async def _stop_the_second_run(self) -> None:
        (task,) = tasks_of(LATER)
        ack = TELL.command_ack("0190ffff-0000-7000-8000-000000000001")
        is_new, open_tasks = await self._until_done(lambda: self.journal.accept_cancel(ack, LATER.run_id))
        assert is_new and open_tasks == [task.task_id]
        outcome = TaskOutcome(TaskState.CANCELLED, FailureReason.CANCELLED)
        finished = TELL.task_finished(task, outcome, started_at_ms=None, duration_ms=None)
        await self._once(lambda: self.journal.end_task(finished))

    async def _deliver(self) -> None:
        sender = OutboxSender(
            self.journal, self.backend, clock=self.clock, rng=seeded(), new_id=id_source(SystemClock())
        )

        async def all_told() -> bool:
            async with Background() as background:
                self.journal.news.set()
                _ = background.start("outbox", sender.run())
                return await sender.flush(20)

        await self._once(all_told)


async def _nothing() -> None:
    """After an act: go on."""


def _refuses_run_started(event: dict[str, Any]) -> EventVerdict | None:
    is_refused = event["type"] == "run_started"
    return EventVerdict(event_id=event["event_id"], ok=False, status=422) if is_refused else None


async def record(journal: SqliteJournal, backend: MemoryBackend) -> Record:
    """All that is told, or is safe and waits to be: for each task by `seq`; the refused too."""
    buried = [letter.body for letter in await journal.dead_letters(100)]
    every = {event["event_id"]: event for event in [*backend.applied, *buried, *await told(journal)]}
    subjects: Record = defaultdict(list)
    for event in every.values():
        payload = event["payload"]
        subject = payload.get("task_id") or payload.get("run_id") or payload["command_id"]
        subjects[subject].append((payload.get("seq", 0), event["type"], payload.get("status"), payload.get("attempt")))
    return {subject: sorted(events) for subject, events in sorted(subjects.items())}


@asynccontextmanager
async def opened_at_last(folder: Path) -> AsyncIterator[SqliteJournal]:
    """An agent that cannot open its journal does not start; whoever watches over it starts it again."""
    async with AsyncExitStack() as stack:
        for _ in range(TRIES_MAX):
            with suppress(JournalError):
                journal = await stack.enter_async_context(opened_journal(folder, open_commits=OPEN))
                break
        else:
            raise AssertionError("it could never be opened again")
        yield journal


def fresh(folder: Path) -> Path:
    """Empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


async def as_it_should_be(folder: Path) -> list[Record]:
    """Without a fault: the record after each act, the first of them from before any."""
    records: list[Record] = []
    async with opened_journal(folder, open_commits=OPEN) as journal:
        agent = Agent(journal, folder)

        async def note() -> None:
            records.append(await record(journal, agent.backend))

        await note()
        agent.after_each = note
        await agent.work()
        assert agent.failures == 0
    return records


async def places(folder: Path, fault: Fault) -> list[int]:
    """Where the fault can strike, from the opening of the file to its closing; a sample of them in `make test`."""
    with FaultyDisk(folder) as disk:
        async with opened_journal(folder, open_commits=OPEN) as journal:
            await Agent(journal, folder).work()
        count = disk.done(fault)
    return list(range(0, count, max(1, count // PLACES_MAX)))


by_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))


@pytest.mark.parametrize("times", [1, LONG])
@by_fault
async def test_wherever_the_store_fails_the_record_is_that_of_a_sound_one(
    tmp_path: Path, fault: Fault, times: int
) -> None:
    wanted = (await as_it_should_be(fresh(tmp_path / "sound")))[-1]
    struck, where = 0, await places(fresh(tmp_path / "counted"), fault)
    for place in where:
        folder = fresh(tmp_path / "failing")
        with FaultyDisk(folder) as disk:
            disk.fail(fault, after=place, times=times)
            async with opened_at_last(folder) as journal:
                agent = Agent(journal, folder)
                await agent.work()
            # The closing may fail as well.
            disk.heal()
            async with opened_journal(folder, open_commits=OPEN) as journal:
                assert await record(journal, agent.backend) == wanted, f"{fault.name} at {place}"
                assert (await journal.depth()).total == 0
            assert list((folder / "spool").iterdir()) == [], f"{fault.name} at {place}"
        struck += disk.struck
    assert struck >= len(where) / 2, "the faults must strike"


@by_fault
async def test_a_power_cut_after_a_failure_takes_nothing_that_was_told(tmp_path: Path, fault: Fault) -> None:
    wanted = await as_it_should_be(fresh(tmp_path / "sound"))
    for place in await places(fresh(tmp_path / "counted"), fault):
        folder, survived = fresh(tmp_path / "failing"), fresh(tmp_path / "survived")
        with FaultyDisk(folder) as disk:
            disk.fail(fault, after=place)
            async with opened_at_last(folder) as journal:
                agent = Agent(journal, folder)
                acts = await until_the_power_is_cut(agent, disk)
            disk.put_what_survived(survived)
        async with opened_journal(survived) as journal:
            assert await record(journal, agent.backend) == wanted[acts], f"{fault.name} at {place}"


async def until_the_power_is_cut(agent: Agent, disk: FaultyDisk) -> int:
    """Two acts after the disk has failed; answers how many acts were done in all."""
    acts = since = 0

    async def count() -> None:
        nonlocal acts, since
        acts += 1
        since += 1 if disk.struck else 0
        if since == 2:
            disk.cut_power()
            raise PowerCut

    agent.after_each = count
    with suppress(PowerCut):
        await agent.work()
    disk.cut_power()
    return acts


@pytest.mark.parametrize("fault", [SYNC_ERROR, WRITE_ERROR], ids=lambda fault: fault.name.replace(" ", "-"))
async def test_after_an_io_error_the_file_is_opened_anew_before_anything_else_is_recorded(
    tmp_path: Path, fault: Fault
) -> None:
    with FaultyDisk(tmp_path) as disk:
        async with opened_journal(tmp_path, open_commits=OPEN) as journal:
            agent = Agent(journal, tmp_path)
            disk.fail(fault)
            await agent.work()
        story = disk.story
    failed = next(index for index, (what, _) in enumerate(story) if what.endswith("failed"))
    reopened = story.index(("open", "journal.sqlite3"), failed)
    assert ("close", "journal.sqlite3") in story[failed:reopened]
    assert ("write", "journal.sqlite3-wal") not in story[failed:reopened], "the log of which nobody knows what is there"


async def test_a_full_disk_and_a_lock_are_no_reason_to_open_the_file_anew(tmp_path: Path) -> None:
    with FaultyDisk(tmp_path) as disk:
        async with opened_journal(tmp_path, open_commits=OPEN) as journal:
            agent = Agent(journal, tmp_path)
            disk.fail(FULL, after=20)
            await agent.work()
            assert disk.struck == 1
            assert disk.story.count(("open", "journal.sqlite3")) == 1
