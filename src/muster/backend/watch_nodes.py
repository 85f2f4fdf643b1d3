"""Silent nodes (spec/03). Work is pinned to its node, so a silent node's open tasks first only *look* unreachable.

That overlay is computed, never stored, and heals by itself. After `lost_after_sec` the tasks end as `failed/node_lost`,
presumed, so that their run can end; the node's own word replaces that whenever it comes.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from muster.backend.ingest_events import RunWatchers
from muster.backend.lost_work import LostWork, by_run
from muster.backend.presence import Presence
from muster.domain.limits import DEVICE_ACTION_EXPIRY_SEC, NODE_LOST_AFTER_SEC_DEFAULT, ONLINE_WINDOW_SEC
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.store import audit, commands, tasks
from muster.store.database import Database, StoreUnavailableError
from muster.store.dialects import AnyRows

INTERVAL_SEC: Final = 2.0
EXPIRY_INTERVAL_SEC: Final = 60.0
_log = get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a node may be silent. Judges by ages (ms) of the backend's monotonic clock alone. Pure."""

    window_ms: int = ONLINE_WINDOW_SEC * 1000
    lost_after_ms: int = NODE_LOST_AFTER_SEC_DEFAULT * 1000

    def is_unreachable(self, silent_ms: int | None, awake_ms: int) -> bool:
        """Nothing was heard for the window, though the backend has listened for as long (amnesty after its restart)."""
        return min(awake_ms, awake_ms if silent_ms is None else silent_ms) > self.window_ms

    def is_lost(self, silent_ms: int | None, awake_ms: int) -> bool:
        """Nothing was heard for so long that its open tasks are given up. `silent_ms` None: nothing ever was."""
        long_ms = awake_ms if silent_ms is None else silent_ms
        return long_ms > self.lost_after_ms and self.is_unreachable(silent_ms, awake_ms)


class Silence:
    """Which nodes are silent at this moment, by what `Presence` heard."""

    def __init__(self, presence: Presence, clock: Clock, patience: Patience) -> None:
        self._presence = presence
        self._clock = clock
        self._patience = patience
        self._awake_since_sec = self._looked_sec = clock.monotonic()

    def stay_awake(self) -> None:
        """Called at every look. A process that was stopped for long heard nobody: amnesty.

        On Linux a PC that was suspended need not be noticed: the clock stood still with it, no time has passed.
        """
        now_sec = self._clock.monotonic()
        if now_sec - self._looked_sec > self._patience.window_ms / 1000:
            self._awake_since_sec = now_sec
        self._looked_sec = now_sec

    def is_unreachable(self, node_id: str) -> bool:
        """Whether its open tasks look unreachable."""
        return self._patience.is_unreachable(self._presence.node_silent_ms(node_id), self._awake_ms())

    def is_lost(self, node_id: str) -> bool:
        """Whether its open tasks are to be given up."""
        return self._patience.is_lost(self._presence.node_silent_ms(node_id), self._awake_ms())

    def _awake_ms(self) -> int:
        return round((self._clock.monotonic() - self._awake_since_sec) * 1000)

    def unreachable(self) -> frozenset[str]:
        """All silent nodes."""
        return frozenset(node_id for node_id in self._presence.node_ids() if self.is_unreachable(node_id))

    def told(self, node_id: str) -> str | None:
        """For how long a lost node has said nothing, in words; None: it is not lost."""
        if not self.is_lost(node_id):
            return None
        silent_ms = self._presence.node_silent_ms(node_id)
        since = "" if silent_ms is None else f" for {silent_ms // 1000} s"
        return f"{node_id} has not been heard of{since}"


class WatchNodes:
    """Looks at the nodes every INTERVAL_SEC."""

    def __init__(
        self,
        database: Database,
        presence: Presence,
        silence: Silence,
        lost_work: LostWork,
        watchers: RunWatchers,
        clock: Clock,
    ) -> None:
        self._database = database
        self._presence = presence
        self._silence = silence
        self._lost_work = lost_work
        self._watchers = watchers
        self._clock = clock
        self._expired_sec: float | None = None
        self._silent: frozenset[str] = frozenset()
        self._conditions: dict[str, Hashable] = {}

    async def keep_watching(self) -> None:
        """Looks for ever; a database that is gone for a while delays it."""
        while True:
            await self._clock.sleep(INTERVAL_SEC)
            try:
                await self.look()
            except StoreUnavailableError as error:
                _log.warning("Silent nodes could not be looked after", reason=str(error))

    async def look(self) -> None:
        """Tells what changed and gives lost nodes up. Raises StoreUnavailableError; the next look makes up for it."""
        self._silence.stay_awake()
        unreachable = self._silence.unreachable()
        await self._tell(unreachable)
        await self._lost_work.give_up([name for name in unreachable if self._silence.is_lost(name)], self._silence.told)
        await self._lost_work.end_overdue_stops(unreachable.__contains__)
        await self._expire_actions()

    async def _tell(self, unreachable: frozenset[str]) -> None:
        """Whoever watches a run sees at once when its node goes silent or into trouble, and when that is over."""
        turned = unreachable ^ self._silent
        known, now = self._conditions, self._presence.conditions()
        if changed := turned | {name for name in now if now[name] != known.get(name, now[name])}:
            async with self._database.reading() as tx:
                self._announce(await tasks.open_on_nodes(tx, changed))
        for node_id in sorted(turned):
            _log.info("Node silent" if node_id in unreachable else "Node heard again", node_id=node_id)
        self._silent, self._conditions = unreachable, now

    def _announce(self, rows: AnyRows) -> None:
        for run_id, task_ids in by_run(rows).items():
            self._watchers.changed(run_id, task_ids)

    async def _expire_actions(self) -> None:
        now_ms, now_sec = self._clock.now_ms(), self._clock.monotonic()
        if self._expired_sec is not None and now_sec - self._expired_sec < EXPIRY_INTERVAL_SEC:
            return
        async with self._database.writing() as tx:
            expired = await commands.expire_actions(tx, now_ms - DEVICE_ACTION_EXPIRY_SEC * 1000, now_ms)
            if expired:
                rows = [{"command": command_id, "error": commands.EXPIRED} for command_id in expired]
                await audit.answer(tx, rows, now_ms)
        self._expired_sec = now_sec
