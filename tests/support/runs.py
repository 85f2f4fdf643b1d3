"""Runs and tasks as values, and an in-memory implementation of what the console and the stream ask of the backend."""

import random
import uuid
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from muster.contracts.api import (
    ArtifactView,
    NodeCondition,
    NodePart,
    NodeView,
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
from muster.domain.run import RunState, RunTrigger, conclude
from muster.domain.task import StepState, TaskState
from muster.runtime.clock import Clock

STEPS = ("wake", "bootstrap", "open_app", "login", "settings", "screenshot", "upload", "home")
PHASES = ("bootstrap", "bootstrap", "login", "login", "login", "screenshot", "upload", "teardown")


def uid(*parts: object) -> str:
    """The same id for the same parts."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))))


class MemoryRuns:
    """Runs in memory. A test moves tasks with `move`; reads answer as the backend's queries do."""

    def __init__(self, clock: Clock) -> None:
        self.conditions: dict[str, NodeView] = {}
        self.clock = clock
        self._runs: dict[str, RunListItem] = {}
        self._tasks: dict[str, dict[str, TaskView]] = {}
        self._steps: dict[str, list[StepView]] = {}
        self._task_ids: dict[tuple[str, str], str] = {}
        self._counts: dict[str, Counter[TaskState]] = {}

    def add(
        self,
        name: str,
        *,
        devices: int = 20,
        nodes: int = 1,
        device_name: str = "SIM-{:04d}",
        workflow_id: str = "login_settings_screenshot_v1",
        **fields: Any,
    ) -> str:
        """A queued run over `devices` phones, spread over `nodes`; returns its id."""
        run_id, now = uid(name), self.clock.now_ms()
        self._tasks[run_id] = {
            uid(name, n): TaskView(
                task_id=uid(name, n),
                run_id=run_id,
                node_id=f"PC-{n * nodes // devices + 1:02d}",
                device_id=device_name.format(n + 1),
                runtime_handle=f"127.0.0.1:{5555 + n}",
                status=TaskState.QUEUED,
                steps_total=len(STEPS),
                updated_at=now,
            )
            for n in range(devices)
        }
        self._runs[run_id] = RunListItem(
            run_id=run_id,
            workflow_id=workflow_id,
            version=1,
            workflow_name=fields.pop("workflow_name", ""),
            trigger=RunTrigger.MANUAL,
            status=RunState.QUEUED,
            created_at=now,
            counts=TaskCounts(),
            **fields,
        )
        self._task_ids |= {(run_id, task.device_id): task_id for task_id, task in self._tasks[run_id].items()}
        self._counts[run_id] = Counter(task.status for task in self._tasks[run_id].values())
        self._conclude(run_id)
        return run_id

    def task(self, run_id: str, device_id: str) -> TaskView:
        return self._tasks[run_id][self._task_ids[run_id, device_id]]

    def tasks(self, run_id: str) -> list[TaskView]:
        return list(self._tasks[run_id].values())

    def move(self, run_id: str, device_id: str, status: TaskState, **fields: Any) -> str:
        """Puts a task into a state; returns the task's id for `LiveRuns.changed`."""
        task, now = self.task(run_id, device_id), self.clock.now_ms()
        times: dict[str, Any] = {}
        if status is TaskState.RUNNING and task.started_at is None:
            times["started_at"] = now
        if status.is_terminal:
            times["ended_at"] = now
            if task.started_at is not None:
                times["duration_ms"] = now - task.started_at
        if status is not TaskState.WAITING:
            times["wait_until"] = None
        reason = fields.get("failure_reason")
        if reason is not None:
            times["failure_class"] = FailureReason(reason).failure_class
        self._tasks[run_id][task.task_id] = task.model_copy(
            update={"status": status, "updated_at": now} | times | fields
        )
        self._counts[run_id].subtract([task.status])
        self._counts[run_id].update([status])
        self._conclude(run_id)
        return task.task_id

    def add_step(self, run_id: str, device_id: str, index: int, status: StepState, **fields: Any) -> None:
        """Writes step `index` of a task, replacing what was known of it."""
        task, now = self.task(run_id, device_id), self.clock.now_ms()
        steps = [step for step in self._steps.get(task.task_id, []) if step.step_index != index]
        steps.append(
            StepView(
                task_id=task.task_id,
                device_id=device_id,
                node_id=task.node_id,
                step_id=STEPS[index],
                step_index=index,
                phase=PHASES[index],
                kind=fields.pop("kind", "adb"),
                status=status,
                started_at=fields.pop("started_at", now),
                **fields,
            )
        )
        self._steps[task.task_id] = sorted(steps, key=lambda step: step.step_index)

    def add_screenshot(self, run_id: str, device_id: str) -> None:
        """A stored picture of the phone."""
        task = self.task(run_id, device_id)
        artifact_id = uid(task.task_id, "shot")
        artifact = ArtifactView(
            artifact_id=artifact_id,
            task_id=task.task_id,
            taken_at=self.clock.now_ms(),
            step_id="screenshot",
            storage_path=f"manual/{task.node_id}/{device_id}/{run_id}/1.png",
            sha256="0" * 64,
            size=1000,
        )
        self.add_step(run_id, device_id, 5, StepState.COMPLETED, kind="screenshot", artifact=artifact, duration_ms=412)
        self.move(run_id, device_id, task.status, artifact_id=artifact_id)

    # ---- what the backend's queries answer ----

    async def page(self, status: Collection[RunState] = (), *, cursor: str | None = None, limit: int = 50) -> RunPage:
        wanted = set(status)
        order = {RunState.FAILED: 0, RunState.COMPLETED_WITH_ERRORS: 0, RunState.RUNNING: 1, RunState.QUEUED: 1}
        runs = sorted(self._runs.values(), key=lambda run: (order.get(run.status, 2), -run.created_at))
        matching = [run for run in runs if not wanted or run.status in wanted]
        start = int(cursor or 0)
        counts = {state: sum(run.status is state for run in matching) for state in RunState}
        more = start + limit < len(matching)
        return RunPage(
            runs=matching[start : start + limit], counts=counts, next_cursor=str(start + limit) if more else None
        )

    async def snapshot(self, run_id: str) -> RunSnapshot | None:
        run = self._runs.get(run_id)
        tasks = self.tasks(run_id) if run else []
        nodes = self._conditions(tasks)
        return RunSnapshot(run=run, tasks=tasks, nodes=nodes, now=self.clock.now_ms()) if run else None

    async def delta(self, run_id: str, task_ids: Collection[str]) -> RunDelta | None:
        run = self._runs.get(run_id)
        tasks = [task for task in self.tasks(run_id) if task.task_id in task_ids] if run else []
        nodes = self._conditions(tasks)
        return RunDelta(run=run, tasks=tasks, nodes=nodes, now=self.clock.now_ms()) if run else None

    def node_views(self) -> list[NodeView]:
        return list(self.conditions.values())

    def condition(self, node_id: str) -> NodeCondition:
        return self.conditions.get(node_id) or NodeCondition(node_id=node_id)

    def _conditions(self, tasks: Iterable[TaskView]) -> list[NodeCondition]:
        return [self.condition(node_id) for node_id in sorted({task.node_id for task in tasks})]

    async def detail(self, run_id: str) -> RunDetail | None:
        run = self._runs.get(run_id)
        if run is None:
            return None
        tasks = self.tasks(run_id)
        nodes = [
            NodePart(
                **{name: getattr(self.condition(node), name) for name in NodeCondition.model_fields},
                online=True,
                counts=_counts(part := [t for t in tasks if t.node_id == node]),
                summary=_summary(part),
            )
            for node in sorted({task.node_id for task in tasks})
        ]
        return RunDetail(**dict(run), globalTimeoutMs=90_000, summary=_summary(tasks), nodes=nodes, tasks=tasks)

    async def steps(
        self, run_id: str, device_id: str | None = None, cursor: str | None = None, limit: int = 50
    ) -> StepPage:
        tasks = [task for task in self._tasks.get(run_id, {}).values() if device_id in (None, task.device_id)]
        steps = [step for task in tasks for step in self._steps.get(task.task_id, [])]
        start = int(cursor or 0)
        return StepPage(
            steps=steps[start : start + limit], next_cursor=str(start + limit) if start + limit < len(steps) else None
        )

    def _conclude(self, run_id: str) -> None:
        run, by_state, now = self._runs[run_id], self._counts[run_id], self.clock.now_ms()
        counts = TaskCounts(total=by_state.total(), **{state.value: by_state[state] for state in TaskState})
        ended = conclude(by_state)
        begun = counts.queued < counts.total
        status = ended or (RunState.RUNNING if begun else RunState.QUEUED)
        update: dict[str, Any] = {
            "counts": counts,
            "status": status,
            "ended_at": (run.ended_at or now) if ended else None,
        }
        if begun and run.started_at is None:
            update["started_at"] = now
        self._runs[run_id] = run.model_copy(update=update)


class RandomPhones:
    """Walks the tasks of a run through a plausible life, from one seed."""

    def __init__(self, runs: MemoryRuns, run_id: str, rng: random.Random) -> None:
        self._runs, self._run_id, self._rng = runs, run_id, rng
        self._open = [task.device_id for task in runs.tasks(run_id) if not task.status.is_terminal]

    def step(self) -> str | None:
        """Moves one open task a little; returns its id, or None when all have ended."""
        if not self._open:
            return None
        device_id = self._rng.choice(self._open)
        task_id = self._advance(self._runs.task(self._run_id, device_id))
        if self._runs.task(self._run_id, device_id).status.is_terminal:
            self._open.remove(device_id)
        return task_id

    def _advance(self, task: TaskView) -> str:
        move, roll = self._runs.move, self._rng.random()
        index = -1 if task.step_index is None else task.step_index
        if task.status is TaskState.QUEUED and roll < 0.04:
            return move(self._run_id, task.device_id, TaskState.SKIPPED_OFFLINE, error_message="last seen 4 min ago")
        if roll < 0.02 and index >= 0:
            return move(
                self._run_id,
                task.device_id,
                TaskState.FAILED,
                failure_reason=FailureReason.STEP_TIMEOUT,
                error_message=f"step {STEPS[index]} took longer than 30 s",
                failed_steps=[STEPS[index]],
            )
        if roll < 0.05 and index >= 0:
            return move(self._run_id, task.device_id, TaskState.WAITING, wait_until=self._runs.clock.now_ms() + 15_000)
        if index + 1 >= len(STEPS):
            self._runs.add_step(self._run_id, task.device_id, index, StepState.COMPLETED, duration_ms=900)
            return move(self._run_id, task.device_id, TaskState.SUCCEEDED)
        if index >= 0:
            self._runs.add_step(
                self._run_id,
                task.device_id,
                index,
                StepState.COMPLETED,
                duration_ms=900,
                exit_code=0,
                log_snippet=f"{STEPS[index]} on {task.device_id}: ok",
            )
        self._runs.add_step(self._run_id, task.device_id, index + 1, StepState.RUNNING)
        return move(
            self._run_id,
            task.device_id,
            TaskState.RUNNING,
            step_index=index + 1,
            step_id=STEPS[index + 1],
            phase=PHASES[index + 1],
        )


def _counts(tasks: Iterable[TaskView]) -> TaskCounts:
    states = [task.status for task in tasks]
    return TaskCounts(total=len(states), **{state.value: states.count(state) for state in TaskState})


def _summary(tasks: Iterable[TaskView]) -> RunSummary:
    listed = list(tasks)
    counts = _counts(listed)
    timeout = sum(task.failure_reason is not None and task.failure_reason.is_timeout for task in listed)
    return RunSummary(
        succeeded=counts.succeeded,
        failed=counts.failed,
        timeout=timeout,
        skipped_offline=counts.skipped_offline,
        cancelled=counts.cancelled,
    )
