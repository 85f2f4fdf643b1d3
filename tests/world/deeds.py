"""What was really done on the phones, against what the backend was told. Nothing here looks into the agent's journal.

The order of runs is that in which the node acknowledged them; the deeds are the commands that reached a phone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tests.world.backend import Backend, BackendTask
from tests.world.checkers import NOT_OF_A_RUN
from tests.world.phones import SimPhone
from tests.world.trace import Entry, Violation

from muster.contracts.events import EventType
from muster.domain.task import TaskState


class Observed(Protocol):
    """What is looked at."""

    @property
    def backend(self) -> Backend: ...
    @property
    def phones(self) -> Mapping[str, SimPhone]: ...
    def steps_of(self, run_id: str) -> Sequence[Mapping[str, Any]]: ...


class Deeds:
    """Phones see runs in the order in which the node took note of them, and none once its end was told."""

    def __init__(self, world: Observed) -> None:
        self._world = world
        self._taken: dict[str, int] = {}
        self._latest: dict[str, int] = {}
        self._ended: Counter[str] = Counter()
        self._tasks: dict[tuple[str, str], BackendTask] = {}

    def acknowledged(self, command_id: str) -> None:
        """Committed: the node has taken note of this command."""
        run_id = self._world.backend.run_of(command_id)
        if run_id is not None:
            self._taken.setdefault(run_id[-6:], len(self._taken))

    def see(self, entry: Entry) -> None:
        match entry.kind, entry.fields:
            case "begins", (device, work) if work not in NOT_OF_A_RUN:
                self._begin(device, work)
            case "applied", (EventType.TASK_FINISHED, task, *_):
                self._end(task)

    def _begin(self, device: str, run: str) -> None:
        if run not in self._taken:
            raise Violation(f"work of run {run} begins on {device}, and the node took no note of that run")
        task = self._task(device, run)
        if task.task_id in self._world.backend.renewed:
            return
        if task.task_id[-6:] in self._ended:
            raise Violation(f"work of run {run} begins on {device}, and the backend was told of its end")
        if self._taken[run] < self._latest.get(device, 0):
            raise Violation(f"work of run {run} begins on {device} after work of a run that came later")
        self._latest[device] = self._taken[run]

    def _task(self, device: str, run: str) -> BackendTask:
        if (device, run) not in self._tasks:
            for task in self._world.backend.tasks.values():
                self._tasks[task.device_id, task.run_id[-6:]] = task
        return self._tasks[device, run]

    def _end(self, task: str) -> None:
        self._ended[task] += 1
        renewed = {task_id[-6:] for task_id in self._world.backend.renewed}
        if self._ended[task] > 1 and task not in renewed:
            raise Violation(f"task {task} ends twice")

    def at_end(self) -> None:
        """What succeeded was done, each of its steps; what was skipped was never begun."""
        for task in self._world.backend.tasks.values():
            phone, run = self._world.phones[task.device_id], task.run_id[-6:]
            if task.status is TaskState.SUCCEEDED:
                for step in self._world.steps_of(task.run_id):
                    if step["kind"] == "adb" and step.get("onFailure") != "continue":
                        self._must_be_done(task, phone, (run, step["command"].split()[-1]))
            is_skipped = task.status is TaskState.SKIPPED_OFFLINE and task.attempt == 1
            if is_skipped and run in phone.begun:
                raise Violation(f"task {task.task_id[-6:]} was skipped, and {task.device_id} saw work of it")

    def _must_be_done(self, task: BackendTask, phone: SimPhone, deed: tuple[str, str]) -> None:
        if deed not in phone.done:
            raise Violation(f"task {task.task_id[-6:]} succeeded, and {task.device_id} never did step {deed[1]}")
