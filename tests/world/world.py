"""A world: the whole agent, its phones, its backend and its disk, in virtual time from one seed.

First everything may go wrong, and the checkers watch (safety). Then all is healed, and everything must finish within
a bounded time (liveness).
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from tests.world import checkers
from tests.world.backend import Backend
from tests.world.deeds import Deeds
from tests.world.disk import Disk, MemoryCommits, MemoryPictureFiles
from tests.world.faults import Plan, Spell, draw, roll_call
from tests.world.life import Life, MemoryLocks
from tests.world.link import MemoryLink, Network
from tests.world.loop import SeededLoop, Standstill
from tests.world.operator import Operator
from tests.world.orders import Orders
from tests.world.phones import SeenRack, SimPhone, SimRack
from tests.world.repairs import SimRepairs
from tests.world.streams import streams
from tests.world.trace import Trace, Violation
from tests.world.weather import Weather

from muster.agent.care import CareParts, PhoneCare
from muster.agent.composition import Agent, AgentCannotStart, AgentPorts, AgentSettings
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.quarantine_book import QuarantineBook
from muster.agent.reservations import Reservations
from muster.agent.scheduler.reporter import SUPERSEDED
from muster.domain.limits import DEVICE_GRACE_WAIT_MS
from muster.runtime.ids import id_source

NODE = "PC-01"
SPOOL = Path("spool")
START_MS = 1_800_000_000_000
LOOK_SEC = 1.0
# After healing: the longest waits of outbox, pull and takeover, and then each task its whole limit in its turn.
HEALING_SEC = 400.0
TASK_SEC = 120.0
DRAIN_SEC = 60.0


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a world. `violation` None: every promise held."""

    seed: int
    violation: str | None
    digest: str
    virtual_sec: float
    lives: int
    tasks: int
    events: int
    story: str


@dataclass
class _Clock:
    """`runtime.clock.Clock` of one process. `skew_ms`: how wrong the PC's wall clock is."""

    world: "World"

    def now_ms(self) -> int:
        return START_MS + round(self.world.now() * 1000) + self.world.weather.skew_ms

    def monotonic(self) -> float:
        return self.world.now()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class World:
    """Implements `checkers.Observed` and `deeds.Observed`."""

    def __init__(self, seed: int, only: Iterable[str] | None = None, *, keep: int = 60) -> None:
        self.seed = seed
        self.plan: Plan = draw(seed, only)
        self._failure: BaseException | None = None
        self._loop: SeededLoop | None = None
        self._over = False
        self._time = 0.0
        self.reserved: set[str] = set()
        self._stream = streams(seed)
        self.trace = Trace(self.now, self._fail, keep=keep)
        self.disk = Disk(self._stream)
        self.backend = Backend(NODE, self.trace, self.now, lost_after_sec=self.plan.node_lost_after_sec)
        self.network = Network(self._stream, self.after)
        self.rack = SimRack({device: self._phone(device) for device in self.plan.devices})
        # As their files do, they outlive the processes.
        self._quarantine = QuarantineBook(None, _Clock(self))
        self._reservations = Reservations(None, _Clock(self))
        self.lives = 0
        self._life: Life | None = None
        self._main: asyncio.Task[None] | None = None
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._entries = itertools.count()
        self._commits_to_live: int | None = None
        self._healed = False
        self._has_called_roll = False
        self._watch()
        self.weather = Weather(
            self.trace,
            self.network,
            self.disk,
            self.backend,
            self.rack,
            self._stream,
            lambda device: device in self._phones.held,
            self.reserved,
        )
        self._operator = Operator(self.backend, id_source(_Clock(self), self._stream("ids")), self.after)
        self._fill_agenda()

    @property
    def is_cared_for(self) -> bool:
        return "care" in self.plan.kinds

    @property
    def slots(self) -> int:
        return self.plan.slots

    @property
    def phones(self) -> Mapping[str, SimPhone]:
        return self.rack.phones

    def steps_of(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        return self._operator.steps_of(run_id)

    def now(self) -> float:
        return self._loop.time() if self._loop is not None else self._time

    def _head(self, device: str) -> str:
        return checkers.head(self, device)

    def _phone(self, device: str) -> SimPhone:
        phone = SimPhone(device, self._stream, self.now)
        phone.slowness = self.plan.slowness.get(device, 1.0)
        phone.fails = self.plan.fails.get(device, 0.0)
        phone.teardown_sec = self.plan.teardown_sec.get(device, phone.teardown_sec)
        return phone

    def _watch(self) -> None:
        self._phones = checkers.Phones(self)
        self._deeds = Deeds(self)
        self._orders = Orders(self)
        self._ledger = checkers.Ledger(self, self._acknowledged)
        self._turns = checkers.Turns(self, self._phones)
        self._delivery = checkers.Delivery(self, self._ledger, is_ordered="held" not in self.plan.kinds)
        for checker in (self._phones, self._turns, self._delivery, checkers.Attempts(self), self._deeds, self._orders):
            self.trace.watch(checker.see)
        self.disk.after_commit = self._committed

    def _acknowledged(self, command_id: str) -> None:
        self._deeds.acknowledged(command_id)
        self._orders.acknowledged(command_id)

    # ---- time --------------------------------------------------------------------------------------------------------

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Does it then, whichever life the agent lives by that time."""
        self.at(self.now() + seconds, what)

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (when, next(self._entries), what))
        if self._loop is not None:
            self._loop.call_at(when, self._turn)

    def _turn(self) -> None:
        while self._agenda and self._agenda[0][0] <= self.now():
            self._guarded(heapq.heappop(self._agenda)[2])

    def _guarded(self, what: Callable[[], None]) -> None:
        """A violation ends the world, wherever it is found."""
        try:
            what()
        except Violation as violation:
            self._fail(violation)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._over = True
        if self._loop is not None:
            self._loop.stop()

    # ---- what happens ------------------------------------------------------------------------------------------------

    def _fill_agenda(self) -> None:
        for number, order in enumerate(self.plan.runs):
            self.at(order.at, lambda order=order, number=number: self._operator.order(order, number))  # type: ignore[misc]
        for spell in self.plan.spells:
            if spell.start < self.plan.heal_at:
                self.at(spell.start, lambda spell=spell: self._strike(spell))  # type: ignore[misc]
                if spell.end > spell.start:
                    self.at(min(spell.end, self.plan.heal_at), lambda spell=spell: self.weather.relent(spell))  # type: ignore[misc]
        self.at(self.plan.heal_at, self._heal)
        self.at(LOOK_SEC, self._look)

    def _strike(self, spell: Spell) -> None:
        self.weather.strike(spell)
        if spell.kind in ("kill", "kill_at_commit", "restart"):
            self._end_life(spell.kind, int(spell.rate))
        elif spell.kind in ("cancel", "stop", "renew", "action"):
            self._operator.ask(spell.kind, int(spell.rate))

    def _heal(self) -> None:
        self._healed = True
        self._commits_to_live = None
        self.weather.heal()

    def _look(self) -> None:
        """Once a second: whether a slot is idle; after healing, whether all is done, or should be."""
        self.at(self.now() + LOOK_SEC, self._look)
        self.trace.flush()
        self._turns.look()
        self.backend.look_for_silence()
        if not self._healed or self._over or self._life is None or self._life.is_draining:
            return
        if self._is_quiet():
            self._is_done()
        elif self.now() > self.plan.heal_at + self._healing_sec():
            raise Violation(f"not finished {self.now() - self.plan.heal_at:.0f} s after everything was healed")

    def _is_done(self) -> None:
        """A last run calls every phone, or a slot or a phone that was never given back would not be missed."""
        if self._has_called_roll:
            self._over = True
            self._stop_politely()
            return
        self._has_called_roll = True
        self.trace.note("roll call")
        self._operator.order(roll_call(self.plan), len(self.plan.runs))

    def _healing_sec(self) -> float:
        tasks = sum(len(run.devices) for run in self.plan.runs) + len(self.plan.devices)
        return HEALING_SEC + TASK_SEC * (tasks / self.slots + len(self.plan.runs) + 1)

    def _is_quiet(self) -> bool:
        connection = self.disk.connection
        waiting = sum(
            connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("outbox", "spool", "orders")
        )
        ordered = len({task.run_id for task in self.backend.tasks.values()})
        all_ordered = ordered == len(self.plan.runs) + self._has_called_roll
        return all_ordered and not (
            self.backend.open_tasks or self.backend.unacknowledged or waiting or self._phones.held
        )

    # ---- the agent's lives -------------------------------------------------------------------------------------------

    def _end_life(self, kind: str, commits: int) -> None:
        if kind == "kill":
            self._kill()
        elif kind == "kill_at_commit":
            self._commits_to_live = commits
        else:
            self._stop_politely()

    def _committed(self) -> None:
        """It is on the disk; whoever asked for it does not know yet."""
        self._guarded(self._ledger.look)
        if self._commits_to_live is not None:
            self._commits_to_live -= 1
            if self._commits_to_live <= 0:
                self._commits_to_live = None
                self._kill()

    def _kill(self) -> None:
        if self._life is not None and not self._life.is_dead and self._loop is not None:
            self._life.is_dead = True
            self._loop.stop()

    def _stop_politely(self) -> None:
        if self._life is not None and self._main is not None and not self._life.is_draining:
            self._life.is_draining = True
            self.trace.note("life", self._life.number, "drains")
            self._main.cancel()
            life = self._life
            self.after(DRAIN_SEC + self.plan.drain_grace_sec, lambda: self._must_have_ended(life))

    def _must_have_ended(self, life: Life) -> None:
        if self._life is life:
            raise Violation(f"the agent was asked to stop {DRAIN_SEC + self.plan.drain_grace_sec:.0f} s ago and works")

    def live(self) -> None:
        """One process of the agent, from start to end."""
        self.lives += 1
        life = self._life = Life(self.lives)
        loop = self._loop = SeededLoop(self._stream(f"order {life.number}"), self._time)
        asyncio.set_event_loop(loop)
        for when, _, _ in self._agenda:
            loop.call_at(when, self._turn)
        loop.set_exception_handler(lambda _loop, context: self._fail(_unhandled(context)))
        try:
            self._main = loop.create_task(self._process(life))
            self._main.add_done_callback(lambda _: loop.stop())
            self.trace.note("life", life.number, "starts")
            loop.run_forever()
            self._account_for(life, self._main, loop)
        except (Standstill, Violation) as error:
            self._failure = self._failure or error
            self._over = True
        finally:
            life.is_dead = True
            self._time = loop.time()
            self._loop = self._life = self._main = None
            loop.bury()
            asyncio.set_event_loop(None)

    def _account_for(self, life: Life, main: asyncio.Task[None], loop: SeededLoop) -> None:
        if self._failure is not None:
            return
        if life.is_dead:
            self.trace.note("life", life.number, "killed")
            return
        self._check_end_of_process(main, loop)
        self.trace.note("life", life.number, "ends")

    def _check_end_of_process(self, main: asyncio.Task[None], loop: SeededLoop) -> None:
        if not main.cancelled():
            error = main.exception()
            if isinstance(error, AgentCannotStart):
                return
            raise Violation(f"the agent ended by itself: {error!r}") from error
        left = sorted(task.get_name() for task in asyncio.all_tasks(loop))
        if left:
            raise Violation(f"tasks are left running: {', '.join(left)}")
        if self._phones.held:
            raise Violation(f"locks are left held: {', '.join(self._phones.held)}")

    async def _process(self, life: Life) -> None:
        rng, start = self._stream(f"agent {life.number}"), self._stream(f"start {life.number}")
        await asyncio.sleep(0.0 if life.number == 1 else start.uniform(0.1, 5.0))
        clock = _Clock(self)

        def open_commits(_path: Path, prepare: Any, after_commit: Callable[[], None]) -> MemoryCommits:
            return MemoryCommits(self.disk, prepare, after_commit, life)

        journal = SqliteJournal(
            Path("journal"),
            new_id=id_source(clock, self._stream(f"journal {life.number}")),
            spool_folder=SPOOL,
            open_commits=open_commits,
        )
        rack = SeenRack(
            self.rack, self.trace, life, settle_sec=start.uniform(0.0, 2.0), why_held_back=self._quarantine.why
        )
        ports = AgentPorts(
            clock=clock,
            rng=rng,
            new_id=id_source(clock, self._stream(f"ids {life.number}")),
            link=MemoryLink(self.network, self.backend, self.disk, life),
            journal=journal,
            rack=rack,
            locks=MemoryLocks(life, self.trace, self.reserved, self._head),
            spool_folder=SPOOL,
            files=MemoryPictureFiles(self.disk, life),
            verify_picture=_as_it_is,
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(journal)
            if self.is_cared_for:
                care = await stack.enter_async_context(self._care(rack, clock, life))
                ports = replace(ports, actions=care, care=care)
            await Agent(self._settings(), ports).run(
                on_ready=lambda _line: self.trace.note("life", life.number, "settled")
            )

    def _care(self, rack: SeenRack, clock: _Clock, life: Life) -> PhoneCare:
        return PhoneCare(
            CareParts(
                phones=rack,
                repairs=SimRepairs(rack, clock, self._stream(f"repairs {life.number}")),
                book=self._quarantine,
                clock=clock,
                announce=self.rack.is_changed,
                server_lost_at=lambda: None,
                reservations=self._reservations,
                grace_ms=DEVICE_GRACE_WAIT_MS,
                may_reboot="reboot" in self.plan.kinds,
            )
        )

    def _settings(self) -> AgentSettings:
        return AgentSettings(
            backend_url="world",
            node_id=NODE,
            data_dir=Path(),
            secret=None,
            adb_server=("world", 1),
            vendor_url=None,
            concurrency=self.plan.slots,
            drain_grace_sec=self.plan.drain_grace_sec,
        )

    # ---- from beginning to end ---------------------------------------------------------------------------------------

    def run(self) -> Told:
        """Lives until all is done or a promise is broken."""
        with _quiet_logs(self):
            while not self._over:
                self.live()
        if self._failure is None:
            try:
                self._check_end()
            except Violation as violation:
                self._failure = violation
        self.disk.connection.close()
        return Told(
            seed=self.seed,
            violation=None if self._failure is None else f"{type(self._failure).__name__}: {self._failure}",
            digest=self.trace.digest,
            virtual_sec=self._time,
            lives=self.lives,
            tasks=len(self.backend.tasks),
            events=len(self.backend.applied),
            story="\n".join(map(str, self.trace.tail)),
        )

    def _check_end(self) -> None:
        checkers.agreement(self)
        self._deeds.at_end()
        self._orders.at_end(self._ledger)
        self._delivery.at_end()
        checkers.pictures(self, self._ledger)
        checkers.nothing_left(self, self._phones)

    def complain(self, event: str, error: object) -> None:
        """The agent itself says that it has a bug."""
        self._fail(Violation(f"the agent says: {event} ({error})"))


def run_seed(seed: int, only: Iterable[str] | None = None, *, keep: int = 60) -> Told:
    """One world from its seed. `only`: the kinds of fault that are on; None: as drawn."""
    return World(seed, only, keep=keep).run()


_BUGS = ("which is a bug", "breaks the contract")


async def _as_it_is(data: bytes) -> bytes:
    return data


def _unhandled(context: dict[str, Any]) -> BaseException:
    error = context.get("exception")
    if isinstance(error, Violation):
        return error
    return Violation(f"unhandled: {context.get('message')} {error!r}")


@contextmanager
def _quiet_logs(world: World) -> Iterator[None]:
    """Prints nothing; a line that speaks of a bug of the agent's is a violation."""

    def listen(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        said = str(event["event"])
        is_unheard_of = said == SUPERSEDED and event["task_id"] not in world.backend.renewed
        if is_unheard_of or any(words in said for words in _BUGS):
            world.complain(said, event.get("exc_info") or event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[listen], wrapper_class=structlog.make_filtering_bound_logger(30))
    try:
        yield
    finally:
        structlog.configure(**before)
