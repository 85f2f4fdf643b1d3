"""The journal's statements on the pictures in the spool. As those of `journal_tables`, inside a transaction."""

from pathlib import Path

from muster.agent.journal import Leftover
from muster.agent.journal_tables import Connection
from muster.agent.ports import SpooledArtifact


def add(connection: Connection, artifact: SpooledArtifact) -> None:
    """Its file is on the disk already."""
    connection.execute(
        "INSERT INTO spool VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
        (
            artifact.path.name,
            artifact.task_id,
            artifact.run_id,
            artifact.device_id,
            artifact.attempt,
            artifact.step_id,
            artifact.taken_at_ms,
            artifact.sha256,
            artifact.size,
        ),
    )


def total_bytes(connection: Connection) -> int:
    """Of what still lies there."""
    total: int = connection.execute("SELECT COALESCE(SUM(size), 0) FROM spool WHERE storage_path IS NULL").fetchone()[0]
    return total


def mark_stored(connection: Connection, name: str, storage_path: str) -> None:
    """Kept until it is told."""
    connection.execute("UPDATE spool SET storage_path = ? WHERE name = ?", (storage_path, name))


def mark_refused(connection: Connection, name: str, message: str) -> None:
    """Kept for somebody to look at."""
    connection.execute("UPDATE spool SET refused = ? WHERE name = ?", (message, name))


def leftovers(connection: Connection, folder: Path, limit: int) -> list[Leftover]:
    """Of tasks that have ended; the paths are under `folder`."""
    rows = connection.execute(
        "SELECT s.name, s.task_id, s.run_id, s.device_id, s.attempt, s.step_id, s.taken_at_ms, s.sha256, s.size,"
        " s.storage_path FROM spool s JOIN tasks t ON t.task_id = s.task_id"
        " WHERE s.refused IS NULL AND t.state NOT IN ('queued', 'running', 'waiting') ORDER BY s.name LIMIT ?",
        (limit,),
    )
    return [
        Leftover(SpooledArtifact(task, run, device, attempt, step, taken, folder / name, sha256, size), storage_path)
        for name, task, run, device, attempt, step, taken, sha256, size, storage_path in rows
    ]


def names(connection: Connection) -> frozenset[str]:
    """Every file that the journal knows."""
    return frozenset(name for (name,) in connection.execute("SELECT name FROM spool"))


def drop(connection: Connection, name: str) -> bool:
    """False: it had left already."""
    return connection.execute("DELETE FROM spool WHERE name = ?", (name,)).rowcount > 0


def drop_told(connection: Connection, task_id: str, storage_path: str) -> None:
    """The task's end tells of it."""
    connection.execute("DELETE FROM spool WHERE task_id = ? AND storage_path = ?", (task_id, storage_path))
