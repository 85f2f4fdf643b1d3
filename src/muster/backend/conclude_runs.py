"""A run ends in the transaction in which its last open task does, by the backend's own count (spec/03)."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.run import conclude
from muster.domain.task import TaskState
from muster.runtime.logs import get_logger
from muster.store import runs, tasks

_log = get_logger()


async def conclude_runs(tx: AsyncConnection, run_ids: Collection[str], now_ms: int) -> None:
    """Ends those of `run_ids` in which nothing is open; corrects those that had ended on a presumption."""
    over = await tasks.runs_without_open_tasks(tx, run_ids) if run_ids else set()
    if not over:
        return
    counts, stopping = await tasks.count(tx, over), await runs.stopping(tx, over)
    for run_id in sorted(over):
        state = conclude(counts[run_id], stop_requested=run_id in stopping)
        if state is None:
            continue
        summary = {status.value: counts[run_id].get(status, 0) for status in TaskState if status.is_terminal}
        if await runs.finish(tx, run_id, state, now_ms):
            _log.info("Run finished", run_id=run_id, status=state.value, **summary)
        elif await runs.correct(tx, run_id, state):
            _log.info("Run corrected: a node came back with the truth", run_id=run_id, status=state.value, **summary)
