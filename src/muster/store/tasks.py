"""Device tasks. Every change of a state is one UPDATE with the expected states and attempt in its WHERE."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, case, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.failure import FailureReason
from muster.domain.run import OPEN_RUN_STATES
from muster.domain.task import OPEN_TASK_STATES, SOURCES, TERMINAL_TASK_STATES, TaskState
from muster.store.dialects import AnyRows
from muster.store.tables import artifacts, device_tasks, runs

Rows = Sequence[Mapping[str, Any]]
_c = device_tasks.c
_TIMEOUTS = [reason.value for reason in FailureReason if reason.is_timeout]


async def add(tx: AsyncConnection, rows: Rows) -> None:
    """Makes the tasks of a run."""
    await tx.execute(insert(device_tasks), list(rows))


async def owners(tx: AsyncConnection, task_ids: Collection[str]) -> AnyRows:
    """(task_id, run_id, node_id, device_id, attempt, presumed) of those that exist."""
    columns = (_c.task_id, _c.run_id, _c.node_id, _c.device_id, _c.attempt, _c.presumed)
    return (await tx.execute(select(*columns).where(_c.task_id.in_(sorted(task_ids))))).all()


# ---- what a node reports ---------------------------------------------------------------------------------------------


async def move(tx: AsyncConnection, status: TaskState, rows: Rows) -> None:
    """→ `running` or `waiting`, unless the report is stale. Rows: `task of_attempt of_seq until reason message now`.

    `until`, `reason`, `message`: for how long and why it waits. An end that was presumed gives way: the node is back
    and still at it. Comes before `show_step` of the same events, which raises `last_seq`.
    """
    statement = (
        update(device_tasks)
        .where(*_newer(), or_(_is_one_of(SOURCES[status] | {status}), _c.presumed))
        .values(
            status=status,
            presumed=False,
            attempt=bindparam("of_attempt"),
            wait_until=bindparam("until"),
            failure_reason=bindparam("reason"),
            error_message=bindparam("message"),
            ended_at=None,
            updated_at=bindparam("now"),
        )
    )
    await tx.execute(statement, list(rows))


async def show_step(tx: AsyncConnection, rows: Rows) -> None:
    """Where the task is, or where it stopped. Rows: `task of_attempt of_seq step in_phase index steps now`.

    No state is written: a task that has ended still learns its last step from a report that comes late.
    """
    statement = (
        update(device_tasks)
        .where(*_newer())
        .values(
            last_seq=bindparam("of_seq"),
            step_id=bindparam("step"),
            phase=bindparam("in_phase"),
            step_index=bindparam("index"),
            steps_total=bindparam("steps"),
            updated_at=bindparam("now"),
        )
    )
    await tx.execute(statement, list(rows))


def _is_one_of(states: Collection[TaskState]) -> ColumnElement[bool]:
    """As `IN`, which SQLAlchemy expands for a single row of parameters only."""
    return or_(*(_c.status == state for state in sorted(states)))


def _newer() -> list[ColumnElement[bool]]:
    """An attempt that is not stale, and a report that is not older than what is displayed."""
    return [
        _c.task_id == bindparam("task"),
        _c.attempt <= bindparam("of_attempt"),
        _c.last_seq < bindparam("of_seq"),
    ]


# Every terminal state may follow every open one, so one statement serves them all and keeps their order.
assert all(SOURCES[state] == OPEN_TASK_STATES for state in TERMINAL_TASK_STATES)


async def finish(tx: AsyncConnection, rows: Rows) -> None:
    """→ a terminal state; the first one that comes is final. Rows: `task of_attempt end reason message …`.

    Order plays no part here: the end is the end, whatever progress is still on its way. Only an end that the backend
    presumed gives way to the node's own word (spec/03).
    """
    statement = (
        update(device_tasks)
        .where(
            _c.task_id == bindparam("task"),
            _c.attempt <= bindparam("of_attempt"),
            or_(_is_one_of(OPEN_TASK_STATES), _c.presumed),
        )
        .values(
            status=bindparam("end"),
            presumed=False,
            attempt=bindparam("of_attempt"),
            failure_reason=bindparam("reason"),
            error_message=bindparam("message"),
            failed_steps=bindparam("steps_failed", type_=_c.failed_steps.type),
            ended_at=bindparam("ended"),
            duration_ms=bindparam("took"),
            wait_until=None,
            updated_at=bindparam("now"),
        )
    )
    await tx.execute(statement, list(rows))


async def note_start(tx: AsyncConnection, rows: Rows) -> None:
    """When and where the newest attempt began, even when the report comes late. Rows: `task of_seq at handle now`."""
    statement = (
        update(device_tasks)
        .where(_c.task_id == bindparam("task"), _c.started_seq < bindparam("of_seq"))
        .values(
            started_seq=bindparam("of_seq"),
            started_at=bindparam("at"),
            runtime_handle=bindparam("handle"),
            updated_at=bindparam("now"),
        )
    )
    await tx.execute(statement, list(rows))


async def link_artifact(tx: AsyncConnection, rows: Rows) -> None:
    """The newest picture of a task. Rows: `task of_seq path now`; a path that is not this task's links nothing."""
    picture = (
        select(artifacts.c.artifact_id)
        .where(artifacts.c.task_id == bindparam("task"), artifacts.c.storage_path == bindparam("path"))
        .scalar_subquery()
    )
    statement = (
        update(device_tasks)
        .where(_c.task_id == bindparam("task"), _c.artifact_seq < bindparam("of_seq"), picture.is_not(None))
        .values(artifact_seq=bindparam("of_seq"), artifact_id=picture, updated_at=bindparam("now"))
    )
    await tx.execute(statement, list(rows))


async def refuse(tx: AsyncConnection, *, run_id: str, node_id: str, message: str, now_ms: int) -> list[str]:
    """A node refused its part of a run: its tasks that never began fail. Gives their ids."""
    statement = (
        update(device_tasks)
        .where(_c.run_id == run_id, _c.node_id == node_id, _c.status == TaskState.QUEUED)
        .values(
            status=TaskState.FAILED,
            failure_reason=FailureReason.UNKNOWN,
            error_message=message,
            ended_at=now_ms,
            updated_at=now_ms,
        )
        .returning(_c.task_id)
    )
    return list((await tx.execute(statement)).scalars())


async def cancel(tx: AsyncConnection, task_ids: Collection[str], *, message: str, now_ms: int) -> list[str]:
    """queued → cancelled, for tasks that no node has ever been told of. Gives the ids of those that it ended."""
    statement = (
        update(device_tasks)
        .where(_c.task_id.in_(sorted(task_ids)), _c.status == TaskState.QUEUED)
        .values(
            status=TaskState.CANCELLED,
            failure_reason=FailureReason.CANCELLED,
            error_message=message,
            ended_at=now_ms,
            updated_at=now_ms,
        )
        .returning(_c.task_id)
    )
    return list((await tx.execute(statement)).scalars())


# ---- counting and reading --------------------------------------------------------------------------------------------


async def runs_without_open_tasks(tx: AsyncConnection, run_ids: Collection[str]) -> set[str]:
    """Those of `run_ids` in which nothing is open any more."""
    query = select(_c.run_id).where(_c.run_id.in_(sorted(run_ids)), _c.status.in_(sorted(OPEN_TASK_STATES))).distinct()
    return set(run_ids) - set((await tx.execute(query)).scalars())


async def open_on_nodes(tx: AsyncConnection, node_ids: Collection[str]) -> AnyRows:
    """(run_id, task_id, node_id) of what is open on these nodes."""
    query = select(_c.run_id, _c.task_id, _c.node_id).where(
        _c.run_id.in_(open_runs()), _c.node_id.in_(sorted(node_ids)), _c.status.in_(sorted(OPEN_TASK_STATES))
    )
    return (await tx.execute(query)).all()


async def nodes_at_work(tx: AsyncConnection, run_id: str) -> list[str]:
    """The nodes on which something of the run is open."""
    query = select(_c.node_id).where(_c.run_id == run_id, _c.status.in_(sorted(OPEN_TASK_STATES))).distinct()
    return list((await tx.execute(query.order_by(_c.node_id))).scalars())


def open_runs() -> Select[tuple[str]]:
    """By their index: without it, every look for open tasks would read all tasks there ever were."""
    return select(runs.c.run_id).where(runs.c.attention == 0, runs.c.status.in_(OPEN_RUN_STATES))


async def count(tx: AsyncConnection, run_ids: Collection[str]) -> dict[str, dict[TaskState, int]]:
    """Tasks by state, for each run; only the states that occur."""
    query = (
        select(_c.run_id, _c.status, func.count()).where(_c.run_id.in_(sorted(run_ids))).group_by(_c.run_id, _c.status)
    )
    counts: dict[str, dict[TaskState, int]] = {run_id: {} for run_id in run_ids}
    for run_id, status, number in await tx.execute(query):
        counts[run_id][TaskState(status)] = number
    return counts


async def count_by_node(tx: AsyncConnection, run_id: str) -> AnyRows:
    """(node_id, status, number, timeouts) of one run."""
    timeouts = func.sum(case((_c.failure_reason.in_(_TIMEOUTS), 1), else_=0))
    query = (
        select(_c.node_id, _c.status, func.count(), timeouts)
        .where(_c.run_id == run_id)
        .group_by(_c.node_id, _c.status)
        .order_by(_c.node_id)
    )
    return (await tx.execute(query)).all()


async def of_run(tx: AsyncConnection, run_id: str, task_ids: Collection[str] | None = None) -> AnyRows:
    """Tasks of a run with the place of their picture, by node and device; all, or those named."""
    query = (
        select(device_tasks, artifacts.c.storage_path)
        .join_from(device_tasks, artifacts, _c.artifact_id == artifacts.c.artifact_id, isouter=True)
        .where(_c.run_id == run_id)
        .order_by(_c.node_id, _c.device_id)
    )
    if task_ids is not None:
        query = query.where(_c.task_id.in_(sorted(task_ids)))
    return (await tx.execute(query)).all()
