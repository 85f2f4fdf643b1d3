"""What the node remembers, as a port: what was accepted, what became of it, what must still be told or uploaded.

A state change and the event that tells of it are one transaction. The event *is* the transition: its payload carries
the task, the attempt and the new state; the journal gives it its `seq` (1, 2, … for each task, never anew) and its id.
Implementations: `journal_sqlite.py`; every one passes the same tests.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from muster.agent.ports import DeviceOrder, SpooledArtifact
from muster.contracts.commands import RunStart, TaskAssignment
from muster.contracts.events import (
    ArtifactStored,
    CommandAck,
    RunStarted,
    TaskFinished,
    TaskProgress,
    TaskStarted,
)
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState


class JournalError(Exception):
    """It could not be recorded (disk full, I/O error, file damaged): nothing of it has happened."""


@dataclass(frozen=True, slots=True)
class JournaledTask:
    """An open task as the journal has it. `is_stale`: the backend has called this attempt so, and it has not ended."""

    task_id: str
    run_id: str
    device_id: str
    attempt: int
    state: TaskState
    started_at_ms: int | None
    is_stale: bool


@dataclass(frozen=True, slots=True)
class LastAtPhone:
    """How a task stands of which an attempt was the last thing that began on its phone."""

    device_id: str
    state: TaskState
    failure_reason: FailureReason | None


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """An event that waits to be told; `body` is its JSON form, `size` its bytes."""

    position: int
    event_id: str
    body: dict[str, Any]
    size: int


@dataclass(frozen=True, slots=True)
class StaleAttempt:
    """The backend has handed out a higher attempt of the task than this one."""

    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """The backend refused this event for good, and said why; `stale`: for the attempt that it tells of."""

    position: int
    status: int
    message: str
    stale: StaleAttempt | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that the backend refused for good."""

    event_id: str
    body: dict[str, Any]
    status: int
    message: str


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """How many events wait, by kind."""

    facts: int
    telemetry: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.facts + self.telemetry


@dataclass(frozen=True, slots=True)
class Waiting:
    """When the oldest event of each kind that waits was recorded, epoch ms; None: none waits."""

    fact_ms: int | None
    telemetry_ms: int | None


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """What the journal can say of itself. `pictures` are those that still wait for the store.

    The last four count since it was opened; `ended` by status and reason ("" for a success).
    """

    outbox: OutboxDepth
    oldest: Waiting
    dead_letters: int
    pictures: int
    picture_bytes: int
    pictures_refused: int
    accepted: int
    retried: int
    parked: int
    ended: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class Leftover:
    """A picture still in the spool although its task has ended. `storage_path`: stored already, but not told."""

    artifact: SpooledArtifact
    storage_path: str | None


class Commands(Protocol):
    """Accepting work."""

    async def accept_run(self, start: RunStart, ack: CommandAck, started: RunStarted) -> Sequence[TaskAssignment]:
        """Records the command, the run and its tasks as queued; answers those that are to be executed.

        A known task with a higher attempt is queued anew. One that was asked to end ends here as `cancelled`.
        """
        ...

    async def refuse_command(self, ack: CommandAck, ended: Sequence[TaskFinished]) -> bool:
        """Records that the command cannot be obeyed and that each of its tasks has ended. False: known already."""
        ...

    async def accept_cancel(self, ack: CommandAck, subject: str) -> tuple[bool, Sequence[str]]:
        """Records that a run or a task is to end, also what of it comes later. (Whether it is new, its open tasks.)"""
        ...

    async def accept_order(self, ack: CommandAck, order: DeviceOrder | None) -> bool:
        """Records a command that concerns no task, and what it asks for; None: it is refused. False: known already."""
        ...

    async def open_orders(self) -> Sequence[DeviceOrder]:
        """What was asked for and has not ended, in the order of acceptance."""
        ...

    async def end_order(self, command_id: str, failed: CommandAck | None) -> None:
        """It is done, or it is not and this tells why."""
        ...

    async def cancelled_tasks(self) -> frozenset[str]:
        """Open tasks that are to end: they, or their run, were asked to."""
        ...

    async def open_runs(self) -> Sequence[RunStart]:
        """The runs with an open task, as they were accepted, oldest first."""
        ...

    async def open_tasks(self) -> Sequence[JournaledTask]:
        """Every open task, in the order of acceptance."""
        ...

    async def last_at_phones(self) -> Sequence[LastAtPhone]:
        """Of each phone the task that ended last of those that began there, and each open one that has begun."""
        ...


class TaskLedger(Protocol):
    """The life of a task. False: the task is not in a state or attempt from which this can happen; nothing was done."""

    async def begin_task(self, started: TaskStarted) -> bool:
        """`queued → running`, or `waiting → running`."""
        ...

    async def record_progress(self, progress: TaskProgress) -> None:
        """Telemetry of an open task: recorded with what is recorded next, or soon after by itself; told only then.

        Until then it is in memory, a bounded number of them: above it this call waits for the disk. What the disk
        refuses is lost. Thinned, oldest first, when the outbox holds too much of it. Raises JournalError.
        """
        ...

    async def park_task(self, waiting: TaskProgress) -> bool:
        """`queued` or `running → waiting`: its workflow has not begun, a restart takes it up like a queued one."""
        ...

    async def retry_task(self, failed: TaskProgress) -> bool:
        """Any open state `→ queued` with the next attempt's number; `failed` tells of this one's end."""
        ...

    async def end_task(self, finished: TaskFinished) -> bool:
        """The one terminal state; with the run's last open task, `run_finished` too."""
        ...

    async def fence_task(self, finished: TaskFinished) -> bool:
        """As `end_task`, but the attempt is stale: nothing is told of the task."""
        ...


class Outbox(Protocol):
    """What must be told. `news` is set after each commit that added an event."""

    @property
    def news(self) -> asyncio.Event:
        """Set by the journal, cleared by the sender."""
        ...

    async def pending(self, count_max: int, bytes_max: int, fresh_since_ms: int | None = None) -> Sequence[OutboxEvent]:
        """The oldest events, at least one if any waits; half of them may be newer ones that nothing older holds up."""
        ...

    async def settle(self, accepted: Sequence[int], refused: Sequence[Refusal]) -> None:
        """Forgets what was accepted, moves what was refused for good to the dead letters, and marks stale attempts.

        What is marked is no other's transition: whoever executes the task ends it, or the next start does.
        """
        ...

    async def depth(self) -> OutboxDepth:
        """How many events wait."""
        ...

    async def dead_letters(self, limit: int) -> Sequence[DeadLetter]:
        """The newest refused events."""
        ...


class SpoolLedger(Protocol):
    """Which pictures lie in the spool; one is named by its file's name."""

    async def spool_add(self, artifact: SpooledArtifact) -> None:
        """The picture is on the disk."""
        ...

    async def spool_bytes(self) -> int:
        """Bytes of all pictures in the spool."""
        ...

    async def spool_stored(self, name: str, storage_path: str) -> None:
        """The store has confirmed it; it is told by its task's end or later by `tell_stored`."""
        ...

    async def spool_refused(self, name: str, message: str) -> None:
        """The backend will never take it; it is not tried again."""
        ...

    async def spool_leftovers(self, limit: int) -> Sequence[Leftover]:
        """Pictures of ended tasks, oldest first, without the refused ones."""
        ...

    async def spool_names(self) -> frozenset[str]:
        """The files that the journal knows."""
        ...

    async def tell_stored(self, name: str, stored: ArtifactStored) -> bool:
        """Fact `artifact_stored`; the picture leaves the journal. False: it had left already."""
        ...


class Journal(Commands, TaskLedger, Outbox, SpoolLedger, Protocol):
    """All of it: one file."""

    @property
    def fault(self) -> str | None:
        """Why its last write failed; None when it did not."""
        ...

    async def try_again(self) -> None:
        """Writes something that changes nothing: whether the disk takes it. Raises JournalError."""
        ...

    async def prune(self, before_ms: int) -> int:
        """Forgets runs that ended before (epoch ms) and have nothing left to tell; answers how many."""
        ...

    async def figures(self) -> JournalFigures:
        """For metrics and health."""
        ...
