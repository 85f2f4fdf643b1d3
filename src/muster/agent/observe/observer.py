"""Watches one agent at work: counts, looks at its health every few seconds, and tells both on loopback."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest

from muster.agent.group_commit import Commits, GroupCommit, Work
from muster.agent.heartbeat import Condition, Workload
from muster.agent.journal import JournalError, JournalFigures
from muster.agent.observe.figures import Figures, FiguresCollector
from muster.agent.observe.health import Finding, Seen, examine
from muster.agent.observe.http import Ask, Page
from muster.agent.observe.instruments import Instruments
from muster.agent.observe.parts import (
    LinkState,
    NodeLink,
    ObservedCommits,
    ObservedExecutor,
    ObservedLink,
)
from muster.agent.ports import Executor, Phones
from muster.contracts.events import NodeTrouble
from muster.domain.trouble import Trouble
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
HEALTH_INTERVAL_SEC: Final = 5.0
LAG_INTERVAL_SEC: Final = 0.5
FIGURES_TIMEOUT_SEC: Final = 3.0


class WatchedRack(Protocol):
    """The rack, as far as its health goes."""

    @property
    def phones(self) -> Phones:
        """Who is there."""
        ...

    @property
    def adb_ok(self) -> bool:
        """The adb server answers."""
        ...

    @property
    def adb_gone(self) -> bool:
        """It has been found not to answer."""
        ...

    @property
    def adb_restarts(self) -> int:
        """Times it was gone and came back."""
        ...

    @property
    def vendor_ok(self) -> bool:
        """The vendor tool answers."""
        ...

    @property
    def vendor_returns(self) -> int:
        """Times it was silent and answered again."""
        ...


class WatchedJournal(Protocol):
    """The journal, as far as its figures go."""

    async def figures(self) -> JournalFigures:
        """See `journal.Journal`."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while the agent runs."""

    node_id: str
    version: str
    slots: int
    has_vendor: bool
    data_dir: Path


@dataclass(frozen=True, slots=True)
class Health:
    """`since_ms`: when each trouble was first seen, epoch ms."""

    findings: tuple[Finding, ...] = ()
    since_ms: Mapping[Trouble, int] | None = None

    @property
    def can_work(self) -> bool:
        """Tasks can be executed."""
        return not any(finding.trouble.stops_work for finding in self.findings)


class AgentObserver:
    """Implements `port.Observer`. Give it rack and journal by `watch` before it is asked for anything."""

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._registry = CollectorRegistry()
        self._instruments = Instruments(self._registry)
        self._state = FiguresCollector()
        self._registry.register(self._state)
        ProcessCollector(registry=self._registry)
        self._link = LinkState(clock.monotonic())
        self._journal_error: str | None = None
        self._rack: WatchedRack | None = None
        self._journal: WatchedJournal | None = None
        self._books: Sequence[Callable[[], str | None]] = ()
        self._workload: Workload | None = None
        self._no_run: Callable[[], str | None] = lambda: None
        self._on_change: Callable[[], None] = lambda: None
        self._health = Health()
        self._dead_letters = 0
        self._looking = asyncio.Lock()

    # ---- being let in ------------------------------------------------------------------------------------------------

    def open_commits(self, path: Path, prepare: Work[None], after_commit: Any) -> Commits:
        """As `group_commit.OpenCommits`."""
        commits = GroupCommit(path, prepare, after_commit)
        return ObservedCommits(commits, self._instruments, self._clock)

    def link(self, link: NodeLink) -> ObservedLink:
        """The same link, and counted."""
        return ObservedLink(link, self._instruments, self._link, self._clock)

    def watch(self, rack: WatchedRack, journal: WatchedJournal, books: Sequence[Callable[[], str | None]] = ()) -> None:
        """From here on they are there until the agent ends. `books`: what is wrong with the node's lists of phones."""
        self._rack, self._journal, self._books = rack, journal, books

    def executor(self, executor: Executor) -> Executor:
        """See `Observer`."""
        return ObservedExecutor(executor, self._instruments)

    def refilled(self, seconds: float) -> None:
        """See `Observer`."""
        self._instruments.refill_seconds.observe(seconds)

    def sees(self, workload: Workload, no_run: Callable[[], str | None], on_change: Callable[[], None]) -> None:
        """See `Observer`."""
        self._workload, self._no_run, self._on_change = workload, no_run, on_change

    def condition(self) -> Condition:
        """As it was at the last look; for the heartbeat."""
        troubles = (
            NodeTrouble(reason=finding.trouble.value, message=finding.message, stops_work=finding.trouble.stops_work)
            for finding in self._health.findings
        )
        return Condition(tuple(troubles), self._dead_letters)

    # ---- telling -----------------------------------------------------------------------------------------------------

    @property
    def pages(self) -> Mapping[str, Ask]:
        """For the server."""
        return {"/healthz": self.health_page, "/metrics": self.metrics_page}

    async def metrics_page(self) -> Page:
        """Everything, as it is now."""
        async with self._looking:
            self._state.figures = await self._look()
            return Page(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)

    async def health_page(self) -> Page:
        """200 while tasks can be executed, `ok` or `degraded`; 503 while they cannot."""
        async with self._looking:
            await self._look()
        health, since = self._health, self._health.since_ms or {}
        document = {
            "status": "degraded" if health.findings else "ok",
            "can_work": health.can_work,
            "node_id": self._identity.node_id,
            "version": self._identity.version,
            "reasons": [
                {
                    "reason": finding.trouble.value,
                    "message": finding.message,
                    "since": since[finding.trouble],
                    "stops_work": finding.trouble.stops_work,
                }
                for finding in health.findings
            ],
        }
        body = json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"
        return Page(200 if health.can_work else 503, body, "application/json")

    # ---- looking -----------------------------------------------------------------------------------------------------

    async def keep_looking(self) -> None:
        """Notices and logs when the node falls ill and gets well, asked or not."""
        while True:
            async with self._looking:
                await self._look()
            await self._clock.sleep(HEALTH_INTERVAL_SEC)

    async def measure_lag(self) -> None:
        """How late the event loop comes to a timer of half a second."""
        while True:
            due = self._clock.monotonic() + LAG_INTERVAL_SEC
            await self._clock.sleep(LAG_INTERVAL_SEC)
            self._instruments.loop_lag_seconds.observe(max(0.0, self._clock.monotonic() - due))

    async def _look(self) -> Figures:
        assert self._rack is not None, "`watch` comes first"
        journal, free = await self._journal_figures(), await self._free_bytes()
        rack, link, identity, workload = self._rack, self._link, self._identity, self._workload
        self._note(examine(self._seen(journal, free)))
        return Figures(
            node_id=identity.node_id,
            version=identity.version,
            slots=identity.slots,
            slots_used=workload.running if workload else 0,
            queued_phones=workload.queued_devices if workload else 0,
            phones=rack.phones.all(),
            adb_ok=rack.adb_ok,
            adb_restarts=rack.adb_restarts,
            vendor_ok=rack.vendor_ok if identity.has_vendor else None,
            vendor_returns=rack.vendor_returns,
            pulled_at_sec=None if link.pulled_at_ms is None else link.pulled_at_ms / 1000,
            clock_skew_sec=None if link.clock_skew_ms is None else link.clock_skew_ms / 1000,
            disk_free_bytes=free,
            asyncio_tasks=len(asyncio.all_tasks()),
            threads=threading.active_count(),
            now_ms=self._clock.now_ms(),
            journal=journal,
            findings=self._health.findings,
        )

    def _seen(self, journal: JournalFigures | None, free: int | None) -> Seen:
        assert self._rack is not None, "`watch` comes first"
        link = self._link
        oldest_ms = journal.oldest.fact_ms if journal else None
        return Seen(
            adb_ok=not self._rack.adb_gone,
            vendor_ok=self._rack.vendor_ok if self._identity.has_vendor else None,
            backend_age_sec=self._clock.monotonic() - link.answered_at,
            refused=next(iter(link.refused.values()), None),
            oldest_fact_age_sec=None if oldest_ms is None else (self._clock.now_ms() - oldest_ms) / 1000,
            no_run=self._no_run(),
            journal_error=self._journal_error,
            disk_free_bytes=free,
            spool_bytes=journal.picture_bytes if journal else 0,
            clock_skew_ms=link.clock_skew_ms,
            book_lost="; ".join(lost for book in self._books if (lost := book()) is not None) or None,
        )

    async def _journal_figures(self) -> JournalFigures | None:
        assert self._journal is not None, "`watch` comes first"
        try:
            async with asyncio.timeout(FIGURES_TIMEOUT_SEC):
                figures = await self._journal.figures()
        except JournalError as error:
            self._journal_error = str(error)
        except TimeoutError:
            self._journal_error = "the journal does not answer"
        else:
            self._journal_error, self._dead_letters = None, figures.dead_letters
            return figures
        return None

    async def _free_bytes(self) -> int | None:
        try:
            async with asyncio.timeout(FIGURES_TIMEOUT_SEC):
                return (await asyncio.to_thread(shutil.disk_usage, self._identity.data_dir)).free
        except (OSError, TimeoutError) as error:
            log.debug("The disk's room cannot be read", error=str(error))
            return None

    def _note(self, findings: list[Finding]) -> None:
        before, now_ms = self._health.since_ms or {}, self._clock.now_ms()
        since = {finding.trouble: before.get(finding.trouble, now_ms) for finding in findings}
        for finding in findings:
            if finding.trouble not in before:
                log.warning("Not well", trouble=finding.trouble.value, why=finding.message)
        for trouble in before.keys() - since.keys():
            log.info("Well again", trouble=trouble.value)
        self._health = Health(tuple(findings), since)
        if before.keys() != since.keys():
            self._on_change()
