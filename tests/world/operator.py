"""What people ask for: runs, and an end to them; and a backend that hands tasks out again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.world.backend import Backend
from tests.world.faults import RunOrder

from muster.domain.task import TaskState
from muster.runtime.ids import NewId

UNREADABLE = [{"id": "x", "kind": "never heard of"}]
# How long the command for a task that was handed out again is held up, half of the time.
HELD_UP_SEC = 25.0


@dataclass
class Operator:
    """`after`: does it so many virtual seconds later."""

    backend: Backend
    new_id: NewId
    after: Callable[[float, Callable[[], None]], None]
    _bodies: dict[str, dict[str, Any]] = field(default_factory=dict)

    def order(self, order: RunOrder, number: int) -> None:
        """A run, the world's `number`th."""
        definition: dict[str, Any] = {"workflow_id": f"world_v{number}", "steps": list(order.steps)}
        if not order.is_readable:
            definition["steps"] = UNREADABLE
        body: dict[str, Any] = {
            "type": "run_start",
            "command_id": self.new_id(),
            "run_id": self.new_id(),
            "workflow_id": f"world_v{number}",
            "version": 1,
            "definition": definition,
            "globalTimeoutMs": order.timeout_ms,
            "maxAttempts": order.max_attempts,
            "tasks": [{"task_id": self.new_id(), "device_id": device, "attempt": 1} for device in order.devices],
        }
        self._bodies[body["run_id"]] = body
        self.backend.command(body)

    def steps_of(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        """Of its recipe."""
        steps: Sequence[Mapping[str, Any]] = self._bodies[run_id]["definition"]["steps"]
        return steps

    def ask(self, kind: str, which: int) -> None:
        """What an operator does, to a task of the runs so far."""
        tasks = list(self.backend.tasks.values())
        if not tasks:
            return
        if which % 3:
            tasks = [task for task in tasks if task.status is TaskState.RUNNING] or tasks
        task = tasks[which * 7919 % len(tasks)]
        command = {"command_id": self.new_id()}
        match kind:
            case "cancel":
                self.backend.command({**command, "type": "task_cancel", "task_id": task.task_id})
            case "stop":
                self.backend.command({**command, "type": "run_stop", "run_id": task.run_id})
            case "renew" if self._bodies[task.run_id]["definition"]["steps"] != UNREADABLE:
                body, assigned = {**self._bodies[task.run_id], **command}, self.backend.renew(task)
                # Half of the time the node hears of it first by what it is answered.
                self.after(HELD_UP_SEC * (which % 2), lambda: self.backend.command_again(body, assigned))
            case "action":
                self.backend.command(
                    {**command, "type": "device_action", "device_id": task.device_id, "action": "reconnect"}
                )
