"""What the backend counts, and how it is at the moment of a scrape.

No label names a phone or a run: there are too many, and each would live for ever in whoever scrapes. Nodes are few and
known, and an alarm has to say which PC is silent: they have a label, up to NODES_TOLD_MAX of them.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from muster.backend.live import LiveRuns
from muster.backend.presence import Presence
from muster.contracts.api import NodeView
from muster.contracts.events import STALE_ATTEMPT_STATUS, EventType, EventVerdict
from muster.domain.run import RunState
from muster.domain.task import OPEN_TASK_STATES
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.store import figures
from muster.store.database import Database, PoolFigures, StoreUnavailableError

_log = get_logger()
NODES_TOLD_MAX: Final = 1_000
LAG_INTERVAL_SEC: Final = 0.5
REQUEST_BUCKETS_SEC: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LAG_BUCKETS_SEC: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_UNREADABLE: Final = "unreadable"
_TYPES: Final = frozenset(kind.value for kind in EventType)


@dataclass(frozen=True, slots=True)
class State:
    """One look. `contents` None: the database does not answer."""

    nodes: Sequence[NodeView]
    phones_online: int
    phones_known: int
    viewers: int
    pool: PoolFigures
    contents: figures.Contents | None
    silent_ms: dict[str, int | None]
    asyncio_tasks: int


class BackendMetrics:
    """Counters of one backend, in a registry of their own."""

    def __init__(self, database: Database, presence: Presence, live: LiveRuns, clock: Clock) -> None:
        # When a counter was made is when the process began: no second series is needed to tell it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type for it
        self._database = database
        self._presence = presence
        self._live = live
        self._clock = clock
        self._registry = registry = CollectorRegistry()
        self._state = _StateCollector()
        self._scraping = asyncio.Lock()
        registry.register(self._state)
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "muster_backend_requests_total", "Requests by route and status.", ["method", "route", "status"],
            registry=registry,
        )  # fmt: skip
        self.request_seconds = Histogram(
            "muster_backend_request_seconds",
            "Requests from head to last byte, without long polls and streams.",
            ["method", "route"],
            buckets=REQUEST_BUCKETS_SEC,
            registry=registry,
        )
        self.in_flight = Gauge(
            "muster_backend_requests_in_flight", "Long polls and streams included.", registry=registry
        )
        self._events = Counter(
            "muster_backend_events_total", "What nodes told, by type and verdict.", ["type", "verdict"],
            registry=registry,
        )  # fmt: skip
        self._lag = Histogram(
            "muster_backend_event_loop_lag_seconds",
            "How late the event loop came to a timer.",
            buckets=LAG_BUCKETS_SEC,
            registry=registry,
        )
        for kind in EventType:
            self._events.labels(kind.value, "accepted")

    def told(self, raw: Sequence[object], verdicts: Sequence[EventVerdict]) -> None:
        """A batch of a node's, and what was said of each event."""
        for event, verdict in zip(raw, verdicts, strict=True):
            self._events.labels(_type(event), _name(verdict)).inc()

    async def measure_lag(self) -> None:
        """How late the event loop comes to a timer of half a second; for ever. Its own clock is what is measured."""
        while True:
            due = time.monotonic() + LAG_INTERVAL_SEC
            await asyncio.sleep(LAG_INTERVAL_SEC)
            self._lag.observe(max(0.0, time.monotonic() - due))

    async def page(self) -> bytes:
        """Everything, as it is now. A database that is gone takes its part of the figures along, and no more."""
        async with self._scraping:
            self._state.state = await self._look()
            return generate_latest(self._registry)

    async def _look(self) -> State:
        presence = self._presence
        devices = presence.known_devices()
        return State(
            contents=await self._contents(),
            nodes=presence.node_views()[:NODES_TOLD_MAX],
            phones_online=sum(presence.is_device_online(device) for device in devices),
            phones_known=len(devices),
            viewers=self._live.viewers,
            pool=self._database.pool_figures(),
            silent_ms={node_id: presence.node_silent_ms(node_id) for node_id in presence.node_ids()},
            asyncio_tasks=len(asyncio.all_tasks()),
        )

    async def _contents(self) -> figures.Contents | None:
        try:
            async with self._database.reading() as tx:
                return await figures.contents(tx)
        except StoreUnavailableError as error:
            _log.warning("The database's part of the metrics is missing", reason=str(error))
            return None


def _type(event: object) -> str:
    kind = event.get("type") if isinstance(event, dict) else None
    return kind if isinstance(kind, str) and kind in _TYPES else _UNREADABLE


def _name(verdict: EventVerdict) -> str:
    if verdict.ok:
        return "duplicate" if verdict.duplicate else "accepted"
    return "stale" if verdict.status == STALE_ATTEMPT_STATUS else "refused"


class _StateCollector(Collector):
    def __init__(self) -> None:
        self.state: State | None = None

    def collect(self) -> Iterable[Metric]:
        if self.state is not None:
            yield from _of_process(self.state)
            yield from _of_nodes(self.state)
            if self.state.contents is not None:
                yield from _of_contents(self.state.contents)


def _gauge(name: str, told: str, value: float) -> Iterator[Metric]:
    yield GaugeMetricFamily(f"muster_backend_{name}", told, value)


def _gauges(name: str, told: str, label: str, values: Mapping[str, float | None]) -> Iterator[Metric]:
    family = GaugeMetricFamily(f"muster_backend_{name}", told, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    yield family


def _of_process(state: State) -> Iterator[Metric]:
    yield from _gauge("database_up", "Whether the database answered this scrape.", state.contents is not None)
    in_use = {"read": state.pool.readers_in_use, "write": state.pool.writers_in_use}
    yield from _gauges("database_connections_in_use", "Connections in use.", "pool", in_use)
    yield from _gauge("database_waiting_to_write", "Units of work that wait to write.", state.pool.waiting_to_write)
    yield from _gauge("stream_viewers", "Open live streams.", state.viewers)
    yield from _gauge("asyncio_tasks", "Tasks in the event loop.", state.asyncio_tasks)


def _of_nodes(state: State) -> Iterator[Metric]:
    offline = state.phones_known - state.phones_online
    yield from _gauges(
        "phones", "Phones by what the console shows.", "state", {"online": state.phones_online, "offline": offline}
    )
    yield from _gauges(
        "node_up",
        "1 while a node's heartbeats come.",
        "node_id",
        {node.node_id: node.status != "offline" for node in state.nodes},
    )
    yield from _gauges(
        "node_heartbeat_age_seconds",
        "Since a node's last heartbeat.",
        "node_id",
        {node.node_id: _age_sec(state.silent_ms.get(node.node_id)) for node in state.nodes},
    )
    yield from _gauges(
        "node_clock_skew_seconds",
        "How far a node's clock is ahead of this one.",
        "node_id",
        {node.node_id: _skew_sec(node) for node in state.nodes},
    )
    yield from _gauges(
        "node_outbox_events",
        "Events that wait at a node, by its last heartbeat.",
        "node_id",
        {node.node_id: node.outbox_depth for node in state.nodes},
    )


def _skew_sec(node: NodeView) -> float | None:
    return None if node.clock_skew_ms is None else node.clock_skew_ms / 1000


def _of_contents(contents: figures.Contents) -> Iterator[Metric]:
    yield from _gauges(
        "runs", "Runs that are kept, by state.", "status", {each.value: contents.runs.get(each, 0) for each in RunState}
    )
    yield from _gauges(
        "open_tasks",
        "Tasks that have not ended, by state.",
        "status",
        {each.value: contents.open_tasks.get(each, 0) for each in sorted(OPEN_TASK_STATES)},
    )
    yield from _gauge("commands_open", "Commands that no node has acknowledged yet.", contents.commands_open)


def _age_sec(silent_ms: int | None) -> float | None:
    return None if silent_ms is None else silent_ms / 1000
