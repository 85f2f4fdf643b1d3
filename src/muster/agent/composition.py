"""The node agent, put together from ports: the one place that knows which part talks to which.

The process (`agent/main.py`) and the simulated world (`tests/world`) build their agents here and nowhere else.
"""

import asyncio
import importlib.metadata
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from muster.agent.cared_parts import CaredExecutor, CaredLedger
from muster.agent.disk_room import DiskRoom
from muster.agent.executor.pictures import VerifyPicture, whole_png_in_thread
from muster.agent.executor.task import TaskExecutor
from muster.agent.heartbeat import Condition, HeartbeatLoop, HeartbeatSources, NodeFacts, VendorState
from muster.agent.journal import Journal, JournalError
from muster.agent.link import BackendLink, LinkError
from muster.agent.narrate import Narrator
from muster.agent.observe.port import NoObserver, Observer
from muster.agent.one_phone_locks import OnePhoneLocks
from muster.agent.orders import Orders
from muster.agent.outbox import OutboxSender
from muster.agent.picture_files import ON_DISK, PictureFiles
from muster.agent.ports import (
    DeviceActions,
    DeviceCare,
    DeviceOrder,
    ExecutorSettings,
    NoDeviceActions,
    NoDeviceCare,
    Phones,
    Task,
)
from muster.agent.preflight.gate import Gate
from muster.agent.preflight.gates import GATES, with_known_screen
from muster.agent.preflight.known_screen import Screens, ScreenWatch
from muster.agent.pull import PullLoop
from muster.agent.readiness import ProbedReadiness
from muster.agent.resume import resume
from muster.agent.scheduler.loop import DeviceLocks, LoopParts, SchedulerLoop
from muster.agent.secrets import NO_SECRETS, NodeSecrets
from muster.agent.spool import DiskSpool, SpoolSweeper
from muster.domain import limits
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger
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
    device_grace_wait_ms: int = limits.DEVICE_GRACE_WAIT_MS
    online_window_sec: float = limits.ONLINE_WINDOW_SEC
    allow_raw_shell: bool = False
    drain_grace_sec: float = DRAIN_GRACE_SEC
    state_dir: Path | None = None
    # None: `secrets.yaml` in the data folder, if there is one.
    secrets_file: Path | None = None
    # The recovery ladder may reboot a phone after a task on which it fell silent.
    allow_reboot: bool = False
    # None: this node starts no emulator.
    emulator_avd: str | None = None
    emulator_program: str = "emulator"
    emulator_gate_wait_ms: int = limits.EMULATOR_GATE_WAIT_MS
    # Where metrics and health are told on loopback; 0: a free port, None: nowhere.
    http_port: int | None = None
    # No run is taken when less than this is free on the data folder's disk.
    disk_bytes_min: int = limits.DISK_BYTES_MIN


class Rack(VendorState, Protocol):
    """The node's phones and what is told of changes among them."""

    @property
    def phones(self) -> Phones:
        """The rack as the agent's parts see it."""
        ...

    def subscribe(self, changed: asyncio.Event) -> None:
        """`changed` is set whenever a phone comes, goes or changes."""
        ...

    async def wait_settled(self) -> None:
        """Returns when what is attached has been announced, or has had its time."""
        ...


class NodeLink(BackendLink, Protocol):
    """The backend, and saying good-bye to it."""

    async def leave(self) -> None:
        """Gives the node's seat free, so that the next start under this id need not wait for it. Raises LinkError."""
        ...


@dataclass(frozen=True, slots=True)
class AgentPorts:
    """What is opened at the start and closed at the end, outside the tasks that use it."""

    clock: Clock
    rng: random.Random
    new_id: NewId
    link: NodeLink
    journal: Journal
    rack: Rack
    locks: DeviceLocks
    spool_folder: Path
    files: PictureFiles = ON_DISK
    verify_picture: VerifyPicture = whole_png_in_thread
    gates: Sequence[Gate] = GATES
    actions: DeviceActions = field(default_factory=NoDeviceActions)
    care: DeviceCare = field(default_factory=NoDeviceCare)
    secrets: NodeSecrets = NO_SECRETS
    observer: Observer = field(default_factory=NoObserver)
    # What is free where journal and spool are; None: unknown. Raises OSError.
    free_bytes: Callable[[], int | None] = lambda: None
    # How the node is, for the heartbeat.
    condition: Callable[[], Condition] = Condition


class Agent:
    """The loops, wired."""

    def __init__(self, settings: AgentSettings, ports: AgentPorts) -> None:
        clock, rng, journal, new_id = ports.clock, ports.rng, ports.journal, ports.new_id
        self._settings = settings
        self._ports = ports
        self._narrator = Narrator(settings.node_id, settings.concurrency, clock)
        self._sender = OutboxSender(journal, ports.link, clock=clock, rng=rng, new_id=new_id)
        self._spool = DiskSpool(ports.spool_folder, journal, ports.link, clock=clock, new_id=new_id, files=ports.files)
        self._sweeper = SpoolSweeper(self._spool, journal, narrator=self._narrator, clock=clock, rng=rng)
        self._sender.on_back = self._sweeper.wake
        self._news = asyncio.Event()
        self._screens = Screens()
        ports.rack.subscribe(self._news)
        self._room = DiskRoom(
            (journal, self._spool),
            ports.free_bytes,
            on_change=self._news.set,
            clock=clock,
            bytes_min=settings.disk_bytes_min,
        )

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Works until it is cancelled, then drains (spec/07) and raises CancelledError. Raises AgentCannotStart."""
        resumed = await self._resume()
        async with Background() as background:
            await self._work(background, *resumed, on_ready)

    async def _resume(self) -> tuple[list[Task], Sequence[DeviceOrder]]:
        """Tidies up after the last process; answers what it left undone. Raises AgentCannotStart."""
        try:
            await self._spool.tidy()
            self._screens.take_up(await self._ports.journal.last_at_phones(), self._ports.rack.phones)
            tasks = await resume(self._ports.journal, self._narrator)
            return tasks, await self._ports.journal.open_orders()
        except (JournalError, OSError) as error:
            raise AgentCannotStart(str(error)) from error

    async def _work(
        self,
        background: Background,
        resumed: list[Task],
        left: Sequence[DeviceOrder],
        on_ready: Callable[[str], None],
    ) -> None:
        """Until it is cancelled."""
        loop, orders = self._scheduler(background), self._orders(background)
        self._ports.observer.sees(loop, lambda: self._room.trouble, self._news.set)
        _ = background.start("disk", self._room.run())
        # What the last process told may be called stale before its tasks are taken up.
        stale: dict[str, int] = {}
        self._sender.on_stale = stale.__setitem__
        _ = background.start("outbox", self._sender.run())
        _ = background.start("heartbeat", self._heartbeats(loop).run())
        _ = background.start("spool", self._sweeper.run())
        _ = background.start("upkeep", self._keep_up())
        self._ports.journal.news.set()
        async with self._drained(loop):
            await self._ports.rack.wait_settled()
            # Only now: a task whose phone is not announced yet would be skipped as offline.
            # Orders first: a phone that is to be kept from tasks gets none, and no repair comes under a task's hands.
            orders.take_up(left)
            self._take_up(loop, resumed, stale)
            pulling = background.start("pull", self._pull(loop, orders).run())
            try:
                await self._told_the_backend()
                on_ready(f"muster agent {self._settings.node_id} ready")
                await asyncio.Event().wait()
            finally:
                pulling.cancel()

    def _scheduler(self, background: Background) -> SchedulerLoop:
        settings, ports = self._settings, self._ports
        readiness = ProbedReadiness(ports.rack.phones, ports.clock, ports.care)
        executor = TaskExecutor(
            ports.rack.phones,
            self._spool,
            ExecutorSettings(
                node_id=settings.node_id,
                upload_timeout_ms=settings.upload_timeout_ms,
                preflight_timeout_ms=settings.preflight_timeout_ms,
                device_grace_wait_ms=settings.device_grace_wait_ms,
                online_window_sec=settings.online_window_sec,
                allow_raw_shell=settings.allow_raw_shell,
                secrets=ports.secrets,
                files_folder=settings.data_dir.absolute() / "files",
            ),
            ports.clock,
            gates=with_known_screen(ports.gates, self._screens),
            verify=ports.verify_picture,
            readiness=readiness,
        )
        loop_parts = LoopParts(
            CaredExecutor(ScreenWatch(ports.observer.executor(executor), self._screens, ports.rack.phones), ports.care),
            CaredLedger(ports.journal, ports.care),
            OnePhoneLocks(ports.locks, ports.rack.phones),
            self._narrator,
            ports.clock,
            ports.rng,
            self._sweeper.wake,
            readiness,
            settings.device_grace_wait_ms / 1000,
            ports.observer.refilled,
        )
        return SchedulerLoop(settings.concurrency, loop_parts, background)

    def _heartbeats(self, loop: SchedulerLoop) -> HeartbeatLoop:
        async def outbox_depth() -> int:
            return (await self._ports.journal.depth()).total

        rack, sender = self._ports.rack, self._sender
        settings, version = self._settings, importlib.metadata.version("muster")
        facts = NodeFacts(settings.node_id, version, settings.concurrency, settings.emulator_avd is not None)
        sources = HeartbeatSources(
            rack.phones,
            rack,
            loop,
            outbox_depth,
            lambda: sender.degraded,
            lambda: self._room.trouble,
            self._ports.condition,
        )
        return HeartbeatLoop(facts, sources, sender.beat, changed=self._news, clock=self._ports.clock)

    def _orders(self, background: Background) -> Orders:
        ports = self._ports
        return Orders(
            ports.journal, ports.actions, background, narrator=self._narrator, clock=ports.clock, rng=ports.rng
        )

    def _pull(self, loop: SchedulerLoop, orders: Orders) -> PullLoop:
        ports = self._ports
        return PullLoop(
            ports.link,
            ports.journal,
            loop,
            orders,
            narrator=self._narrator,
            clock=ports.clock,
            rng=ports.rng,
            trouble=lambda: self._room.trouble,
        )

    def _take_up(self, loop: SchedulerLoop, resumed: list[Task], stale: Mapping[str, int]) -> None:
        if resumed:
            log.info("Queued tasks are taken up again", tasks=len(resumed))
            loop.submit(resumed)
        self._sender.on_stale = loop.fence
        for task_id, attempt in stale.items():
            loop.fence(task_id, attempt)

    async def _told_the_backend(self) -> None:
        """Waits for a heartbeat with the settled rack to be accepted, so that `ready` means: runs find the phones."""
        self._news.set()
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
                gone = await self._ports.journal.prune(self._ports.clock.now_ms() - limits.JOURNAL_KEEP_DAYS * _DAY_MS)
                log.debug("Journal pruned", runs=gone)
            except JournalError as error:
                log.error("The journal cannot be pruned", error=str(error))
            await self._ports.clock.sleep(UPKEEP_INTERVAL_SEC)

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
                await self._ports.link.leave()
        except (LinkError, TimeoutError) as error:
            log.debug("The backend was not told of the end", error=str(error))
