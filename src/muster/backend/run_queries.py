"""What is told of runs: lists, details, snapshots and deltas. Reads only, each answer from one snapshot."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.cursors import decode_cursor, encode_cursor
from muster.backend.presence import Presence
from muster.contracts.api import (
    ArtifactView,
    NodeCondition,
    NodePart,
    RunDelta,
    RunDetail,
    RunListItem,
    RunPage,
    RunSnapshot,
    StepPage,
    StepView,
    TaskCounts,
    TaskView,
)
from muster.contracts.events import RunSummary
from muster.domain.failure import FailureReason
from muster.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from muster.domain.run import RunState
from muster.domain.task import OPEN_TASK_STATES, TaskState
from muster.recipe.accessibility import steps_for_accessibility
from muster.runtime.clock import Clock
from muster.store import artifacts, events, runs, tasks, workflows
from muster.store.database import Database
from muster.store.dialects import AnyRow, AnyRows


class RunQueries:
    """Answers questions about runs."""

    def __init__(
        self, database: Database, presence: Presence, clock: Clock, is_unreachable: Callable[[str], bool]
    ) -> None:
        self._database = database
        self._is_unreachable = is_unreachable
        self._presence = presence
        self._clock = clock

    async def page(
        self,
        statuses: Collection[RunState] = (),
        window: timedelta | None = None,
        workflow_id: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_SIZE_DEFAULT,
    ) -> RunPage:
        """Failed and running first, then newest first. No state = all. Raises MalformedCursorError."""
        limit = min(limit, PAGE_SIZE_MAX)
        place = decode_cursor(cursor, int, str) if cursor else None
        since_ms = self._clock.now_ms() - int(window.total_seconds() * 1000) if window else None
        async with self._database.reading() as tx:
            rows = await runs.page(
                tx,
                statuses=statuses,
                created_since_ms=since_ms,
                workflow_id=workflow_id,
                after=(place[0], place[1]) if place else None,
                limit=limit + 1,
            )
            shown = rows[:limit]
            counts = await tasks.count(tx, [row.run_id for row in shown])
            by_status = await runs.count_by_status(
                tx, statuses=statuses, created_since_ms=since_ms, workflow_id=workflow_id
            )
        return RunPage(
            runs=[RunListItem.model_validate(_list_item(row, counts[row.run_id])) for row in shown],
            counts=by_status,
            next_cursor=encode_cursor(shown[-1].attention, shown[-1].run_id) if len(rows) > limit else None,
        )

    async def detail(self, run_id: str) -> RunDetail | None:
        """Everything about a run but its single steps."""
        async with self._database.reading() as tx:
            run = await runs.find(tx, run_id)
            if run is None:
                return None
            rows = await tasks.of_run(tx, run_id)
            by_hand = await _steps_by_hand(tx, run, rows)
            by_node = await tasks.count_by_node(tx, run_id)
            counts = (await tasks.count(tx, [run_id]))[run_id]
        nodes = self._node_parts(by_node)
        return RunDetail(
            **_list_item(run, counts),
            params=run.params,
            timeout_overrides=run.timeout_overrides,
            global_timeout_ms=run.global_timeout_ms,
            max_attempts=run.max_attempts,
            target=run.target,
            metadata=run.metadata,
            summary=_sum([node.summary for node in nodes]),
            nodes=nodes,
            tasks=self._tasks(rows, by_hand),
        )

    async def snapshot(self, run_id: str) -> RunSnapshot | None:
        """The run and all its tasks."""
        found = await self._changed(run_id, None)
        return RunSnapshot(**found, now=self._clock.now_ms()) if found else None

    async def delta(self, run_id: str, task_ids: Collection[str]) -> RunDelta | None:
        """The run with its counts, and these tasks of it."""
        found = await self._changed(run_id, task_ids)
        return RunDelta(**found, now=self._clock.now_ms()) if found else None

    async def _changed(self, run_id: str, task_ids: Collection[str] | None) -> dict[str, Any] | None:
        async with self._database.reading() as tx:
            run = await runs.find(tx, run_id)
            if run is None:
                return None
            rows = await tasks.of_run(tx, run_id, task_ids)
            by_hand = await _steps_by_hand(tx, run, rows)
            counts = (await tasks.count(tx, [run_id]))[run_id]
        return {
            "run": RunListItem.model_validate(_list_item(run, counts)),
            "tasks": self._tasks(rows, by_hand),
            "nodes": [NodeCondition(**self._condition(name)) for name in sorted({row.node_id for row in rows})],
        }

    async def steps(
        self,
        run_id: str,
        device_id: str | None = None,
        cursor: str | None = None,
        limit: int = PAGE_SIZE_DEFAULT,
    ) -> StepPage | None:
        """Steps by device, then in the recipe's order; None = no such run. Raises MalformedCursorError."""
        limit = min(limit, PAGE_SIZE_MAX)
        place = decode_cursor(cursor, str, int, str) if cursor else None
        async with self._database.reading() as tx:
            run = await runs.find(tx, run_id)
            if run is None:
                return None
            rows = await events.steps_of_run(
                tx, run_id, device_id=device_id, after=tuple(place) if place else None, limit=limit + 1
            )
            shown = rows[:limit]
            kinds = await _kinds(tx, run)
            pictures = await artifacts.of_tasks(tx, sorted({row.task_id for row in shown}))
        # Oldest first, so that the newest picture of a step stays.
        by_step = {(picture.task_id, picture.step_id): picture for picture in pictures}
        return StepPage(
            steps=[_step(row, kinds, by_step.get((row.task_id, row.step_id))) for row in shown],
            next_cursor=encode_cursor(shown[-1].device_id, shown[-1].place, shown[-1].step_id)
            if len(rows) > limit
            else None,
        )

    def _tasks(self, rows: AnyRows, by_hand: Collection[str]) -> list[TaskView]:
        silent = {node_id for node_id in {row.node_id for row in rows} if self._is_unreachable(node_id)}
        return [_task(row, by_hand, on_silent_node=row.node_id in silent) for row in rows]

    def _condition(self, node_id: str) -> dict[str, Any]:
        """Silent by the same judgement as its tiles; else by its own word."""
        known = self._presence.node_view(node_id)
        told = known.model_dump(include=set(NodeCondition.model_fields)) if known else {"node_id": node_id}
        is_degraded = self._presence.is_degraded(node_id)
        status = "offline" if self._is_unreachable(node_id) else "degraded" if is_degraded else "online"
        return told | {"status": status}

    def _node_parts(self, by_node: AnyRows) -> list[NodePart]:
        counts: defaultdict[str, dict[TaskState, int]] = defaultdict(dict)
        timeouts: defaultdict[str, int] = defaultdict(int)
        for node_id, status, number, timed_out in by_node:
            counts[node_id][TaskState(status)] = number
            if status == TaskState.FAILED:
                timeouts[node_id] += timed_out
        return [
            NodePart(
                **self._condition(node_id),
                online=self._presence.is_node_online(node_id),
                unreachable=bool(OPEN_TASK_STATES & found.keys()) and self._is_unreachable(node_id),
                counts=_counts(found),
                summary=_summary(found, timeouts[node_id]),
            )
            for node_id, found in counts.items()
        ]


def _list_item(run: AnyRow, counts: Mapping[TaskState, int]) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "workflow_id": run.workflow_id,
        "version": run.version,
        "workflow_name": run.workflow_name,
        "video_id": run.video_id,
        "trigger": run.trigger,
        "status": run.status,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "stop_requested_at": run.stop_requested_at,
        "counts": _counts(counts),
    }


def _counts(counts: Mapping[TaskState, int]) -> TaskCounts:
    return TaskCounts(total=sum(counts.values()), **{state.value: number for state, number in counts.items()})


def _summary(counts: Mapping[TaskState, int], timeouts: int) -> RunSummary:
    ended = {state.value: number for state, number in counts.items() if state.is_terminal}
    return RunSummary(timeout=timeouts, **ended)


def _sum(parts: Sequence[RunSummary]) -> RunSummary:
    return RunSummary(**{name: sum(getattr(part, name) for part in parts) for name in RunSummary.model_fields})


def _task(row: AnyRow, by_hand: Collection[str], *, on_silent_node: bool) -> TaskView:
    known = {name: value for name, value in row._mapping.items() if name in TaskView.model_fields}
    reason = FailureReason(row.failure_reason) if row.failure_reason else None
    return TaskView.model_validate(
        known
        | {
            "failure_class": reason.failure_class if reason else None,
            "requires_manual_accessibility": any(step_id in by_hand for step_id in row.failed_steps),
            "unreachable": on_silent_node and not TaskState(row.status).is_terminal,
        }
    )


async def _steps_by_hand(tx: AsyncConnection, run: AnyRow, rows: AnyRows) -> frozenset[str]:
    """Steps whose failure leaves something to be done on the phone; the recipe is read only where one has failed."""
    if not any(row.failed_steps for row in rows):
        return frozenset()
    return steps_for_accessibility(await _definition(tx, run))


async def _kinds(tx: AsyncConnection, run: AnyRow) -> dict[str, str]:
    """Step id → kind, from the pinned recipe."""
    return {step["id"]: step["kind"] for step in (await _definition(tx, run))["steps"]}


async def _definition(tx: AsyncConnection, run: AnyRow) -> dict[str, Any]:
    pinned = await workflows.find(tx, run.workflow_id, run.version)
    assert pinned is not None, "a run is pinned to a version that is never deleted"
    definition: dict[str, Any] = pinned.definition
    return definition


def _step(row: AnyRow, kinds: Mapping[str, str], picture: AnyRow | None) -> StepView:
    known = {name: value for name, value in row._mapping.items() if name in StepView.model_fields}
    return StepView.model_validate(
        known | {"kind": kinds.get(row.step_id, ""), "artifact": _artifact(picture) if picture else None}
    )


def _artifact(picture: AnyRow) -> ArtifactView:
    known = {name: value for name, value in picture._mapping.items() if name in ArtifactView.model_fields}
    return ArtifactView.model_validate(known | {"public_url": f"/api/artifacts/{picture.artifact_id}"})
