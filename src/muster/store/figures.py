"""How much of everything there is, for metrics."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.run import OPEN_RUN_STATES, RunState
from muster.domain.task import OPEN_TASK_STATES, TaskState
from muster.store import runs
from muster.store.tables import device_tasks, node_commands
from muster.store.tables import runs as runs_table


@dataclass(frozen=True, slots=True)
class Contents:
    """States that do not occur are missing. `commands_open`: not acknowledged by their node yet."""

    runs: dict[RunState, int]
    open_tasks: dict[TaskState, int]
    commands_open: int


async def contents(tx: AsyncConnection) -> Contents:
    """Of the whole database; tasks only those that are open, which are found by their runs."""
    tasks = (
        select(device_tasks.c.status, func.count())
        .join(runs_table, runs_table.c.run_id == device_tasks.c.run_id)
        # `attention` is what the index begins with; open runs are a part of those that want it.
        .where(runs_table.c.attention == 0, runs_table.c.status.in_(sorted(OPEN_RUN_STATES)))
        .where(device_tasks.c.status.in_(sorted(OPEN_TASK_STATES)))
        .group_by(device_tasks.c.status)
    )
    waiting = select(func.count()).select_from(node_commands).where(node_commands.c.acked_at.is_(None))
    return Contents(
        runs=await runs.count_by_status(tx, statuses=(), created_since_ms=None, workflow_id=None),
        open_tasks={TaskState(status): count for status, count in await tx.execute(tasks)},
        commands_open=int((await tx.execute(waiting)).scalar_one()),
    )
