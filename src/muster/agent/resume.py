"""What the agent does with its journal when it starts (R1.9): nothing recorded is lost, nothing hangs."""

from dataclasses import replace

from muster.agent.intake import plan_of
from muster.agent.journal import Journal, JournaledTask
from muster.agent.narrate import CUT_OFF, Narrator
from muster.agent.ports import RunPlan, Task
from muster.contracts.commands import TaskAssignment
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.runtime.logs import get_logger

log = get_logger()


async def resume(journal: Journal, narrator: Narrator) -> list[Task]:
    """Answers the tasks to be taken up again: queued ones, parked ones, and those cut off that have an attempt left.

    Those that were under way and have none end as `node_restarted`; those that were asked to end end; of what the
    backend called stale nobody is told.
    """
    plans = {start.run_id: plan_of(start) for start in await journal.open_runs()}
    cancelled = await journal.cancelled_tasks()
    tasks: list[Task] = []
    for known in await journal.open_tasks():
        plan = plans.get(known.run_id, "the journal has no such run")
        if known.is_stale:
            log.warning("A stale attempt is not taken up", task_id=known.task_id, attempt=known.attempt)
            await journal.fence_task(narrator.fenced(known))
        elif known.task_id in cancelled:
            await journal.end_task(narrator.cancelled(known))
        elif isinstance(plan, str):
            assignment = TaskAssignment(task_id=known.task_id, device_id=known.device_id, attempt=known.attempt)
            for finished in narrator.unreadable(known.run_id, [assignment], plan):
                await journal.end_task(finished)
        elif known.state is TaskState.RUNNING:
            tasks.extend(await _cut_off(journal, narrator, known, plan))
        else:
            tasks.append(Task(known.task_id, known.device_id, known.attempt, plan))
    return tasks


async def _cut_off(journal: Journal, narrator: Narrator, known: JournaledTask, plan: RunPlan) -> list[Task]:
    log.warning("Task was cut off by a restart", run_id=known.run_id, device_id=known.device_id)
    if known.attempt >= plan.max_attempts:
        await journal.end_task(narrator.node_restarted(known))
        return []
    task = Task(known.task_id, known.device_id, known.attempt, plan)
    await journal.retry_task(narrator.attempt_failed(task, FailureReason.NODE_RESTARTED, CUT_OFF))
    return [replace(task, attempt=task.attempt + 1)]
