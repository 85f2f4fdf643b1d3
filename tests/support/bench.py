"""An executor at a bench: one phone in memory, a spool, a reporter, and virtual time."""

import asyncio
from typing import Any

from tests.support.phones import MemoryPhone, MemoryPhones, MemorySpool, Told, executor_settings, plan, task
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import TaskOutcome
from muster.agent.preflight.gates import GATES
from muster.domain.task import TaskState

SHOT = {"id": "shot", "phase": "SCREENSHOT", "kind": "screenshot"}
UPLOAD = {"id": "upload", "phase": "UPLOAD", "kind": "upload", "source": "shot"}
WAITS = TaskState.WAITING
"""Here: the executor answered that the phone is not ready, and the task waits for it without a slot."""


def adb(step_id: str, command: str = "true", **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "kind": "adb", "command": command, **fields}


class Bench:
    """A phone, a spool and a reporter around one executor."""

    def __init__(self, phone: MemoryPhone | None = None, **settings: Any) -> None:
        self.phone = phone or MemoryPhone()
        self.phones = MemoryPhones()
        self.phones.add(self.phone)
        self.spool = MemorySpool()
        self.told = Told()
        self.settings = executor_settings(**settings)
        self.gates = GATES

    def run(self, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
        return run_in_virtual_time(self.execute(*steps, **head))

    async def execute(self, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
        executor = TaskExecutor(self.phones, self.spool, self.settings, LoopClock(), gates=self.gates)
        before = asyncio.all_tasks()
        outcome = await executor.execute(task(plan(*steps, **head), self.phone.device_id), self.told)
        assert asyncio.all_tasks() == before, "nothing is left running"
        assert self.phone.in_flight == 0, "no command is left open"
        return outcome if isinstance(outcome, TaskOutcome) else TaskOutcome(WAITS, outcome.reason, outcome.message)
