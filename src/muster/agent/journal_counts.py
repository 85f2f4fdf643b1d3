"""What the journal adds up for `/metrics`, in the very transaction that makes it so.

The counts begin when the file is opened, as those of a process do: temporary tables, on no disk, rolled back with what
they count.
"""

import sqlite3

from muster.agent.journal import JournalFigures, OutboxDepth, Waiting

# In memory: a temporary file on a full disk would take the journal with it.
_PREPARE = """
PRAGMA temp_store = MEMORY;
CREATE TEMP TABLE IF NOT EXISTS ended (
    status TEXT NOT NULL, reason TEXT NOT NULL, tasks INTEGER NOT NULL, PRIMARY KEY (status, reason)) WITHOUT ROWID;
CREATE TEMP TABLE IF NOT EXISTS moved (what TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO moved VALUES ('accepted', 0), ('retried', 0), ('parked', 0);
CREATE TEMP TRIGGER IF NOT EXISTS count_accepted AFTER INSERT ON main.tasks BEGIN
    UPDATE moved SET times = times + 1 WHERE what = 'accepted'; END;
CREATE TEMP TRIGGER IF NOT EXISTS count_retried AFTER UPDATE OF attempt ON main.tasks
    WHEN new.attempt > old.attempt BEGIN
    UPDATE moved SET times = times + 1 WHERE what = 'retried'; END;
CREATE TEMP TRIGGER IF NOT EXISTS count_parked AFTER UPDATE OF state ON main.tasks
    WHEN new.state = 'waiting' AND old.state <> 'waiting' BEGIN
    UPDATE moved SET times = times + 1 WHERE what = 'parked'; END;
CREATE TEMP TRIGGER IF NOT EXISTS count_ended AFTER UPDATE OF state ON main.tasks
    WHEN new.state NOT IN ('queued', 'running', 'waiting') AND old.state IN ('queued', 'running', 'waiting') BEGIN
    INSERT INTO ended VALUES (new.state, COALESCE(new.failure_reason, ''), 1)
        ON CONFLICT DO UPDATE SET tasks = tasks + 1; END;
"""


def prepare(connection: sqlite3.Connection) -> None:
    """After the journal's own tables are there."""
    connection.executescript(_PREPARE)


def figures(connection: sqlite3.Connection) -> JournalFigures:
    """All of it in one look."""
    depth = dict(connection.execute("SELECT fact, events FROM outbox_depth").fetchall())
    moved = dict(connection.execute("SELECT what, times FROM moved").fetchall())
    (dead,) = connection.execute("SELECT COUNT(*) FROM dead_letters").fetchone()
    pictures, size, refused = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(size), 0), COUNT(refused) FROM spool WHERE storage_path IS NULL"
    ).fetchone()
    return JournalFigures(
        outbox=OutboxDepth(facts=depth[1], telemetry=depth[0]),
        oldest=Waiting(
            fact_ms=_oldest(connection, 1) if depth[1] else None,
            telemetry_ms=_oldest(connection, 0) if depth[0] else None,
        ),
        dead_letters=dead,
        pictures=pictures,
        picture_bytes=size,
        pictures_refused=refused,
        accepted=moved["accepted"],
        retried=moved["retried"],
        parked=moved["parked"],
        ended={(status, reason): tasks for status, reason, tasks in connection.execute("SELECT * FROM ended")},
    )


def _oldest(connection: sqlite3.Connection, fact: int) -> int:
    """Epoch ms. Facts lie so close together among the telemetry that the first one is found at once."""
    (at_ms,) = connection.execute(
        "SELECT created_at_ms FROM outbox WHERE fact = ? ORDER BY position LIMIT 1", (fact,)
    ).fetchone()
    return int(at_ms)
