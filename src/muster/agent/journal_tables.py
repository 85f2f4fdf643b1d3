"""The journal's tables and each statement on them. Runs on the writer thread, inside a transaction of the caller's."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from muster.agent.journal import (
    DeadLetter,
    JournaledTask,
    JournalError,
    LastAtPhone,
    OutboxDepth,
    OutboxEvent,
    Refusal,
    StaleAttempt,
)
from muster.contracts.commands import RunStart, TaskAssignment
from muster.contracts.events import (
    TELEMETRY,
    CommandAck,
    EventType,
    Payload,
    RunFinished,
    RunSummary,
    TaskFinished,
    TaskPayload,
    TaskProgress,
    TaskStarted,
    envelope,
)
from muster.domain.failure import FailureReason
from muster.domain.limits import DEAD_LETTERS_MAX
from muster.domain.task import OPEN_TASK_STATES, SOURCES, TaskState

Connection = sqlite3.Connection

SCHEMA_VERSION = 4
# AUTOINCREMENT: a position is never used again, so the order of `position` is the order of recording for ever.
# The counts are kept by triggers, in the transaction itself: counting a backlog of days would read all of it.
SCHEMA = """
CREATE TABLE commands (command_id TEXT PRIMARY KEY, received_at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    position INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL UNIQUE, command_id TEXT NOT NULL,
    document TEXT NOT NULL, accepted_at_ms INTEGER NOT NULL, ended_at_ms INTEGER);
CREATE TABLE tasks (
    position INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL UNIQUE, run_id TEXT NOT NULL,
    device_id TEXT NOT NULL, attempt INTEGER NOT NULL, state TEXT NOT NULL, next_seq INTEGER NOT NULL DEFAULT 1,
    failure_reason TEXT, started_at_ms INTEGER, ended_at_ms INTEGER);
CREATE INDEX tasks_by_run ON tasks (run_id);
CREATE INDEX tasks_open ON tasks (position) WHERE state IN ('queued', 'running', 'waiting');
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, subject TEXT NOT NULL,
    fact INTEGER NOT NULL, created_at_ms INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX outbox_by_subject ON outbox (subject);
CREATE INDEX outbox_telemetry ON outbox (position) WHERE fact = 0;
CREATE TABLE outbox_depth (fact INTEGER PRIMARY KEY, events INTEGER NOT NULL);
INSERT INTO outbox_depth VALUES (0, 0), (1, 0);
CREATE TRIGGER outbox_grows AFTER INSERT ON outbox BEGIN
    UPDATE outbox_depth SET events = events + 1 WHERE fact = new.fact; END;
CREATE TRIGGER outbox_shrinks AFTER DELETE ON outbox BEGIN
    UPDATE outbox_depth SET events = events - 1 WHERE fact = old.fact; END;
CREATE TABLE dead_letters (
    position INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, status INTEGER NOT NULL,
    message TEXT NOT NULL);
CREATE TABLE spool (
    name TEXT PRIMARY KEY, task_id TEXT NOT NULL, run_id TEXT NOT NULL, device_id TEXT NOT NULL,
    attempt INTEGER NOT NULL, step_id TEXT NOT NULL, taken_at_ms INTEGER NOT NULL, sha256 TEXT NOT NULL,
    size INTEGER NOT NULL, storage_path TEXT, refused TEXT);
CREATE INDEX spool_by_task ON spool (task_id);
"""
# Version 2: what was asked to end (a run or a task), and the way to the newest facts past a long backlog.
ADDED_BY_2 = """
CREATE TABLE cancellations (subject TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX outbox_by_time ON outbox (created_at_ms);
"""
# Version 3: the highest attempt of a task that the backend has called stale.
ADDED_BY_3 = "ALTER TABLE tasks ADD COLUMN stale_attempt INTEGER NOT NULL DEFAULT 0;"
# Version 4: what was asked of phones and is not done (journal_orders.py).
ADDED_BY_4 = """
CREATE TABLE orders (
    position INTEGER PRIMARY KEY AUTOINCREMENT, command_id TEXT NOT NULL UNIQUE, device_id TEXT NOT NULL,
    action TEXT NOT NULL, owner TEXT, reason TEXT, minutes INTEGER, taken_at_ms INTEGER NOT NULL);
"""


def prepare(connection: Connection) -> None:
    """Makes the tables in a new file. Raises JournalError for a file of a newer version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"it was written by a newer muster (version {version} of the file, known is {SCHEMA_VERSION})"
        )
    steps = (SCHEMA, ADDED_BY_2, ADDED_BY_3, ADDED_BY_4)[version:]
    if steps:
        connection.executescript(f"BEGIN; {''.join(steps)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


def _places(values: Iterable[object]) -> str:
    return ", ".join("?" for _ in values)


def _changed(connection: Connection, statement: str, values: Sequence[Any]) -> bool:
    return connection.execute(statement, values).rowcount > 0


def _returned(connection: Connection, statement: str, values: Sequence[Any]) -> Any:
    """The one value that the statement returns, None when it touched no row."""
    rows = connection.execute(statement, values).fetchall()
    return rows[0][0] if rows else None


# ---- accepting work --------------------------------------------------------------------------------------------------


def add_command(connection: Connection, ack: CommandAck) -> bool:
    """False: the command is known."""
    return _changed(connection, "INSERT OR IGNORE INTO commands VALUES (?, ?)", (ack.command_id, ack.timestamp))


def add_run(connection: Connection, start: RunStart, at_ms: int) -> None:
    """A run that is known under another command keeps its first document."""
    document = start.model_dump_json(by_alias=True, exclude={"tasks"})
    connection.execute(
        "INSERT OR IGNORE INTO runs (run_id, command_id, document, accepted_at_ms) VALUES (?, ?, ?, ?)",
        (start.run_id, start.command_id, document, at_ms),
    )


def add_task(connection: Connection, run_id: str, task: TaskAssignment) -> bool:
    """False: the task is known."""
    return _changed(
        connection,
        "INSERT OR IGNORE INTO tasks (task_id, run_id, device_id, attempt, state) VALUES (?, ?, ?, ?, ?)",
        (task.task_id, run_id, task.device_id, task.attempt, TaskState.QUEUED),
    )


def renew_task(connection: Connection, task: TaskAssignment) -> bool:
    """The task is known and handed out again with a higher attempt: queued anew; its seq goes on."""
    return _changed(
        connection,
        "UPDATE tasks SET state = ?, attempt = ?, failure_reason = NULL, started_at_ms = NULL, ended_at_ms = NULL"
        " WHERE task_id = ? AND attempt < ?",
        (TaskState.QUEUED, task.attempt, task.task_id, task.attempt),
    )


def add_cancellation(connection: Connection, subject: str, at_ms: int) -> None:
    """`subject`: a run or a task; ids of both kinds are UUIDs and never meet."""
    connection.execute("INSERT OR IGNORE INTO cancellations VALUES (?, ?)", (subject, at_ms))


def open_tasks_of(connection: Connection, subject: str) -> list[str]:
    """Open tasks of a run, or the one task if it is open, in the order of acceptance."""
    rows = connection.execute(
        "SELECT task_id FROM tasks WHERE (run_id = ? OR task_id = ?)"
        " AND state IN ('queued', 'running', 'waiting') ORDER BY position",
        (subject, subject),
    )
    return [task_id for (task_id,) in rows]


def cancelled_tasks(connection: Connection) -> frozenset[str]:
    """Open tasks that were asked to end."""
    rows = connection.execute(
        "SELECT task_id FROM tasks WHERE state IN ('queued', 'running', 'waiting')"
        " AND (run_id IN (SELECT subject FROM cancellations) OR task_id IN (SELECT subject FROM cancellations))"
    )
    return frozenset(task_id for (task_id,) in rows)


def open_runs(connection: Connection) -> list[RunStart]:
    """Each with no tasks: those are in `open_tasks`."""
    rows = connection.execute(
        "SELECT document FROM runs WHERE run_id IN (SELECT DISTINCT run_id FROM tasks"
        " WHERE state IN ('queued', 'running', 'waiting')) ORDER BY position"
    )
    return [RunStart.model_validate({**json.loads(document), "tasks": []}) for (document,) in rows]


def open_tasks(connection: Connection) -> list[JournaledTask]:
    """In the order of acceptance."""
    rows = connection.execute(
        "SELECT task_id, run_id, device_id, attempt, state, started_at_ms, attempt <= stale_attempt FROM tasks"
        " WHERE state IN ('queued', 'running', 'waiting') ORDER BY position"
    )
    return [JournaledTask(t, r, d, n, TaskState(state), at, bool(stale)) for t, r, d, n, state, at, stale in rows]


def last_at_phones(connection: Connection) -> list[LastAtPhone]:
    """A higher attempt than the first: an earlier one has begun, and was cut off.

    So that is how a task counts whose last attempt ended before it began anything.
    """
    rows = connection.execute(
        "SELECT device_id, state, failure_reason FROM"
        " (SELECT device_id, failure_reason,"
        "  CASE WHEN started_at_ms IS NULL OR state = 'skipped_offline' THEN 'cancelled' ELSE state END AS state,"
        "  ROW_NUMBER() OVER (PARTITION BY device_id ORDER BY ended_at_ms DESC, position DESC) AS back FROM tasks"
        "  WHERE ended_at_ms IS NOT NULL"
        "  AND (attempt > 1 OR (started_at_ms IS NOT NULL AND state <> 'skipped_offline'))) WHERE back = 1"
        " UNION ALL SELECT device_id, state, failure_reason FROM tasks"
        " WHERE state = 'running' OR (state IN ('queued', 'waiting') AND attempt > 1)"
    )
    return [LastAtPhone(d, TaskState(state), FailureReason(why) if why else None) for d, state, why in rows]


# ---- the life of a task: one conditional UPDATE for each transition --------------------------------------------------


def begin(connection: Connection, started: TaskStarted) -> int | None:
    """`queued` or `waiting → running`. Answers the event's seq, None when the task is not there to begin."""
    return _move(
        connection,
        started,
        (TaskState.QUEUED, TaskState.WAITING),
        "state = ?, started_at_ms = COALESCE(started_at_ms, ?)",
        (TaskState.RUNNING, started.timestamp),
    )


def park(connection: Connection, waiting: TaskProgress) -> int | None:
    """`queued` or `running → waiting`; a parked one that was taken up in vain stays so, with a new time."""
    sources = SOURCES[TaskState.WAITING] | {TaskState.WAITING}
    return _move(connection, waiting, sources, "state = ?", (TaskState.WAITING,))


def retry(connection: Connection, failed: TaskProgress) -> int | None:
    """Open → `queued` with the next attempt's number."""
    columns = "state = ?, attempt = attempt + 1, started_at_ms = NULL"
    return _move(connection, failed, OPEN_TASK_STATES, columns, (TaskState.QUEUED,))


def _move(
    connection: Connection, told: TaskPayload, sources: Collection[TaskState], columns: str, values: Sequence[Any]
) -> int | None:
    """One transition of this attempt and the seq of what tells of it, None when it may not be made from where it is."""
    states = sorted(sources)
    seq: int | None = _returned(
        connection,
        f"UPDATE tasks SET {columns}, next_seq = next_seq + 1"  # noqa: S608 - this module's own words
        f" WHERE task_id = ? AND attempt = ? AND state IN ({_places(states)}) RETURNING next_seq - 1",
        (*values, told.task_id, told.attempt, *states),
    )
    return seq


def seq_of_open(connection: Connection, task_id: str, attempt: int) -> int | None:
    """The seq for telemetry of an open task, None when it is over."""
    states = sorted(OPEN_TASK_STATES)
    seq: int | None = _returned(
        connection,
        "UPDATE tasks SET next_seq = next_seq + 1 WHERE task_id = ? AND attempt = ?"  # noqa: S608 - this module's own words
        f" AND state IN ({_places(states)}) RETURNING next_seq - 1",
        (task_id, attempt, *states),
    )
    return seq


def end(connection: Connection, finished: TaskFinished, *, takes_seq: bool = True) -> int | None:
    """Into its terminal state. Answers the event's seq, None when it may not get there from where it is."""
    seq = _move(
        connection,
        finished,
        SOURCES[finished.status],
        "state = ?, failure_reason = ?, ended_at_ms = ?",
        (finished.status, finished.failure_reason, finished.timestamp),
    )
    if seq is not None and not takes_seq:
        connection.execute("UPDATE tasks SET next_seq = next_seq - 1 WHERE task_id = ?", (finished.task_id,))
    return seq


def next_seq(connection: Connection, task_id: str) -> int:
    """The seq for a fact about a task in any state."""
    seq: int | None = _returned(
        connection, "UPDATE tasks SET next_seq = next_seq + 1 WHERE task_id = ? RETURNING next_seq - 1", (task_id,)
    )
    assert seq is not None, "a picture in the spool keeps its task in the journal (see prune)"
    return seq


def finish_run_if_over(connection: Connection, finished: TaskFinished) -> RunFinished | None:
    """`run_finished` with the node's counts, when the run has no open task left here."""
    rows = connection.execute(
        "SELECT state, failure_reason, COUNT(*) FROM tasks WHERE run_id = ? GROUP BY state, failure_reason",
        (finished.run_id,),
    ).fetchall()
    counts = dict.fromkeys(TaskState, 0)
    timeouts = 0
    for state, reason, count in rows:
        counts[TaskState(state)] += count
        timeouts += count if reason is not None and FailureReason(reason).is_timeout else 0
    if any(counts[state] for state in OPEN_TASK_STATES):
        return None
    connection.execute("UPDATE runs SET ended_at_ms = ? WHERE run_id = ?", (finished.timestamp, finished.run_id))
    summary = RunSummary(
        succeeded=counts[TaskState.SUCCEEDED],
        failed=counts[TaskState.FAILED],
        timeout=timeouts,
        skipped_offline=counts[TaskState.SKIPPED_OFFLINE],
        cancelled=counts[TaskState.CANCELLED],
    )
    return RunFinished(node_id=finished.node_id, timestamp=finished.timestamp, run_id=finished.run_id, summary=summary)


# ---- outbox ----------------------------------------------------------------------------------------------------------


def add_event(connection: Connection, event_id: str, payload: Payload, subject: str) -> None:
    """`subject`: the task, run or command that it speaks of."""
    event = envelope(event_id, payload)
    connection.execute(
        "INSERT INTO outbox (event_id, subject, fact, created_at_ms, body) VALUES (?, ?, ?, ?, ?)",
        (
            event_id,
            subject,
            EventType(event["type"]) not in TELEMETRY,
            payload.timestamp,
            json.dumps(event, ensure_ascii=False, separators=(",", ":")),
        ),
    )


def is_pending(connection: Connection, subject: str) -> bool:
    """Whether an event about it still waits."""
    return connection.execute("SELECT 1 FROM outbox WHERE subject = ? LIMIT 1", (subject,)).fetchone() is not None


def pending(
    connection: Connection, count_max: int, bytes_max: int, fresh_since_ms: int | None = None
) -> list[OutboxEvent]:
    """The oldest first; at least one, whatever its size.

    Behind a backlog, up to half of the batch is for what happened since `fresh_since_ms` (epoch ms) to tasks, runs and
    commands of which nothing older waits; whatever is taken of one of them is its oldest, so its order is kept.
    """
    rows = connection.execute("SELECT position FROM outbox ORDER BY position LIMIT ?", (count_max + 1,)).fetchall()
    if fresh_since_ms is None or len(rows) <= count_max:
        return _batch(connection, "position >= ?", (0,), count_max, bytes_max)
    oldest = _batch(connection, "position >= ?", (0,), count_max - count_max // 2, bytes_max - bytes_max // 2)
    is_fresh = (
        # Unary plus: found by time, or each batch would read the whole backlog.
        "+position > ? AND created_at_ms >= ? AND NOT EXISTS (SELECT 1 FROM outbox older"
        # Each of them, not only the first: a clock that is put back makes later events older.
        " WHERE older.subject = outbox.subject AND older.position < outbox.position AND older.created_at_ms < ?)"
    )
    values = (oldest[-1].position, fresh_since_ms, fresh_since_ms)
    room = bytes_max - sum(event.size for event in oldest)
    return [*oldest, *_batch(connection, is_fresh, values, count_max // 2, room, one_at_least=False, order="+position")]


def _batch(
    connection: Connection,
    condition: str,
    values: Sequence[Any],
    count_max: int,
    bytes_max: int,
    *,
    one_at_least: bool = True,
    order: str = "position",
) -> list[OutboxEvent]:
    """In the order of recording, up to the first that does not fit."""
    batch: list[OutboxEvent] = []
    total = 0
    rows = connection.execute(
        f"SELECT position, event_id, body FROM outbox WHERE {condition} ORDER BY {order} LIMIT ?",  # noqa: S608 - this module's own words
        (*values, count_max),
    )
    for position, event_id, body in rows:
        size = len(body.encode())
        total += size
        if total > bytes_max and (batch or not one_at_least):
            break
        batch.append(OutboxEvent(position, event_id, json.loads(body), size))
    rows.close()
    return batch


def settle(connection: Connection, accepted: Sequence[int], refused: Sequence[Refusal]) -> None:
    """Forgets the accepted, buries the refused, marks stale attempts; the oldest dead letters make room."""
    for refusal in refused:
        if refusal.stale is not None:
            _mark_stale(connection, refusal.stale)
        connection.execute(
            "INSERT OR IGNORE INTO dead_letters SELECT position, event_id, body, ?, ? FROM outbox WHERE position = ?",
            (refusal.status, refusal.message, refusal.position),
        )
    gone = [(position,) for position in (*accepted, *(refusal.position for refusal in refused))]
    connection.executemany("DELETE FROM outbox WHERE position = ?", gone)
    if refused:
        connection.execute(
            "DELETE FROM dead_letters WHERE position NOT IN"
            " (SELECT position FROM dead_letters ORDER BY position DESC LIMIT ?)",
            (DEAD_LETTERS_MAX,),
        )


def _mark_stale(connection: Connection, stale: StaleAttempt) -> None:
    connection.execute(
        "UPDATE tasks SET stale_attempt = MAX(stale_attempt, ?) WHERE task_id = ?", (stale.attempt, stale.task_id)
    )


def depth(connection: Connection) -> OutboxDepth:
    """Kept by triggers."""
    counts = dict(connection.execute("SELECT fact, events FROM outbox_depth").fetchall())
    return OutboxDepth(facts=counts[1], telemetry=counts[0])


def thin_telemetry(connection: Connection, telemetry_max: int) -> None:
    """Above the bound, its oldest tenth of the telemetry goes; what runs now is what an operator wants to see."""
    excess = depth(connection).telemetry - telemetry_max
    if excess > 0:
        connection.execute(
            "DELETE FROM outbox WHERE position IN"
            " (SELECT position FROM outbox WHERE fact = 0 ORDER BY position LIMIT ?)",
            (max(telemetry_max // 10, 1) + excess - 1,),
        )


def dead_letters(connection: Connection, limit: int) -> list[DeadLetter]:
    """The newest first."""
    rows = connection.execute(
        "SELECT event_id, body, status, message FROM dead_letters ORDER BY position DESC LIMIT ?", (limit,)
    )
    return [DeadLetter(event_id, json.loads(body), status, message) for event_id, body, status, message in rows]


# ---- upkeep ----------------------------------------------------------------------------------------------------------


def touch(connection: Connection) -> None:
    """Writes a page that says the same as before. SQLite does not write what an UPDATE leaves as it is."""
    for change in (1, -1):
        connection.execute("UPDATE outbox_depth SET events = events + ?", (change,))


def prune(connection: Connection, before_ms: int) -> int:
    """A run goes with its tasks and command once nothing about it waits in the outbox or the spool."""
    connection.execute("DELETE FROM spool WHERE refused IS NOT NULL AND taken_at_ms < ?", (before_ms,))
    rows = connection.execute(
        "SELECT run_id FROM runs r WHERE ended_at_ms < ? AND NOT EXISTS (SELECT 1 FROM tasks t"
        " WHERE t.run_id = r.run_id AND (EXISTS (SELECT 1 FROM outbox o WHERE o.subject = t.task_id)"
        " OR EXISTS (SELECT 1 FROM spool s WHERE s.task_id = t.task_id)))",
        (before_ms,),
    ).fetchall()
    for (run_id,) in rows:
        connection.execute("DELETE FROM tasks WHERE run_id = ?", (run_id,))
        connection.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
    # What a refused command left has no run.
    connection.execute(
        "DELETE FROM tasks WHERE ended_at_ms < ? AND run_id NOT IN (SELECT run_id FROM runs)", (before_ms,)
    )
    connection.execute("DELETE FROM cancellations WHERE at_ms < ?", (before_ms,))
    connection.execute(
        "DELETE FROM commands WHERE received_at_ms < ? AND command_id NOT IN (SELECT command_id FROM runs)",
        (before_ms,),
    )
    return len(rows)
