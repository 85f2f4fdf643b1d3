"""Tells whoever cares for the phones of each task: around the executor, and around the ledger of how tasks end."""

from muster.agent.journal import TaskLedger
from muster.agent.ports import DeviceCare, Executor, NotReady, Reporter, Task, TaskOutcome
from muster.contracts.events import TaskFinished, TaskProgress, TaskStarted
from muster.domain.task import TaskState


class CaredExecutor:
    """Implements `ports.Executor`."""

    def __init__(self, executor: Executor, care: DeviceCare) -> None:
        self._executor = executor
        self._care = care

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:
        """See `Executor`."""
        await self._care.began(task.device_id)
        try:
            return await self._executor.execute(task, report)
        finally:
            self._care.left(task.device_id)


class CaredLedger:
    """Implements `TaskLedger`. Every end passes here: of tasks that ran, that waited in vain, that were never begun."""

    def __init__(self, ledger: TaskLedger, care: DeviceCare) -> None:
        self._ledger = ledger
        self._care = care

    async def begin_task(self, started: TaskStarted) -> bool:
        """See `TaskLedger`."""
        return await self._ledger.begin_task(started)

    async def record_progress(self, progress: TaskProgress) -> None:
        """See `TaskLedger`."""
        await self._ledger.record_progress(progress)

    async def park_task(self, waiting: TaskProgress) -> bool:
        """See `TaskLedger`."""
        return await self._ledger.park_task(waiting)

    async def retry_task(self, failed: TaskProgress) -> bool:
        """See `TaskLedger`. The task has not failed yet."""
        return await self._ledger.retry_task(failed)

    async def end_task(self, finished: TaskFinished) -> bool:
        """See `TaskLedger`."""
        is_recorded = await self._ledger.end_task(finished)
        # One that was skipped or cancelled says nothing of its phone.
        if is_recorded and finished.status in (TaskState.SUCCEEDED, TaskState.FAILED):
            await self._care.ended(finished.device_id, finished.failure_reason)
        return is_recorded

    async def fence_task(self, finished: TaskFinished) -> bool:
        """See `TaskLedger`. Of a stale attempt nothing is held against the phone."""
        return await self._ledger.fence_task(finished)
