"""What must hold whoever was killed when. Each check answers sentences about what does not hold; none is good."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
from tests.chaos.record import BackendView, JournalView, TaskRow
from tests.chaos.site import SLOTS, Site, Work

from muster.agent.locks import FileLock

RUNNING, RESTARTED = "running", "node_restarted"
# What is being written somewhere has such a name.
UNFINISHED = (".new", ".part", ".tmp", "-wal", "-shm", "-journal")


# ---- at the instant of a kill ----------------------------------------------------------------------------------------


def ahead_of_journal(journal: JournalView, backend: BackendView) -> Iterator[str]:
    """Nothing is told that is not on the disk."""
    for task_id, told in backend.tasks.items():
        known = journal.tasks.get(task_id)
        if known is None:
            if told.seqs:
                yield f"task {task_id}: the backend has events {told.seqs} of a task that the journal has not"
        elif set(told.seqs) - set(known.seqs):
            yield f"task {task_id}: the backend has events {set(told.seqs) - set(known.seqs)} that the journal has not"
        elif not told.is_open and known.is_open and known.attempt <= told.attempt:
            yield f"task {task_id}: {told.state} in the backend, {known.state} in the journal"


def unsafe_pictures(journal: JournalView, spool: Path) -> Iterator[str]:
    """What the journal calls spooled is there, whole."""
    for name, picture in journal.spool.items():
        path = spool / name
        if picture.storage_path is None and not path.exists():
            yield f"picture {name} of task {picture.task_id} is in the journal and not on the disk"
        elif path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != picture.sha256:
            yield f"picture {name} of task {picture.task_id} is not what its SHA-256 says"


# ---- from one instant to the end -------------------------------------------------------------------------------------


def changed_after_the_end(before: JournalView, after: JournalView) -> Iterator[str]:
    """Terminal states are final, attempts and numbers only grow, no task is forgotten."""
    for task_id, was in before.tasks.items():
        now = after.tasks.get(task_id)
        if now is None:
            yield f"task {task_id} is gone from the journal"
        elif not was.is_open and (was.state, was.attempt, was.reason) != (now.state, now.attempt, now.reason):
            yield f"task {task_id} had ended as {_told(was)} and became {_told(now)}"
        elif now.attempt < was.attempt or len(now.seqs) < len(was.seqs):
            yield f"task {task_id} went back from {_told(was)} to {_told(now)}"


def lost(before: JournalView, after: BackendView) -> Iterator[str]:
    """Every event and every picture that was on the disk at the kill reaches the backend."""
    for event_id, body in before.outbox.items():
        if event_id not in after.events:
            yield f"event {event_id} was in the outbox and never arrived: {body}"
    for name, picture in before.spool.items():
        stored = after.artifacts.get((picture.task_id, picture.sha256))
        if stored is None or not stored["stored"] or stored["size"] != picture.size:
            yield f"picture {name} of task {picture.task_id} was in the spool and is not in the store: {stored}"


# ---- at the end ------------------------------------------------------------------------------------------------------


def not_the_same(journal: JournalView, backend: BackendView) -> Iterator[str]:
    """State, attempt and reason of every task; each of its events, once."""
    for task_id in sorted(journal.tasks.keys() | backend.tasks.keys()):
        ours, theirs = journal.tasks.get(task_id), backend.tasks.get(task_id)
        if theirs is None or (ours is None and theirs.state != "cancelled"):
            yield f"task {task_id}: {ours and _told(ours)} in the journal, {theirs and _told(theirs)} in the backend"
        elif ours is not None and ours != theirs:
            yield f"task {task_id}: {_told(ours)} in the journal, {_told(theirs)} in the backend"
    yield from (f"stale event {event_id}" for event_id in backend.stale)
    finished = Counter(backend.events.values())["run_finished"]
    taken_up = {task.run_id for task in journal.tasks.values()}
    if finished != len(taken_up):
        yield f"{finished} times run_finished for {len(taken_up)} runs"


def left_open(journal: JournalView, backend: BackendView) -> Iterator[str]:
    """Nothing waits: no task, run, event, picture, command; nothing was refused."""
    yield from (f"task {name}: {_told(task)}" for name, task in journal.tasks.items() if task.is_open)
    yield from (f"run {run_id} is {status}" for run_id, status in backend.runs.items() if status in ("queued", RUNNING))
    yield from (f"run {run_id} is open in the journal" for run_id in journal.open_runs)
    yield from (f"event {name} waits: {body}" for name, body in journal.outbox.items())
    yield from (f"picture {name} waits: {picture}" for name, picture in journal.spool.items())
    yield from (f"dead letter {text}" for text in journal.dead_letters)
    yield from (f"command {command} is open or was refused" for command in backend.open_commands)


def wrongly_ended(
    rig: Site, kills: Sequence[JournalView], end: JournalView, also: Collection[tuple[str, str]] = ()
) -> Iterator[str]:
    """`succeeded`; `failed/node_restarted` for what ran at a kill in its last attempt; `cancelled` in a stopped run."""
    cut_off = {
        (task_id, task.attempt) for kill in kills for task_id, task in kill.tasks.items() if task.state == RUNNING
    }
    for task_id, task in end.tasks.items():
        last, is_stopped = rig.max_attempts[task.run_id], task.run_id in rig.stopped
        if (task.state, task.reason) == ("succeeded", None):
            may = (task_id, task.attempt) not in cut_off
        elif (task.state, task.reason) == ("failed", RESTARTED):
            may = task.attempt == last and (task_id, last) in cut_off
        else:
            may = is_stopped and (task.state, task.reason) == ("cancelled", "cancelled")
            may = may or (task.state, task.reason) in also
        # A second attempt needs a first one that was cut off, or that lost the adb server.
        earlier = () if task.run_id in rig.shaken else range(1, task.attempt)
        if not may or any((task_id, attempt) not in cut_off for attempt in earlier):
            yield f"task {task_id} of a run with {last} attempts ended as {_told(task)}"


def broken_objects(backend: BackendView, objects: Path) -> Iterator[str]:
    """The store has what the record says, whole, and nothing else."""
    there = {path.relative_to(objects).as_posix(): path for path in objects.rglob("*") if path.is_file()}
    for (_, sha256), artifact in backend.artifacts.items():
        path = there.pop(artifact["path"], None)
        if not artifact["stored"] or path is None:
            yield f"artifact {artifact['path']} is {'told' if artifact['stored'] else 'not told'} and {path}"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            yield f"artifact {artifact['path']} is not what its SHA-256 says"
    yield from (f"object {name} belongs to nothing" for name in there)


def crowded(work: dict[str, dict[int, Work]]) -> Iterator[str]:
    """By the phones' own records: never two at once on a phone, never more phones than slots."""
    for name, records in work.items():
        if (most := _most_at_once(records.values())) > 1:
            yield f"{most} commands at once on {name}"
    if (most := _most_at_once(record for records in work.values() for record in records.values())) > SLOTS:
        yield f"{most} phones at once, and there are {SLOTS} slots"


def _most_at_once(records: Iterable[Work]) -> int:
    spans = [(record.started, record.ended) for record in records if record.ended is not None]
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    now = most = 0
    for _, change in edges:
        now += change
        most = max(most, now)
    return most


def leftovers(rig: Site) -> Iterator[str]:
    """When all agents have ended: no process, no held lock, no temporary file."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if str(rig.folder / "node") in words:
            yield f"process {process.info['pid']} still runs: {words}"
    for path in [*rig.locks.iterdir(), rig.data / "agent.lock"]:
        lock = FileLock(path)
        if not lock.acquire("a test\n"):
            yield f"lock {path.name} is held by {lock.owner()}"
        lock.release()
    there = [path.relative_to(rig.folder) for path in (rig.folder / "node").rglob("*")]
    yield from (f"{path} is left" for path in there if path.name.endswith(UNFINISHED))
    yield from (f"{path} is left" for path in there if path.parent.name in ("spool", "shots"))


def _told(task: TaskRow) -> str:
    return f"{task.state}/{task.reason} attempt {task.attempt} events {task.seqs} on {task.device_id}"
