"""`POST /api/runs/{id}/stop`: what no node knows of ends at once, the rest when its node reports (spec/03)."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.bus import Bus
from muster.backend.conclude_runs import conclude_runs
from muster.backend.ingest_events import RunWatchers
from muster.contracts.api import RunStopped
from muster.contracts.commands import RunStop
from muster.domain.run import RunState
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger
from muster.store import audit, commands, runs, tasks
from muster.store.database import Database

_log = get_logger()


class StopRun:
    """Stops runs."""

    def __init__(self, database: Database, bus: Bus, watchers: RunWatchers, clock: Clock, new_id: NewId) -> None:
        self._database = database
        self._bus = bus
        self._watchers = watchers
        self._clock = clock
        self._new_id = new_id

    async def stop(self, run_id: str, actor: str) -> RunStopped | None:
        """Stops the run; None = there is no such run. Asked again, or of a run that has ended, it changes nothing."""
        async with self._database.writing() as tx:
            if await runs.find(tx, run_id) is None:
                return None
            is_new = await runs.request_stop(tx, run_id, self._clock.now_ms())
            cancelled = await self._stop(tx, run_id) if is_new else []
            if is_new:
                await self._note(tx, run_id, actor, len(cancelled))
            run = await runs.find(tx, run_id)
            assert run is not None, "runs are never deleted"
            answer = RunStopped(
                run_id=run_id,
                status=RunState(run.status),
                stop_requested_at=run.stop_requested_at,
                cancelled=len(cancelled),
                nodes=await tasks.nodes_at_work(tx, run_id),
            )
        if is_new:
            self._tell(answer, cancelled)
        return answer

    async def _stop(self, tx: AsyncConnection, run_id: str) -> list[str]:
        """Gives the tasks that ended at once."""
        now_ms = self._clock.now_ms()
        unsent = [
            task["task_id"] for body in await commands.withdraw_starts(tx, run_id, now_ms) for task in body["tasks"]
        ]
        message = "the run was stopped before the phone's turn came"
        cancelled = await tasks.cancel(tx, unsent, message=message, now_ms=now_ms) if unsent else []
        node_ids = await tasks.nodes_at_work(tx, run_id)
        if node_ids:
            await commands.hand_out_starts_again(tx, run_id)
            await commands.add(tx, [self._command(run_id, node_id, now_ms) for node_id in node_ids])
        await conclude_runs(tx, {run_id}, now_ms)
        return cancelled

    async def _note(self, tx: AsyncConnection, run_id: str, actor: str, cancelled: int) -> None:
        await audit.add(
            tx,
            audit_id=self._new_id(),
            at=self._clock.now_ms(),
            actor=actor,
            action="run.stop",
            subject=run_id,
            detail={"cancelled": cancelled},
        )

    def _command(self, run_id: str, node_id: str, now_ms: int) -> dict[str, Any]:
        command = RunStop(command_id=self._new_id(), run_id=run_id)
        return {
            "command_id": command.command_id,
            "node_id": node_id,
            "run_id": run_id,
            "type": command.type,
            "body": command.model_dump(mode="json"),
            "created_at": now_ms,
        }

    def _tell(self, answer: RunStopped, cancelled: Sequence[str]) -> None:
        for node_id in answer.nodes:
            self._bus.wake(node_id)
        self._watchers.changed(answer.run_id, cancelled)
        _log.info("Run stopped", run_id=answer.run_id, cancelled=answer.cancelled, nodes=len(answer.nodes))
