"""Work of which no node will tell the end: it ends here, or its run never would (spec/03, docs/adr/0014)."""

from collections.abc import Callable, Collection
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.conclude_runs import conclude_runs
from muster.backend.ingest_events import RunWatchers
from muster.domain.limits import STOP_OVERDUE_SEC
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.store import commands, presumptions, tasks
from muster.store.database import Database
from muster.store.dialects import AnyRows

_HEALS: Final = "its own result replaces this when it comes"
_log = get_logger()


class LostWork:
    """Ends tasks in the place of nodes. Every method raises StoreUnavailableError, and then nothing was done."""

    def __init__(self, database: Database, watchers: RunWatchers, clock: Clock) -> None:
        self._database = database
        self._watchers = watchers
        self._clock = clock

    async def give_up(self, node_ids: Collection[str], silence: Callable[[str], str | None]) -> None:
        """Ends what is open on lost nodes. `silence`: how long a node has been, in words; None: it has spoken since."""
        async with self._database.reading() as tx:
            concerned = {row.node_id for row in await tasks.open_on_nodes(tx, node_ids)} if node_ids else set()
        for node_id in sorted(concerned):
            async with self._database.writing() as tx:
                # It may have spoken while we waited for our turn to write.
                told = silence(node_id)
                ended = await self._give_up(tx, node_id, told) if told is not None else []
            self._tell(ended, "Node lost: its open tasks have ended", node_id)

    async def _give_up(self, tx: AsyncConnection, node_id: str, told: str) -> AnyRows:
        now_ms = self._clock.now_ms()
        untaken = [
            task["task_id"]
            for body in await commands.withdraw_starts_of_node(tx, node_id, now_ms)
            for task in body["tasks"]
        ]
        message = f"{told} and never took this task: nothing was done to the phone"
        certain = await presumptions.end_untaken(tx, untaken, message=message, now_ms=now_ms) if untaken else []
        message = f"presumed: {told}; {_HEALS}"
        presumed = await presumptions.presume_lost(tx, node_id, message=message, now_ms=now_ms)
        return await self._concluded(tx, [*certain, *presumed], now_ms)

    async def begin_afresh(self, node_id: str, instance_id: str) -> None:
        """An agent with an empty data folder speaks for the node: what another one took up is not known there."""
        async with self._database.writing() as tx:
            now_ms = self._clock.now_ms()
            message = f"presumed: {node_id} came back without its journal; {_HEALS}"
            ended = await presumptions.presume_forgotten(tx, node_id, instance_id, message=message, now_ms=now_ms)
            await self._concluded(tx, ended, now_ms)
        self._tell(ended, "Node without its journal: its open tasks have ended", node_id)

    async def end_overdue_stops(self, is_silent: Callable[[str], bool]) -> None:
        """Ends what a node should have ended when its run was stopped. Silent nodes are given their time."""
        before_ms = self._clock.now_ms() - STOP_OVERDUE_SEC * 1000
        async with self._database.reading() as tx:
            found = await presumptions.overdue_stops(tx, before_ms)
        for node_id in sorted(node_id for node_id in found if not is_silent(node_id)):
            async with self._database.writing() as tx:
                now_ms = self._clock.now_ms()
                message = f"presumed: {node_id} was told to stop and has not said what became of this task; {_HEALS}"
                ended = await presumptions.presume_stopped(
                    tx, node_id, acked_before_ms=before_ms, message=message, now_ms=now_ms
                )
                await self._concluded(tx, ended, now_ms)
            self._tell(ended, "Stopped tasks of which the node tells nothing have ended", node_id)

    async def _concluded(self, tx: AsyncConnection, ended: AnyRows, now_ms: int) -> AnyRows:
        await conclude_runs(tx, {row.run_id for row in ended}, now_ms)
        return ended

    def _tell(self, ended: AnyRows, what: str, node_id: str) -> None:
        for run_id, task_ids in by_run(ended).items():
            self._watchers.changed(run_id, task_ids)
        if ended:
            _log.warning(what, node_id=node_id, tasks=len(ended))


def by_run(rows: AnyRows) -> dict[str, set[str]]:
    """run → its tasks, of rows with run_id and task_id."""
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.run_id, set()).add(row.task_id)
    return found
