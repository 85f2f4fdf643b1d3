"""Parts that do what the parts they hold do, and count it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from prometheus_client import Counter, Histogram

from muster.agent.group_commit import Commits, Work
from muster.agent.journal import JournalError
from muster.agent.link import BackendLink, LinkError, LinkRefused, is_final_refusal, is_unauthorized
from muster.agent.observe.instruments import Instruments
from muster.agent.ports import Executor, NotReady, Reporter, StepProgress, Task, TaskOutcome
from muster.contracts.api import UploadRequest, UploadTicket
from muster.contracts.commands import PullAnswer
from muster.contracts.events import CallbackAnswer, EventVerdict
from muster.domain.task import StepState
from muster.runtime.clock import Clock

T = TypeVar("T")
_TRIED = (StepState.COMPLETED, StepState.FAILED)


class ObservedExecutor:
    """`ports.Executor`: how long the tries of steps took."""

    def __init__(self, executor: Executor, instruments: Instruments) -> None:
        self._executor = executor
        self._instruments = instruments

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:
        """See `Executor`."""
        return await self._executor.execute(task, _ObservedReporter(task, report, self._instruments))


class _ObservedReporter:
    def __init__(self, task: Task, report: Reporter, instruments: Instruments) -> None:
        self._task = task
        self._report = report
        self._instruments = instruments

    async def started(self, runtime_handle: str) -> None:
        await self._report.started(runtime_handle)

    async def progress(self, step: StepProgress) -> None:
        if step.status in _TRIED and step.duration_ms is not None:
            kind = self._task.run.recipe.steps[step.step_index].kind
            self._instruments.step_seconds.labels(kind, step.status.value).observe(step.duration_ms / 1000)
        await self._report.progress(step)


class ObservedCommits:
    """`group_commit.Commits`: how long the journal takes, and how often it fails."""

    def __init__(self, commits: Commits, instruments: Instruments, clock: Clock) -> None:
        self._commits = commits
        self._instruments = instruments
        self._clock = clock

    async def open(self) -> None:
        """See `Commits`."""
        await self._commits.open()

    async def close(self) -> None:
        """See `Commits`."""
        await self._commits.close()

    async def run(self, work: Work[T]) -> T:
        """See `Commits`."""
        began = self._clock.monotonic()
        try:
            result = await self._commits.run(work)
        except JournalError:
            self._instruments.journal_failures.inc()
            raise
        self._instruments.journal_seconds.observe(self._clock.monotonic() - began)
        return result


@dataclass
class LinkState:
    """How the backend does. `answered_at`: monotonic seconds of its last answer, whatever it was.

    `refused`: the status with which it turned away each kind of call, until it takes one of them again.
    `clock_skew_ms`: how far this PC's clock was ahead of the backend's at the last poll.
    """

    answered_at: float
    pulled_at_ms: int | None = None
    clock_skew_ms: int | None = None
    refused: dict[str, int] = field(default_factory=dict)


class NodeLink(BackendLink, Protocol):
    """The backend, and saying good-bye to it."""

    async def leave(self) -> None:
        """See `composition.NodeLink`."""
        ...


class ObservedLink:
    """`composition.NodeLink`: what came of each call, and what the backend's answers say of its clock."""

    def __init__(self, link: NodeLink, instruments: Instruments, state: LinkState, clock: Clock) -> None:
        self._link = link
        self._instruments = instruments
        self._state = state
        self._clock = clock

    async def pull(self, wait_ms: int) -> PullAnswer:
        """See `BackendLink`."""
        async with self._counted("pull", self._instruments.pulls, self._instruments.pull_seconds):
            answer = await self._link.pull(wait_ms)
        self._state.pulled_at_ms = now_ms = self._clock.now_ms()
        if answer.now is not None:
            self._state.clock_skew_ms = now_ms - answer.now
        return answer

    async def leave(self) -> None:
        """See `composition.NodeLink`."""
        await self._link.leave()

    async def callback(self, events: Sequence[dict[str, Any]]) -> CallbackAnswer:
        """See `BackendLink`."""
        async with self._counted("callback", self._instruments.deliveries, self._instruments.delivery_seconds):
            answer = await self._link.callback(events)
        for verdict in answer.results or ():
            self._instruments.events.labels(_name(verdict)).inc()
        return answer

    async def request_upload(self, request: UploadRequest) -> UploadTicket:
        """See `BackendLink`."""
        return await self._link.request_upload(request)

    async def put_object(self, ticket: UploadTicket, path: Path) -> None:
        """See `BackendLink`."""
        size = (await asyncio.to_thread(path.stat)).st_size
        # Not the backend's own answer: the store may be elsewhere.
        async with self._counted(None, self._instruments.uploads, self._instruments.upload_seconds):
            await self._link.put_object(ticket, path)
        self._instruments.upload_bytes.inc(size)

    @asynccontextmanager
    async def _counted(self, call: str | None, results: Counter, durations: Histogram) -> AsyncIterator[None]:
        began, result = self._clock.monotonic(), "cut_off"
        try:
            yield
            result = "ok"
            durations.observe(self._clock.monotonic() - began)
        except LinkRefused as error:
            result = "unauthorized" if is_unauthorized(error.status) else "refused"
            self._answered(call, error.status)
            raise
        except LinkError:
            result = "unreachable"
            raise
        finally:
            results.labels(result).inc()
        self._answered(call, None)

    def _answered(self, call: str | None, refused: int | None) -> None:
        if call is None:
            return
        self._state.answered_at = self._clock.monotonic()
        if refused is None:
            self._state.refused.pop(call, None)
        else:
            self._state.refused[call] = refused


def _name(verdict: EventVerdict) -> str:
    if verdict.ok:
        return "duplicate" if verdict.duplicate else "accepted"
    return "refused" if is_final_refusal(verdict.status) else "later"
