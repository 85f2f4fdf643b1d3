"""A run's progress for a person: a live display on a terminal, plain lines anywhere else. Both on stderr."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from muster.cli.failing import DONE, NOT_ALL_SUCCEEDED
from muster.cli.output import STATUS_STYLES, clean, console, say, short_id
from muster.client.follow import RunProgress, follow_run
from muster.client.http import MusterClient
from muster.contracts.api import RunDetail, TaskCounts, TaskView
from muster.domain.run import RunState
from muster.runtime.clock import SystemClock

if TYPE_CHECKING:
    from rich.console import RenderableType

FAILURES_SHOWN: Final = 5
_COUNTED: Final = ("succeeded", "failed", "skipped_offline", "cancelled", "running", "waiting", "queued")

Show = Callable[[RunProgress], None]


async def watch_run(client: MusterClient, run_id: str, *, quiet: bool = False) -> RunDetail:
    """Follows a run to its end, showing progress on stderr, and answers with the whole of it."""
    jitter = random.Random()  # noqa: S311 - no secret hangs on it
    with _silence() if quiet else _display() as show:
        async for progress in follow_run(client, run_id, clock=SystemClock(), rng=jitter):
            show(progress)
    return await client.run(run_id)


def exit_status(status: RunState) -> int:
    """0 when all succeeded, else 1."""
    return DONE if status is RunState.COMPLETED else NOT_ALL_SUCCEEDED


def counts_text(counts: TaskCounts) -> str:
    """`18 succeeded, 2 failed`: the states that have tasks."""
    parts = [f"{getattr(counts, state)} {state}" for state in _COUNTED if getattr(counts, state)]
    return ", ".join(parts) or "no phones"


def failure_text(task: TaskView) -> str:
    """One phone's failure on one line."""
    reason = task.failure_reason or task.status
    where = f" at {task.step_id}" if task.step_id else ""
    message = f": {task.error_message}" if task.error_message else ""
    return clean(f"{task.device_id} {reason}{where}{message}")


@contextmanager
def _silence() -> Iterator[Show]:
    yield lambda progress: None


@contextmanager
def _display() -> Iterator[Show]:
    target = console(stderr=True)
    if not target.is_terminal:
        yield PlainLines(say).show
        return
    from rich.live import Live

    with Live(console=target, refresh_per_second=8, transient=False) as live:
        yield lambda progress: live.update(_picture(progress))


class PlainLines:
    """A line whenever the number of finished phones changes, each failure once, each new trouble once."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last_line = ""
        self._told: set[str] = set()
        self._trouble: str | None = None

    def show(self, progress: RunProgress) -> None:
        """Writes what is new."""
        if progress.trouble != self._trouble:
            self._trouble = progress.trouble
            self._write(f"waiting for the backend: {progress.trouble}" if progress.trouble else "connected again")
        if progress.run is None:
            return
        for task in reversed(progress.failures()):
            if task.task_id not in self._told:
                self._told.add(task.task_id)
                self._write(failure_text(task))
        counts = progress.run.counts
        line = f"run {short_id(progress.run.run_id)} {progress.run.status}: {counts.finished}/{counts.total} finished"
        if line != self._last_line:
            self._last_line = line
            self._write(f"{line} ({counts_text(counts)})")


def _picture(progress: RunProgress) -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if progress.run is None:
        return Text(clean(progress.trouble or "connecting…"), style="yellow")
    counts = progress.run.counts
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(progress.run.workflow_id, style="bold"),
        Text(short_id(progress.run.run_id), style="dim"),
        Text(progress.run.status, style=STATUS_STYLES.get(progress.run.status, "")),
    )
    bar = Table.grid(padding=(0, 1))
    done = ProgressBar(max(counts.total, 1), counts.finished, 40, complete_style="green", finished_style="green")
    bar.add_row(done, f"{counts.finished}/{counts.total}")
    tally = Text("  ").join(
        Text(f"{getattr(counts, state)} {state}", style=STATUS_STYLES.get(state, ""))
        for state in _COUNTED
        if getattr(counts, state)
    )
    lines = [Text(failure_text(task), style="red", no_wrap=True, overflow="ellipsis") for task in progress.failures()]
    trouble = [Text(f"waiting for the backend: {clean(progress.trouble)}", style="yellow")] if progress.trouble else []
    return Group(head, bar, tally, *lines[:FAILURES_SHOWN], *trouble)
