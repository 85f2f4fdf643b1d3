"""A batch of events → what has to be written, one row a task and step. Pure.

Of several reports on one thing only the newest by `seq` is kept here; the statements of `store/tasks.py` see to it that
it is also newer than what is in the database.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from muster.contracts.events import (
    BESIDE_STEPS,
    ArtifactRef,
    ArtifactStored,
    CommandAck,
    Event,
    TaskFinished,
    TaskPayload,
    TaskProgress,
    TaskStarted,
)
from muster.domain.task import StepState, TaskState

Row = dict[str, Any]
Told = TypeVar("Told", bound=TaskStarted | TaskProgress)
Key = TypeVar("Key")


@dataclass(slots=True)
class Changes:
    """Rows for the statements of `store/tasks.py`, `store/events.py` and `store/commands.py`."""

    moves: dict[TaskState, list[Row]] = field(default_factory=dict)
    positions: list[Row] = field(default_factory=list)
    starts: list[Row] = field(default_factory=list)
    finishes: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    artifacts: list[Row] = field(default_factory=list)
    acks: list[CommandAck] = field(default_factory=list)
    # run → its tasks that these events speak of
    touched: dict[str, set[str]] = field(default_factory=dict)


def fold(events: Iterable[Event], now_ms: int) -> Changes:
    """`events`: never seen before, in the order in which they came."""
    folding = _Folding(now_ms)
    for event in events:
        folding.take(event)
    return folding.result()


class _Folding:
    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._changes = Changes()
        self._shown: dict[str, TaskStarted | TaskProgress] = {}
        self._steps: dict[tuple[str, int, str], TaskProgress] = {}
        self._starts: dict[str, Row] = {}

    def take(self, event: Event) -> None:
        payload = event.payload
        match payload:
            case TaskStarted():
                _keep_newest(self._shown, payload.task_id, payload)
                self._start(payload, payload.timestamp, payload.runtime_handle)
            case TaskProgress():
                _keep_newest(self._shown, payload.task_id, payload)
                _keep_newest(self._steps, (payload.task_id, payload.attempt, payload.step_id), payload)
            case TaskFinished():
                self._finish(payload)
            case ArtifactStored():
                self._artifact(payload, payload.artifact)
            case CommandAck():
                self._changes.acks.append(payload)
            case _:
                return  # heartbeats go to presence; run_started and run_finished are advisory
        if isinstance(payload, TaskPayload | ArtifactStored):
            self._changes.touched.setdefault(payload.run_id, set()).add(payload.task_id)

    def result(self) -> Changes:
        for told in self._shown.values():
            status = TaskState.WAITING if told.status == StepState.WAITING else TaskState.RUNNING
            self._changes.moves.setdefault(status, []).append(self._move(told))
            self._changes.positions.append(self._position(told))
        self._changes.starts = list(self._starts.values())
        self._changes.steps = [_step(told, self._now_ms) for told in self._steps.values()]
        return self._changes

    def _finish(self, payload: TaskFinished) -> None:
        self._changes.finishes.append(
            {
                "task": payload.task_id,
                "of_attempt": payload.attempt,
                "end": payload.status,
                "reason": payload.failure_reason,
                "message": payload.error_message,
                "steps_failed": payload.failed_steps,
                "ended": payload.timings.ended_at,
                "took": payload.timings.duration_ms,
                "now": self._now_ms,
            }
        )
        if payload.timings.started_at is not None and payload.runtime_handle is not None:
            self._start(payload, payload.timings.started_at, payload.runtime_handle)
        if payload.artifact is not None:
            self._artifact(payload, payload.artifact)

    def _start(self, payload: TaskPayload, at_ms: int, handle: str) -> None:
        known = self._starts.get(payload.task_id)
        if known is None or known["of_seq"] < payload.seq:
            self._starts[payload.task_id] = {
                "task": payload.task_id,
                "of_seq": payload.seq,
                "at": at_ms,
                "handle": handle,
                "now": self._now_ms,
            }

    def _artifact(self, payload: TaskFinished | ArtifactStored, artifact: ArtifactRef) -> None:
        self._changes.artifacts.append(
            {"task": payload.task_id, "of_seq": payload.seq, "path": artifact.storage_path, "now": self._now_ms}
        )

    def _move(self, told: TaskStarted | TaskProgress) -> Row:
        """Why it waits is shown while it waits: of a step that has failed the task itself knows nothing yet."""
        waits = told if isinstance(told, TaskProgress) and told.status is StepState.WAITING else None
        return {
            "task": told.task_id,
            "of_attempt": told.attempt,
            "of_seq": told.seq,
            "until": waits.wait_until if waits else None,
            "reason": waits.failure_reason if waits else None,
            "message": waits.error_message if waits else None,
            "now": self._now_ms,
        }

    def _position(self, told: TaskStarted | TaskProgress) -> Row:
        """A new attempt begins at no step: a tile shows this attempt only (spec/08)."""
        at_step = told if isinstance(told, TaskProgress) else None
        in_recipe = at_step if at_step and at_step.step_id not in BESIDE_STEPS else None
        return {
            "task": told.task_id,
            "of_attempt": told.attempt,
            "of_seq": told.seq,
            "step": at_step.step_id if at_step else None,
            "in_phase": at_step.step if at_step else None,
            "index": in_recipe.step_index if in_recipe else None,
            "steps": in_recipe.steps_total if in_recipe else None,
            "now": self._now_ms,
        }


def _step(told: TaskProgress, now_ms: int) -> Row:
    return {
        "task_id": told.task_id,
        "attempt": told.attempt,
        "step_id": told.step_id,
        "seq": told.seq,
        "step_index": told.step_index,
        "phase": told.step,
        "status": told.status,
        "try_number": told.try_number,
        "started_at": told.started_at,
        "ended_at": told.ended_at,
        "duration_ms": told.duration_ms,
        "exit_code": told.exit_code,
        "failure_reason": told.failure_reason,
        "error_message": told.error_message,
        "log_snippet": told.log_snippet,
        "received_at": now_ms,
    }


def _keep_newest(kept: dict[Key, Told], key: Key, told: Told) -> None:
    if key not in kept or kept[key].seq < told.seq:
        kept[key] = told
