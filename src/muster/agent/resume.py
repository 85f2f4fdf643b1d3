"""What the agent does with its journal when it starts (R1.9): nothing recorded is lost, nothing hangs."""

from muster.agent.intake import plan_of
from muster.agent.journal import Journal
from muster.agent.narrate import Narrator
from muster.agent.ports import Task
from muster.contracts.commands import TaskAssignment
from muster.domain.task import TaskState
from muster.runtime.logs import get_logger

log = get_logger()


async def resume(journal: Journal, narrator: Narrator) -> list[Task]:
    """Answers the queued tasks, to be taken up again; those that were under way end as `node_restarted`."""
    plans = {start.run_id: plan_of(start) for start in await journal.open_runs()}
    cancelled = await journal.cancelled_tasks()
    tasks: list[Task] = []
    for known in await journal.open_tasks():
        plan = plans.get(known.run_id, "the journal has no such run")
        if known.task_id in cancelled:
            await journal.end_task(narrator.cancelled(known))
        elif known.state is not TaskState.QUEUED:
            await journal.end_task(narrator.node_restarted(known))
            log.warning("Task was cut off by a restart", run_id=known.run_id, device_id=known.device_id)
        elif isinstance(plan, str):
            assignment = TaskAssignment(task_id=known.task_id, device_id=known.device_id, attempt=known.attempt)
            for finished in narrator.unreadable(known.run_id, [assignment], plan):
                await journal.end_task(finished)
        else:
            tasks.append(Task(known.task_id, known.device_id, known.attempt, plan))
    return tasks
