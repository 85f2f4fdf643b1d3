"""`POST /api/runs`: the run, its tasks and the commands to the nodes, in one transaction (R3.1, spec/03)."""

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.bus import Bus
from muster.backend.presence import DeviceRecord, Presence
from muster.backend.refusal import ProblemSlug, Refusal
from muster.backend.time_limits import check_overrides
from muster.contracts.api import CreateRun, FieldError, RunCreated, Target
from muster.contracts.commands import RunStart, TaskAssignment
from muster.domain.limits import DEVICES_PER_NODE_MAX
from muster.domain.run import RunState, conclude
from muster.domain.task import TaskState
from muster.recipe.parse import parse_recipe
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger
from muster.store import audit, commands, runs, tasks, workflows
from muster.store.database import Database
from muster.store.dialects import AnyRow

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The run, and whether this request made it (201) or an earlier one with the same key did (200)."""

    run: RunCreated
    is_new: bool


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is about to be written."""

    run_id: str
    now_ms: int
    request: CreateRun
    pinned: AnyRow
    tasks: list[dict[str, Any]]
    warnings: list[FieldError]
    global_timeout_ms: int

    @property
    def status(self) -> RunState:
        skipped = len([task for task in self.tasks if task["status"] == TaskState.SKIPPED_OFFLINE])
        counts = {TaskState.SKIPPED_OFFLINE: skipped, TaskState.QUEUED: len(self.tasks) - skipped}
        return conclude(counts) or RunState.QUEUED


class CreateRunUseCase:
    """Makes runs."""

    def __init__(
        self, database: Database, presence: Presence, bus: Bus, clock: Clock, new_id: NewId, task_timeout_ms: int
    ) -> None:
        """`task_timeout_ms`: the limit of a task of which neither request nor recipe says one."""
        self._database = database
        self._presence = presence
        self._task_timeout_ms = task_timeout_ms
        self._bus = bus
        self._clock = clock
        self._new_id = new_id

    async def create(self, request: CreateRun, actor: str, idempotency_key: str | None = None) -> Accepted | Refusal:
        """Makes the run, or says at which field it cannot. `actor`: who asked for it, for the audit log."""
        async with self._database.writing() as tx:
            if idempotency_key is not None and (earlier := await self._earlier(tx, request, idempotency_key)):
                return earlier
            plan = await self._plan(tx, request)
            if isinstance(plan, Refusal):
                return plan
            node_ids = await self._write(tx, plan)
            await self._note(tx, plan, actor)
            if idempotency_key is not None:
                await runs.remember_key(
                    tx,
                    key=idempotency_key,
                    body_hash=_hash(request),
                    run_id=plan.run_id,
                    answer=_created(plan).model_dump(mode="json"),
                    created_at=plan.now_ms,
                )
        for node_id in node_ids:
            self._bus.wake(node_id)
        _log.info("Run created", run_id=plan.run_id, workflow_id=request.workflow_id, tasks=len(plan.tasks))
        return Accepted(_created(plan), is_new=True)

    async def _earlier(self, tx: AsyncConnection, request: CreateRun, key: str) -> Accepted | Refusal | None:
        known = await runs.find_key(tx, key)
        if known is None:
            return None
        if known.body_hash != _hash(request):
            return Refusal.of_field(
                ProblemSlug.IDEMPOTENCY_KEY_REUSED,
                "Idempotency-Key",
                "this key was used for another request; take a new one",
            )
        return Accepted(RunCreated.model_validate(known.answer), is_new=False)

    async def _plan(self, tx: AsyncConnection, request: CreateRun) -> "_Plan | Refusal":
        pinned = await workflows.find(tx, request.workflow_id, request.version)
        if pinned is None:
            return await _unknown_workflow(tx, request)
        recipe = parse_recipe(pinned.definition).recipe
        if recipe is None:
            return Refusal.of_field(
                ProblemSlug.INVALID_RECIPE, "workflow_id", "the stored recipe is not valid any more; save it anew"
            )
        limit_ms = request.global_timeout_ms or recipe.task_limit_ms(self._task_timeout_ms)
        wrong = check_overrides(recipe, request.timeout_overrides, limit_ms)
        if wrong:
            return Refusal(ProblemSlug.INVALID_FIELD, "a time limit is not possible", tuple(wrong))
        devices = self._matching(request.target)
        if not devices:
            return Refusal.of_field(
                ProblemSlug.NO_MATCHING_DEVICE, "target", "no device that was ever seen matches the target"
            )
        now_ms, run_id = self._clock.now_ms(), self._new_id()
        rows = [self._task(run_id, device, now_ms) for device in devices]
        return _Plan(run_id, now_ms, request, pinned, rows, self._unmatched(request.target), limit_ms)

    def _matching(self, target: Target) -> list[DeviceRecord]:
        return [
            device
            for device in self._presence.known_devices()
            if (target.node_ids is None or device.node_id in target.node_ids)
            and (target.device_ids is None or device.device_id in target.device_ids)
        ]

    def _unmatched(self, target: Target) -> list[FieldError]:
        nodes = [
            FieldError(field=f"target.node_ids[{index}]", message=f"no node {node_id} was ever heard of")
            for index, node_id in enumerate(target.node_ids or [])
            if not self._presence.has_node(node_id)
        ]
        devices = [
            FieldError(field=f"target.device_ids[{index}]", message=f"no device {device_id} was ever seen")
            for index, device_id in enumerate(target.device_ids or [])
            if self._presence.device(device_id) is None
        ]
        return nodes + devices

    def _task(self, run_id: str, device: DeviceRecord, now_ms: int) -> dict[str, Any]:
        may_work = self._presence.may_work(device)
        return {
            "task_id": self._new_id(),
            "run_id": run_id,
            "node_id": device.node_id,
            "device_id": device.device_id,
            "runtime_handle": device.runtime_handle,
            "status": TaskState.QUEUED if may_work else TaskState.SKIPPED_OFFLINE,
            "attempt": 1,
            "error_message": None if may_work else device.last_error_message or self._last_seen(device),
            "failed_steps": [],
            "ended_at": None if may_work else now_ms,
            "updated_at": now_ms,
        }

    def _last_seen(self, device: DeviceRecord) -> str:
        silent_ms = self._presence.device_silent_ms(device.device_id)
        if silent_ms is None:
            return "offline: it never answered"
        return f"offline: last seen {silent_ms // 1000} s before the run was created"

    async def _write(self, tx: AsyncConnection, plan: _Plan) -> list[str]:
        """Writes it all; gives the nodes that have something to do."""
        ended_at = plan.now_ms if plan.status.is_terminal else None
        await runs.add(tx, **_run_row(plan), started_at=ended_at, ended_at=ended_at)
        await tasks.add(tx, plan.tasks)
        by_node: defaultdict[str, list[TaskAssignment]] = defaultdict(list)
        for task in plan.tasks:
            if task["status"] == TaskState.QUEUED:
                by_node[task["node_id"]].append(TaskAssignment(task_id=task["task_id"], device_id=task["device_id"]))
        rows = [
            self._command(plan, node_id, some)
            for node_id, assignments in by_node.items()
            for some in _portions(assignments)
        ]
        if rows:
            await commands.add(tx, rows)
        return list(by_node)

    async def _note(self, tx: AsyncConnection, plan: _Plan, actor: str) -> None:
        await audit.add(
            tx,
            audit_id=self._new_id(),
            at=plan.now_ms,
            actor=actor,
            action="run.create",
            subject=plan.run_id,
            detail={
                "workflow_id": plan.request.workflow_id,
                "version": plan.pinned.version,
                "trigger": plan.request.trigger,
                "phones": len(plan.tasks),
            },
        )

    def _command(self, plan: _Plan, node_id: str, assignments: list[TaskAssignment]) -> dict[str, Any]:
        command = RunStart(
            command_id=self._new_id(),
            run_id=plan.run_id,
            video_id=plan.request.video_id,
            workflow_id=plan.request.workflow_id,
            version=plan.pinned.version,
            definition=plan.pinned.definition,
            params=plan.request.params,
            timeout_overrides=plan.request.timeout_overrides,
            global_timeout_ms=plan.global_timeout_ms,
            max_attempts=plan.request.max_attempts,
            tasks=assignments,
        )
        return {
            "command_id": command.command_id,
            "node_id": node_id,
            "run_id": plan.run_id,
            "type": command.type,
            "body": command.model_dump(mode="json", by_alias=True),
            "created_at": plan.now_ms,
        }


async def _unknown_workflow(tx: AsyncConnection, request: CreateRun) -> Refusal:
    versions = await workflows.versions(tx, request.workflow_id)
    if not versions:
        return Refusal.of_field(
            ProblemSlug.UNKNOWN_WORKFLOW, "workflow_id", f"there is no workflow {request.workflow_id}"
        )
    return Refusal.of_field(
        ProblemSlug.UNKNOWN_WORKFLOW,
        "version",
        f"{request.workflow_id} has no version {request.version}; its newest is {versions[-1]}",
    )


def _portions(assignments: list[TaskAssignment]) -> list[list[TaskAssignment]]:
    """A command holds at most DEVICES_PER_NODE_MAX tasks."""
    starts = range(0, len(assignments), DEVICES_PER_NODE_MAX)
    return [assignments[start : start + DEVICES_PER_NODE_MAX] for start in starts]


def _run_row(plan: _Plan) -> dict[str, Any]:
    request = plan.request
    return {
        "run_id": plan.run_id,
        "workflow_id": request.workflow_id,
        "version": plan.pinned.version,
        "video_id": request.video_id,
        "trigger": request.trigger,
        "status": plan.status,
        "params": request.params,
        "timeout_overrides": request.timeout_overrides,
        "global_timeout_ms": plan.global_timeout_ms,
        "max_attempts": request.max_attempts,
        "target": request.target.model_dump(mode="json", exclude_none=True),
        "metadata": request.metadata,
        "created_at": plan.now_ms,
    }


def _created(plan: _Plan) -> RunCreated:
    return RunCreated(
        run_id=plan.run_id,
        workflow_id=plan.request.workflow_id,
        version=plan.pinned.version,
        status=plan.status,
        created_at=plan.now_ms,
        warnings=plan.warnings,
    )


def _hash(request: CreateRun) -> str:
    """The same request has the same hash, in whatever order its fields came."""
    text = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
