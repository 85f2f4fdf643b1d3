"""The journal in one SQLite file (WAL, synchronous=FULL), all of it through one group-committing thread.

The progress of steps gets no commit of its own: it is noted, and goes with what is recorded next (docs/adr/0025).
Without a thread and in memory, it is the journal of the simulated world: the statements are the same.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from muster.agent import journal_counts as counts
from muster.agent import journal_orders as orders
from muster.agent import journal_pictures as pictures
from muster.agent import journal_tables as tables
from muster.agent.group_commit import Commits, GroupCommit, OpenCommits, Work
from muster.agent.journal import (
    DeadLetter,
    JournaledTask,
    JournalError,
    JournalFigures,
    LastAtPhone,
    Leftover,
    OutboxDepth,
    OutboxEvent,
    Refusal,
)
from muster.agent.narrate import cancelled_before
from muster.agent.ports import DeviceOrder, SpooledArtifact
from muster.contracts.commands import RunStart, TaskAssignment
from muster.contracts.events import (
    ArtifactStored,
    CommandAck,
    Payload,
    RunStarted,
    TaskFinished,
    TaskProgress,
    TaskStarted,
)
from muster.domain.limits import (
    JOURNAL_PROGRESS_WAIT_MS,
    JOURNAL_PROGRESS_WAITING_MAX,
    OUTBOX_TELEMETRY_EVENTS_MAX,
)
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger

log = get_logger()
T = TypeVar("T")


class SqliteJournal:
    """`async with` it. `new_id` is called on the writer thread only, so give it a source of its own."""

    def __init__(
        self,
        path: Path,
        *,
        new_id: NewId,
        spool_folder: Path,
        telemetry_max: int = OUTBOX_TELEMETRY_EVENTS_MAX,
        open_commits: OpenCommits = GroupCommit,
    ) -> None:
        self.news = asyncio.Event()
        # Why the last write failed; None when it did not.
        self.fault: str | None = None
        self._new_id = new_id
        self._spool_folder = spool_folder
        self._telemetry_max = telemetry_max
        self._told = False
        self._noted: list[TaskProgress] = []
        self._noted_is_due: asyncio.TimerHandle | None = None
        self._recording_noted: asyncio.Task[None] | None = None
        self._commits: Commits = open_commits(path, _prepare, self._after_commit)

    async def __aenter__(self) -> "SqliteJournal":
        await self._commits.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._noted:
            await self._record_noted()
        await self._commits.close()
        if self._recording_noted is not None:
            await self._recording_noted

    # ---- accepting work ----------------------------------------------------------------------------------------------

    async def accept_run(self, start: RunStart, ack: CommandAck, started: RunStarted) -> Sequence[TaskAssignment]:
        """See `Commands`. A command known already is acknowledged again unless its acknowledgement still waits."""

        def work(connection: sqlite3.Connection) -> list[TaskAssignment]:
            if not tables.add_command(connection, ack):
                self._acknowledge_again(connection, ack)
                return []
            self._tell(connection, ack, ack.command_id)
            tables.add_run(connection, start, started.timestamp)
            new = [
                task
                for task in start.tasks
                if tables.add_task(connection, start.run_id, task) or tables.renew_task(connection, task)
            ]
            if new:
                self._tell(connection, started, start.run_id)
            wanted = tables.cancelled_tasks(connection)
            for task in new:
                if task.task_id in wanted:
                    self._end_task(connection, cancelled_before(started, task))
            return [task for task in new if task.task_id not in wanted]

        return await self._write(work)

    async def refuse_command(self, ack: CommandAck, ended: Sequence[TaskFinished]) -> bool:
        """See `Commands`."""

        def work(connection: sqlite3.Connection) -> bool:
            if not tables.add_command(connection, ack):
                self._acknowledge_again(connection, ack)
                return False
            self._tell(connection, ack, ack.command_id)
            # All of them first, or the run would be finished with the first one's end.
            new = [task for task in ended if tables.add_task(connection, task.run_id, _assignment(task))]
            for finished in new:
                self._end_task(connection, finished)
            return True

        return await self._write(work)

    async def accept_cancel(self, ack: CommandAck, subject: str) -> tuple[bool, Sequence[str]]:
        """See `Commands`."""

        def work(connection: sqlite3.Connection) -> tuple[bool, Sequence[str]]:
            is_new = self._add_order(connection, ack)
            if is_new:
                tables.add_cancellation(connection, subject, ack.timestamp)
            return is_new, tables.open_tasks_of(connection, subject)

        return await self._write(work)

    async def accept_order(self, ack: CommandAck, order: DeviceOrder | None) -> bool:
        """See `Commands`."""

        def work(connection: sqlite3.Connection) -> bool:
            is_new = self._add_order(connection, ack)
            if is_new and order is not None:
                orders.add(connection, order)
            return is_new

        return await self._write(work)

    async def open_orders(self) -> Sequence[DeviceOrder]:
        """See `Commands`."""
        return await self._read(orders.all_open)

    async def end_order(self, command_id: str, failed: CommandAck | None) -> None:
        """See `Commands`."""

        def work(connection: sqlite3.Connection) -> None:
            if orders.end(connection, command_id) and failed is not None:
                self._tell(connection, failed, command_id)

        await self._write(work)

    async def cancelled_tasks(self) -> frozenset[str]:
        """See `Commands`."""
        return await self._read(tables.cancelled_tasks)

    async def open_runs(self) -> Sequence[RunStart]:
        """See `Commands`."""
        return await self._read(tables.open_runs)

    async def open_tasks(self) -> Sequence[JournaledTask]:
        """See `Commands`."""
        return await self._read(tables.open_tasks)

    async def last_at_phones(self) -> Sequence[LastAtPhone]:
        """See `Commands`."""
        return await self._read(tables.last_at_phones)

    # ---- the life of a task ------------------------------------------------------------------------------------------

    async def begin_task(self, started: TaskStarted) -> bool:
        """See `TaskLedger`."""

        def work(connection: sqlite3.Connection) -> bool:
            seq = tables.begin(connection, started)
            if seq is not None:
                self._tell(connection, started.model_copy(update={"seq": seq}), started.task_id)
            return seq is not None

        return await self._write(work)

    async def record_progress(self, progress: TaskProgress) -> None:
        """See `TaskLedger`. Whoever looks at the outbox next takes it along, so the outbox is told of it at once."""
        self._noted.append(progress)
        self.news.set()
        if len(self._noted) >= JOURNAL_PROGRESS_WAITING_MAX:
            await self._write(_nothing)
        elif self._noted_is_due is None:
            loop = asyncio.get_running_loop()
            self._noted_is_due = loop.call_later(JOURNAL_PROGRESS_WAIT_MS / 1000, self._begin_to_record_noted)

    async def park_task(self, waiting: TaskProgress) -> bool:
        """See `TaskLedger`."""
        return await self._move(tables.park, waiting)

    async def retry_task(self, failed: TaskProgress) -> bool:
        """See `TaskLedger`."""
        return await self._move(tables.retry, failed)

    async def _move(self, move: Callable[[sqlite3.Connection, TaskProgress], int | None], told: TaskProgress) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            seq = move(connection, told)
            if seq is not None:
                self._tell(connection, told.model_copy(update={"seq": seq}), told.task_id)
            return seq is not None

        return await self._write(work)

    async def end_task(self, finished: TaskFinished) -> bool:
        """See `TaskLedger`."""
        return await self._write(lambda connection: self._end_task(connection, finished))

    async def fence_task(self, finished: TaskFinished) -> bool:
        """See `TaskLedger`."""
        return await self._write(lambda connection: self._end_task(connection, finished, is_told=False))

    def _end_task(self, connection: sqlite3.Connection, finished: TaskFinished, *, is_told: bool = True) -> bool:
        seq = tables.end(connection, finished, takes_seq=is_told)
        if seq is None:
            return False
        if is_told:
            self._tell(connection, finished.model_copy(update={"seq": seq}), finished.task_id)
        if finished.artifact is not None:
            pictures.drop_told(connection, finished.task_id, finished.artifact.storage_path)
        over = tables.finish_run_if_over(connection, finished)
        if over is not None:
            self._tell(connection, over, over.run_id)
        return True

    # ---- outbox ------------------------------------------------------------------------------------------------------

    async def pending(self, count_max: int, bytes_max: int, fresh_since_ms: int | None = None) -> Sequence[OutboxEvent]:
        """See `Outbox`."""

        def work(connection: sqlite3.Connection) -> Sequence[OutboxEvent]:
            return tables.pending(connection, count_max, bytes_max, fresh_since_ms)

        if self._noted:
            # A disk that takes nothing more can still be read.
            with contextlib.suppress(JournalError):
                return await self._write(work)
        return await self._read(work)

    async def settle(self, accepted: Sequence[int], refused: Sequence[Refusal]) -> None:
        """See `Outbox`."""
        await self._write(lambda connection: tables.settle(connection, accepted, refused))

    async def depth(self) -> OutboxDepth:
        """See `Outbox`. What is noted waits to be told as well."""
        noted, depth = len(self._noted), await self._read(tables.depth)
        return replace(depth, telemetry=depth.telemetry + noted)

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        """See `Outbox`."""
        return await self._read(lambda connection: tables.dead_letters(connection, limit))

    # ---- spool -------------------------------------------------------------------------------------------------------

    async def spool_add(self, artifact: SpooledArtifact) -> None:
        """See `SpoolLedger`."""
        await self._write(lambda connection: pictures.add(connection, artifact))

    async def spool_bytes(self) -> int:
        """See `SpoolLedger`."""
        return await self._read(pictures.total_bytes)

    async def spool_stored(self, name: str, storage_path: str) -> None:
        """See `SpoolLedger`."""
        await self._write(lambda connection: pictures.mark_stored(connection, name, storage_path))

    async def spool_refused(self, name: str, message: str) -> None:
        """See `SpoolLedger`."""
        await self._write(lambda connection: pictures.mark_refused(connection, name, message))

    async def spool_leftovers(self, limit: int) -> Sequence[Leftover]:
        """See `SpoolLedger`."""
        return await self._read(lambda connection: pictures.leftovers(connection, self._spool_folder, limit))

    async def spool_names(self) -> frozenset[str]:
        """See `SpoolLedger`."""
        return await self._read(pictures.names)

    async def tell_stored(self, name: str, stored: ArtifactStored) -> bool:
        """See `SpoolLedger`."""

        def work(connection: sqlite3.Connection) -> bool:
            if not pictures.drop(connection, name):
                return False
            seq = tables.next_seq(connection, stored.task_id)
            self._tell(connection, stored.model_copy(update={"seq": seq}), stored.task_id)
            return True

        return await self._write(work)

    # ---- upkeep ------------------------------------------------------------------------------------------------------

    async def prune(self, before_ms: int) -> int:
        """See `Journal`."""
        return await self._write(lambda connection: tables.prune(connection, before_ms))

    async def figures(self) -> JournalFigures:
        """See `Journal`."""
        return await self._read(counts.figures)

    async def try_again(self) -> None:
        """See `Journal`."""
        await self._write(tables.touch)

    async def _write(self, work: Work[T]) -> T:
        """What is noted goes first, in the same transaction: so the events of a task stay in their order."""
        noted = self._take_noted()
        try:
            result = await self._read(self._after(noted, work) if noted else work)
        except JournalError as error:
            if noted:
                log.warning("Progress of steps is not recorded", events=len(noted), error=str(error))
            raise
        self.fault = None
        return result

    async def _read(self, work: Work[T]) -> T:
        """A full disk can be read: that proves nothing of writing."""
        try:
            return await self._commits.run(work)
        except JournalError as error:
            self.fault = str(error)
            raise

    # ---- what is noted -----------------------------------------------------------------------------------------------

    def _take_noted(self) -> list[TaskProgress]:
        if self._noted_is_due is not None:
            self._noted_is_due.cancel()
            self._noted_is_due = None
        noted, self._noted = self._noted, []
        return noted

    def _begin_to_record_noted(self) -> None:
        """Nothing else was recorded meanwhile."""
        self._noted_is_due = None
        self._recording_noted = asyncio.get_running_loop().create_task(self._record_noted(), name="record progress")

    async def _record_noted(self) -> None:
        # That it failed is logged, and shown by `fault`.
        with contextlib.suppress(JournalError):
            await self._write(_nothing)

    def _after(self, noted: Sequence[TaskProgress], work: Work[T]) -> Work[T]:
        def both(connection: sqlite3.Connection) -> T:
            self._tell_noted(connection, noted)
            return work(connection)

        return both

    def _tell_noted(self, connection: sqlite3.Connection, noted: Sequence[TaskProgress]) -> None:
        try:
            for progress in noted:
                seq = tables.seq_of_open(connection, progress.task_id, progress.attempt)
                if seq is not None:
                    self._tell(connection, progress.model_copy(update={"seq": seq}), progress.task_id)
            tables.thin_telemetry(connection, self._telemetry_max)
        except sqlite3.Error:
            raise
        except Exception as error:
            # A bug here must not pass for one of whatever took it along, which is done again without it.
            raise JournalError(f"progress cannot be recorded: {type(error).__name__}: {error}") from error

    # ---- telling (on the writer thread, inside the transaction of what is told) --------------------------------------

    def _tell(self, connection: sqlite3.Connection, payload: Payload, subject: str) -> None:
        tables.add_event(connection, self._new_id(), payload, subject)
        self._told = True

    def _add_order(self, connection: sqlite3.Connection, ack: CommandAck) -> bool:
        is_new = tables.add_command(connection, ack)
        if is_new:
            self._tell(connection, ack, ack.command_id)
        else:
            # Whether it could be obeyed was said when it was new: meanwhile its own task runs, or the like.
            self._acknowledge_again(connection, ack.model_copy(update={"error_message": None}))
        return is_new

    def _acknowledge_again(self, connection: sqlite3.Connection, ack: CommandAck) -> None:
        if not tables.is_pending(connection, ack.command_id):
            self._tell(connection, ack, ack.command_id)

    def _after_commit(self) -> None:
        # A write that was rolled back leaves the flag up: one look at the outbox too many, never one too few.
        if self._told:
            self._told = False
            self.news.set()


def _nothing(_connection: sqlite3.Connection) -> None:
    """Only what is noted."""


def _prepare(connection: sqlite3.Connection) -> None:
    tables.prepare(connection)
    counts.prepare(connection)


def _assignment(finished: TaskFinished) -> TaskAssignment:
    return TaskAssignment(task_id=finished.task_id, device_id=finished.device_id, attempt=finished.attempt)
