"""`POST /api/nodes/callback`: what nodes tell, applied once, in one transaction for a batch (R3.3, spec/03)."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_json
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.conclude_runs import conclude_runs
from muster.backend.fields import field_name
from muster.backend.fold_events import Changes, fold
from muster.backend.presence import Presence
from muster.contracts.commands import CommandType
from muster.contracts.events import (
    STALE_ATTEMPT_STATUS,
    ArtifactStored,
    CommandAck,
    Event,
    EventVerdict,
    NodeHeartbeatEvent,
    RunFinished,
    RunStarted,
    TaskPayload,
    event_adapter,
)
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.store import audit, commands, events, runs, tasks
from muster.store.database import Database
from muster.store.dialects import AnyRow

_log = get_logger()
_EVENT_ID_CHARS_MAX = 64


class RunWatchers(Protocol):
    """Whoever shows runs live."""

    def changed(self, run_id: str, task_ids: Collection[str]) -> None:
        """These tasks of the run, and the run's counts, are not what they were."""
        ...


class IngestEvents:
    """Takes events in."""

    def __init__(self, database: Database, presence: Presence, watchers: RunWatchers, clock: Clock) -> None:
        self._database = database
        self._presence = presence
        self._watchers = watchers
        self._clock = clock

    async def ingest(self, raw: Sequence[object]) -> list[EventVerdict]:
        """A verdict for each event, in their order. Refused ones hold up nothing; the rest land together or not at all.

        Raises StoreUnavailableError: then nothing was taken in, and the node sends it all again.
        """
        checked = _checked(raw)
        durable = [item for item in checked if not isinstance(item, EventVerdict | NodeHeartbeatEvent)]
        landed = await self._land(durable) if durable else {}
        verdicts = []
        told: set[str] = set()
        for item in checked:
            if isinstance(item, EventVerdict):
                verdicts.append(item)
            elif isinstance(item, NodeHeartbeatEvent):
                is_new = self._presence.heartbeat(item.event_id, item.payload)
                verdicts.append(EventVerdict(event_id=item.event_id, ok=True, duplicate=not is_new))
            else:
                verdict = landed[item.event_id]
                # The second of two with one id in this batch is a duplicate of the first.
                verdicts.append(verdict.model_copy(update={"duplicate": True}) if item.event_id in told else verdict)
                told.add(item.event_id)
        return verdicts

    async def _land(self, batch: Sequence[Event]) -> dict[str, EventVerdict]:
        now_ms = self._clock.now_ms()
        async with self._database.writing() as tx:
            known = await _Known.load(tx, batch)
            refused = {event.event_id: verdict for event in batch if (verdict := known.refusal(event))}
            sound = {event.event_id: event for event in batch if event.event_id not in refused}
            stale = await _stale(tx, sound.values(), known)
            memory = [_memory(event, now_ms, stale=event.event_id in stale) for event in sound.values()]
            fresh = await events.remember(tx, memory) if memory else set()
            changes = fold((event for event in sound.values() if event.event_id in fresh - stale.keys()), now_ms)
            await _apply(tx, changes, now_ms)
            # After the node's own words in the same batch, which say the same of each task, and better.
            await _refuse_tasks(tx, changes, known, now_ms)
            if changes.touched:
                await _move_runs(tx, changes, known, now_ms)
        for run_id, task_ids in changes.touched.items():
            self._watchers.changed(run_id, task_ids)
        accepted = {
            event_id: EventVerdict(event_id=event_id, ok=True, duplicate=event_id not in fresh) for event_id in sound
        }
        return refused | accepted | stale


def _checked(raw: Sequence[object]) -> list[Event | EventVerdict]:
    """Each event, or the verdict that names its first wrong field."""
    # Asked of the whole batch at once, and of each event only when it is not so: nearly never.
    is_unicode = _is_unicode(raw)
    return [_check(item, is_unicode=is_unicode) for item in raw]


def _check(raw: object, *, is_unicode: bool) -> Event | EventVerdict:
    try:
        event = event_adapter.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        loc = first["loc"]
        # The event's type leads the path as the tag of the union; a person has no use for it.
        path = field_name(loc[1:] if len(loc) > 1 else loc) or ("type" if isinstance(raw, dict) else "")
        return _refused(raw, path, first["msg"])
    if not is_unicode and not _is_unicode(event):
        return _refused(raw, "payload", "a text in it is not Unicode")
    return event


def _is_unicode(value: object) -> bool:
    """Half a surrogate pair, where it was not mended, could be stored nowhere."""
    try:
        to_json(value)
    except PydanticSerializationError:
        return False
    return True


def _refused(raw: object, path: str, message: str) -> EventVerdict:
    event_id = raw.get("event_id") if isinstance(raw, dict) else None
    is_told = isinstance(event_id, str) and event_id.isascii() and len(event_id) <= _EVENT_ID_CHARS_MAX
    return EventVerdict(event_id=event_id if is_told else None, ok=False, status=422, field=path, message=message)


class _Known:
    """What the events of a batch refer to, as far as it exists."""

    def __init__(self, owners: dict[str, AnyRow], run_ids: set[str], of_commands: dict[str, AnyRow]) -> None:
        self._tasks = owners
        self._runs = run_ids
        self.commands = of_commands

    @classmethod
    async def load(cls, tx: AsyncConnection, batch: Sequence[Event]) -> "_Known":
        payloads = [event.payload for event in batch]
        task_ids = {p.task_id for p in payloads if isinstance(p, TaskPayload | ArtifactStored)}
        run_ids = {p.run_id for p in payloads if isinstance(p, RunStarted | RunFinished)}
        command_ids = sorted({p.command_id for p in payloads if isinstance(p, CommandAck)})
        return cls(
            {row.task_id: row for row in await tasks.owners(tx, task_ids)} if task_ids else {},
            await runs.known(tx, run_ids) if run_ids else set(),
            {row.command_id: row for row in await commands.find(tx, command_ids)} if command_ids else {},
        )

    @property
    def presumed(self) -> bool:
        """Whether a task among them had ended on a presumption."""
        return any(row.presumed for row in self._tasks.values())

    def attempts(self) -> dict[str, int]:
        """Each task's attempt as it was before this batch."""
        return {task_id: row.attempt for task_id, row in self._tasks.items()}

    def refusal(self, event: Event) -> EventVerdict | None:
        payload = event.payload
        if isinstance(payload, TaskPayload | ArtifactStored):
            return self._task_refusal(event.event_id, payload)
        if isinstance(payload, RunStarted | RunFinished) and payload.run_id not in self._runs:
            return _verdict(event.event_id, 422, "payload.run_id", "there is no such run")
        if isinstance(payload, CommandAck):
            command = self.commands.get(payload.command_id)
            if command is None:
                return _verdict(event.event_id, 422, "payload.command_id", "there is no such command")
            if command.node_id != payload.node_id:
                return _verdict(event.event_id, 403, "payload.node_id", "the command was for another node")
        return None

    def _task_refusal(self, event_id: str, payload: TaskPayload | ArtifactStored) -> EventVerdict | None:
        task = self._tasks.get(payload.task_id)
        if task is None:
            return _verdict(event_id, 422, "payload.task_id", "there is no such task")
        if task.node_id != payload.node_id:
            return _verdict(event_id, 403, "payload.node_id", "the task belongs to another node")
        if task.run_id != payload.run_id:
            return _verdict(event_id, 422, "payload.run_id", "the task belongs to another run")
        if task.device_id != payload.device_id:
            return _verdict(event_id, 422, "payload.device_id", "the task belongs to another device")
        return None


def _verdict(event_id: str, status: int, path: str, message: str) -> EventVerdict:
    return EventVerdict(event_id=event_id, ok=False, status=status, field=path, message=message)


async def _stale(tx: AsyncConnection, batch: Iterable[Event], known: _Known) -> dict[str, EventVerdict]:
    """Verdicts on events of attempts that are over: they are remembered and change nothing (fencing, spec/03).

    A repeated event that counted in its time is none of them. Nor is a late picture: it belongs to the record.
    """
    newest, found = known.attempts(), {}
    for event in batch:
        payload = event.payload
        if not isinstance(payload, TaskPayload):
            continue
        attempt = newest[payload.task_id] = max(newest[payload.task_id], payload.attempt)
        if payload.attempt < attempt:
            message = f"attempt {payload.attempt} of this task is over; it is at attempt {attempt}"
            found[event.event_id] = _verdict(event.event_id, STALE_ATTEMPT_STATUS, "payload.attempt", message)
            _log.warning(
                "Event of a stale attempt",
                run_id=payload.run_id,
                node_id=payload.node_id,
                device_id=payload.device_id,
                task_id=payload.task_id,
                type=event.type,
                error=message,
            )
    before = await events.seen(tx, found) if found else {}
    return {event_id: verdict for event_id, verdict in found.items() if before.get(event_id, True)}


def _memory(event: Event, now_ms: int, *, stale: bool) -> dict[str, object]:
    payload = event.payload
    of_task = payload if isinstance(payload, TaskPayload | ArtifactStored) else None
    return {
        "event_id": event.event_id,
        "node_id": payload.node_id,
        "type": event.type,
        "task_id": of_task.task_id if of_task else None,
        "seq": of_task.seq if of_task else None,
        "received_at": now_ms,
        "stale": stale,
    }


async def _refuse_tasks(tx: AsyncConnection, changes: Changes, known: _Known, now_ms: int) -> None:
    """A node that refuses to start a run will never report its tasks: they end here, or the run never would."""
    for ack in changes.acks:
        command = known.commands[ack.command_id]
        run_id = command.run_id
        if ack.error_message is None:
            continue
        if command.type != CommandType.RUN_START:
            _log.warning("Node refused a command", type=command.type, node_id=ack.node_id, reason=ack.error_message)
            continue
        message = f"{ack.node_id} refused the run: {ack.error_message}"
        ended = await tasks.refuse(tx, run_id=run_id, node_id=ack.node_id, message=message, now_ms=now_ms)
        changes.touched.setdefault(run_id, set()).update(ended)
        _log.warning("Node refused a command", run_id=run_id, node_id=ack.node_id, reason=ack.error_message)


async def _apply(tx: AsyncConnection, changes: Changes, now_ms: int) -> None:
    if changes.steps:
        await events.save_steps(tx, changes.steps)
    for status, rows in changes.moves.items():
        await tasks.move(tx, status, rows)
    if changes.positions:
        await tasks.show_step(tx, changes.positions)
    if changes.starts:
        await tasks.note_start(tx, changes.starts)
    if changes.finishes:
        await tasks.finish(tx, changes.finishes)
    if changes.artifacts:
        await tasks.link_artifact(tx, changes.artifacts)
    if changes.acks:
        rows = [{"command": ack.command_id, "error": ack.error_message} for ack in changes.acks]
        await commands.acknowledge(tx, rows, now_ms)
        await audit.answer(tx, rows, now_ms)


async def _move_runs(tx: AsyncConnection, changes: Changes, known: _Known, now_ms: int) -> None:
    """A run starts with its first task and ends by the backend's own count, in the transaction of its last event."""
    await runs.start(tx, changes.touched, now_ms)
    if known.presumed and (reopened := await runs.reopen(tx, changes.touched)):
        _log.info("Runs go on: tasks that were presumed to have ended are at work", runs=reopened)
    if not changes.finishes and not changes.acks:
        return
    await conclude_runs(tx, changes.touched, now_ms)
