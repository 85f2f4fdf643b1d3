"""What the agent's journal and the backend's database hold, read from outside, whoever died a moment ago."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPEN = ("queued", "running", "waiting")


@dataclass(frozen=True)
class TaskRow:
    """A task as one side has it. `seqs`: the numbers of its events, recorded (journal) or received (backend)."""

    run_id: str
    device_id: str
    state: str
    attempt: int
    reason: str | None
    seqs: tuple[int, ...]

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


@dataclass(frozen=True)
class Picture:
    """One that lies in the agent's spool; `storage_path` when the store has it already."""

    task_id: str
    sha256: str
    size: int
    storage_path: str | None


@dataclass(frozen=True)
class JournalView:
    """`outbox`: the events that wait, by id. `told`: ids of all run and command facts is not kept: they leave it."""

    tasks: dict[str, TaskRow]
    outbox: dict[str, dict[str, Any]]
    spool: dict[str, Picture]
    dead_letters: list[str]
    open_runs: list[str]


@dataclass(frozen=True)
class BackendView:
    """`events`: type by id. `stale`: ids of events that spoke of an attempt that was over."""

    tasks: dict[str, TaskRow]
    events: dict[str, str]
    stale: list[str]
    artifacts: dict[tuple[str, str], dict[str, Any]]
    runs: dict[str, str]
    open_commands: list[str]


def read_journal(path: Path) -> JournalView:
    """Read-only: what a kill left is looked at, not repaired. Before the first start there is nothing."""
    if not path.exists():
        return JournalView({}, {}, {}, [], [])
    with _reading(path) as rows:
        if not rows("SELECT 1 FROM sqlite_master WHERE name = 'outbox'"):
            return JournalView({}, {}, {}, [], [])
        tasks = rows("SELECT task_id, run_id, device_id, state, attempt, failure_reason, next_seq FROM tasks")
        return JournalView(
            tasks={task: _task_row(told, range(1, next_seq)) for task, *told, next_seq in tasks},
            outbox={event: json.loads(body) for event, body in rows("SELECT event_id, body FROM outbox")},
            spool={
                name: Picture(*told)
                for name, *told in rows("SELECT name, task_id, sha256, size, storage_path FROM spool")
            },
            dead_letters=[f"{status} {why}: {body}" for status, why, body in rows(
                "SELECT status, message, body FROM dead_letters")],
            open_runs=[run for (run,) in rows("SELECT run_id FROM runs WHERE ended_at_ms IS NULL")],
        )  # fmt: skip


def read_backend(path: Path) -> BackendView:
    """In one transaction, so that a living backend shows one moment."""
    with _reading(path) as rows:
        seqs: dict[str, list[int]] = {}
        for task, seq in rows("SELECT task_id, seq FROM callback_events WHERE task_id IS NOT NULL ORDER BY seq"):
            seqs.setdefault(task, []).append(seq)
        tasks = rows("SELECT task_id, run_id, device_id, status, attempt, failure_reason FROM device_tasks")
        artifacts = rows("SELECT task_id, sha256, size, storage_path, stored_at FROM artifacts")
        return BackendView(
            tasks={task: _task_row(told, seqs.get(task, ())) for task, *told in tasks},
            events=dict(rows("SELECT event_id, type FROM callback_events")),
            stale=[event for (event,) in rows("SELECT event_id FROM callback_events WHERE stale")],
            artifacts={
                (task, sha256): {"size": size, "path": place, "stored": stored is not None}
                for task, sha256, size, place, stored in artifacts
            },
            runs=dict(rows("SELECT run_id, status FROM runs")),
            open_commands=[command for (command,) in rows(
                # The start of a run that is stopped before its node asks for it is withdrawn, and says so.
                "SELECT command_id FROM node_commands WHERE acked_at IS NULL OR (error_message IS NOT NULL"
                " AND run_id NOT IN (SELECT run_id FROM runs WHERE status = 'stopped'))")],
        )  # fmt: skip


def _task_row(told: Sequence[Any], seqs: Iterable[int]) -> TaskRow:
    run_id, device_id, state, attempt, reason = told
    return TaskRow(run_id, device_id, state, attempt, reason, tuple(seqs))


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield lambda statement: connection.execute(statement).fetchall()
