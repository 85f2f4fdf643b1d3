"""The node agent, put together: the one place that knows which part talks to which."""

import asyncio
import importlib.metadata
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster.agent.executor.task import TaskExecutor
from muster.agent.heartbeat import HeartbeatLoop, HeartbeatSources, NodeFacts
from muster.agent.http_link import HttpLink
from muster.agent.journal import JournalError
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.link import LinkError
from muster.agent.locks import AlreadyRunningError, DeviceFileLocks, NodeLock, state_folder
from muster.agent.narrate import Narrator
from muster.agent.outbox import OutboxSender
from muster.agent.ports import ExecutorSettings, Task
from muster.agent.pull import PullLoop
from muster.agent.rack import AttachedRack, RackSettings
from muster.agent.resume import resume
from muster.agent.scheduler.loop import LoopParts, SchedulerLoop
from muster.agent.spool import DiskSpool, SpoolSweeper
from muster.client.http import MusterClient
from muster.domain import limits
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.ids import id_source
from muster.runtime.logs import bind_context, get_logger
from muster.runtime.private_folder import make_private
from muster.runtime.supervision import Background

log = get_logger()
READY_WITHOUT_BACKEND_SEC: Final = 5.0
DRAIN_GRACE_SEC: Final = 20.0
FLUSH_SEC: Final = 5.0
LEAVE_SEC: Final = 2.0
UPKEEP_INTERVAL_SEC: Final = 24 * 3600.0
_DAY_MS: Final = 24 * 3600 * 1000


class AgentCannotStart(Exception):
    """Why, and what to do; fit for an operator."""


@dataclass(frozen=True)
class AgentSettings:
    """All that an agent is told. `vendor_url` None: no vendor tool. `state_dir` None: the user's own (agent/locks)."""

    backend_url: str
    node_id: str
    data_dir: Path
    secret: str | None
    adb_server: tuple[str, int]
    vendor_url: str | None
    concurrency: int = limits.CONCURRENCY_PER_NODE_DEFAULT
    upload_timeout_ms: int = limits.UPLOAD_TIMEOUT_MS_DEFAULT
    preflight_timeout_ms: int = limits.PREFLIGHT_TIMEOUT_MS
    allow_raw_shell: bool = False
    drain_grace_sec: float = DRAIN_GRACE_SEC
    state_dir: Path | None = None


async def run_agent(settings: AgentSettings, *, on_ready: Callable[[str], None]) -> None:
    """Works until it is cancelled, then drains (spec/07) and raises CancelledError. Raises AgentCannotStart."""
    with bind_context(node_id=settings.node_id):
        async with AsyncExitStack() as stack:
            parts = await _open(settings, stack)
            agent = _Agent(settings, parts)
            resumed = await agent.resume()
            async with Background() as background:
                await agent.work(background, resumed, on_ready)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is opened at the start and closed at the end, outside the tasks that use it."""

    clock: Clock
    rng: random.Random
    client: MusterClient
    journal: SqliteJournal
    rack: AttachedRack
    locks: DeviceFileLocks
    spool_folder: Path


async def _open(settings: AgentSettings, stack: AsyncExitStack) -> _Parts:
    clock = SystemClock()
    folder = settings.data_dir.absolute() / "agent"
    state_dir = settings.state_dir or state_folder()
    try:
        make_private(folder / "spool")
        stack.enter_context(NodeLock(state_dir, folder, settings.backend_url, settings.node_id))
        locks = stack.enter_context(DeviceFileLocks(state_dir, settings.adb_server))
        client = await stack.enter_async_context(MusterClient(settings.backend_url, secret=settings.secret))
        journal = SqliteJournal(folder / "journal.sqlite3", new_id=id_source(clock), spool_folder=folder / "spool")
        await stack.enter_async_context(journal)
    except (AlreadyRunningError, JournalError, OSError, ValueError) as error:
        raise AgentCannotStart(str(error)) from error
    rack_settings = RackSettings(*settings.adb_server, settings.vendor_url, folder)
    rack = await stack.enter_async_context(AttachedRack(rack_settings, clock))
    return _Parts(clock, random.SystemRandom(), client, journal, rack, locks, folder / "spool")


class _Agent:
    """The loops, wired."""

    def __init__(self, settings: AgentSettings, parts: _Parts) -> None:
        clock, rng, journal = parts.clock, parts.rng, parts.journal
        self._settings = settings
        self._parts = parts
        self._new_id = id_source(clock)
        self._narrator = Narrator(settings.node_id, settings.concurrency, clock)
        self._link = HttpLink(
            parts.client,
            node_id=settings.node_id,
            instance_id=self._new_id(),
            upload_timeout_sec=settings.upload_timeout_ms / 1000,
        )
        self._sender = OutboxSender(journal, self._link, clock=clock, rng=rng, new_id=self._new_id)
        self._spool = DiskSpool(parts.spool_folder, journal, self._link, clock=clock, new_id=self._new_id)
        self._sweeper = SpoolSweeper(self._spool, journal, narrator=self._narrator, clock=clock, rng=rng)
        self._devices_changed = asyncio.Event()
        parts.rack.subscribe(self._devices_changed)

    async def resume(self) -> list[Task]:
        """Tidies up after the last process; answers the tasks that it left queued. Raises AgentCannotStart."""
        try:
            await self._spool.tidy()
            return await resume(self._parts.journal, self._narrator)
        except (JournalError, OSError) as error:
            raise AgentCannotStart(str(error)) from error

    async def work(self, background: Background, resumed: list[Task], on_ready: Callable[[str], None]) -> None:
        """Until it is cancelled."""
        loop = self._scheduler(background)
        _ = background.start("outbox", self._sender.run())
        _ = background.start("heartbeat", self._heartbeats(loop).run())
        _ = background.start("spool", self._sweeper.run())
        _ = background.start("upkeep", self._keep_up())
        self._parts.journal.news.set()
        async with self._drained(loop):
            await self._parts.rack.wait_settled()
            # Only now: a task whose phone is not announced yet would be skipped as offline.
            self._take_up(loop, resumed)
            pulling = background.start("pull", self._pull(loop).run())
            try:
                await self._told_the_backend()
                on_ready(f"muster agent {self._settings.node_id} ready")
                await asyncio.Event().wait()
            finally:
                pulling.cancel()

    def _scheduler(self, background: Background) -> SchedulerLoop:
        settings, parts = self._settings, self._parts
        executor = TaskExecutor(
            parts.rack.phones,
            self._spool,
            ExecutorSettings(
                node_id=settings.node_id,
                upload_timeout_ms=settings.upload_timeout_ms,
                preflight_timeout_ms=settings.preflight_timeout_ms,
                allow_raw_shell=settings.allow_raw_shell,
            ),
            parts.clock,
        )
        loop_parts = LoopParts(
            executor, parts.journal, parts.locks, self._narrator, parts.clock, parts.rng, self._sweeper.wake
        )
        return SchedulerLoop(settings.concurrency, loop_parts, background)

    def _heartbeats(self, loop: SchedulerLoop) -> HeartbeatLoop:
        async def outbox_depth() -> int:
            return (await self._parts.journal.depth()).total

        rack, sender = self._parts.rack, self._sender
        facts = NodeFacts(self._settings.node_id, importlib.metadata.version("muster"), self._settings.concurrency)
        sources = HeartbeatSources(rack.phones, rack, loop, outbox_depth, lambda: sender.degraded)
        return HeartbeatLoop(facts, sources, sender.beat, changed=self._devices_changed, clock=self._parts.clock)

    def _pull(self, loop: SchedulerLoop) -> PullLoop:
        parts = self._parts
        return PullLoop(
            self._link, parts.journal, loop.submit, narrator=self._narrator, clock=parts.clock, rng=parts.rng
        )

    def _take_up(self, loop: SchedulerLoop, resumed: list[Task]) -> None:
        if resumed:
            log.info("Queued tasks are taken up again", tasks=len(resumed))
            loop.submit(resumed)

    async def _told_the_backend(self) -> None:
        """Waits for a heartbeat with the settled rack to be accepted, so that `ready` means: runs find the phones."""
        self._devices_changed.set()
        try:
            async with asyncio.timeout(READY_WITHOUT_BACKEND_SEC):
                await self._sender.next_beat_accepted()
        except TimeoutError:
            log.warning(
                "The backend has not taken a heartbeat yet; going on without it", url=self._settings.backend_url
            )

    async def _keep_up(self) -> None:
        while True:
            try:
                gone = await self._parts.journal.prune(self._parts.clock.now_ms() - limits.JOURNAL_KEEP_DAYS * _DAY_MS)
                log.debug("Journal pruned", runs=gone)
            except JournalError as error:
                log.error("The journal cannot be pruned", error=str(error))
            await self._parts.clock.sleep(UPKEEP_INTERVAL_SEC)

    @asynccontextmanager
    async def _drained(self, loop: SchedulerLoop) -> AsyncIterator[None]:
        """On the way out: running tasks end within a grace, what they did is told, the node's seat is given free."""
        try:
            yield
        finally:
            log.info("Draining", running=loop.running)
            await loop.drain(self._settings.drain_grace_sec)
            if not await self._sender.flush(FLUSH_SEC):
                log.warning("Some events are not told yet; they wait in the journal")
            await self._leave()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SEC):
                await self._link.leave()
        except (LinkError, TimeoutError) as error:
            log.debug("The backend was not told of the end", error=str(error))
