"""How the agent is at one moment, and how Prometheus is told."""

from collections import Counter as Counts
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from muster.agent.journal import JournalFigures
from muster.agent.observe.health import Finding
from muster.agent.ports import DeviceStatus
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.domain.trouble import Trouble

_R: Final = FailureReason
# Told from the start, as nought: a series that begins with its first increment hides it from rate().
_ENDS: Final = (
    (TaskState.SUCCEEDED.value, ""),
    (TaskState.CANCELLED.value, _R.CANCELLED.value),
    *product([TaskState.SKIPPED_OFFLINE.value], [_R.ADB_MISSING.value, _R.ADB_OFFLINE.value]),
    *product([TaskState.SKIPPED_OFFLINE.value], [_R.EMULATOR_NOT_ONLINE.value, _R.EMULATOR_NOT_BOOTED.value]),
    *product([TaskState.FAILED.value], [reason.value for reason in _R if reason not in (_R.CANCELLED, _R.NODE_LOST)]),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One look. Ages and skew in seconds; None: unknown, and then not told. `journal` None: it could not be read."""

    node_id: str
    version: str
    slots: int
    slots_used: int
    queued_phones: int
    phones: Sequence[DeviceStatus]
    adb_ok: bool
    adb_restarts: int
    vendor_ok: bool | None
    vendor_returns: int
    pulled_at_sec: float | None
    clock_skew_sec: float | None
    disk_free_bytes: int | None
    asyncio_tasks: int
    threads: int
    now_ms: int
    journal: JournalFigures | None
    findings: Sequence[Finding]


class FiguresCollector(Collector):
    """Tells the figures that were taken last."""

    def __init__(self) -> None:
        self.figures: Figures | None = None

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        if self.figures is not None:
            yield from _of_node(self.figures)
            yield from _of_rack(self.figures)
            yield from _of_health(self.figures.findings)
            if self.figures.journal is not None:
                yield from _of_journal(self.figures.journal, self.figures.now_ms)


def _gauge(name: str, told: str, value: float | None) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(f"muster_agent_{name}", told, value)


def _gauges(name: str, told: str, label: str, values: Mapping[str, float | None]) -> Iterator[Metric]:
    family = GaugeMetricFamily(f"muster_agent_{name}", told, labels=[label])
    for key, value in values.items():
        if value is not None:
            family.add_metric([key], value)
    yield family


def _counter(name: str, told: str, value: float) -> Iterator[Metric]:
    yield CounterMetricFamily(f"muster_agent_{name}", told, value)


def _of_node(figures: Figures) -> Iterator[Metric]:
    info = GaugeMetricFamily("muster_agent_info", "Who this is.", labels=["node_id", "version"])
    info.add_metric([figures.node_id, figures.version], 1)
    yield info
    yield from _gauge("slots", "Phones that may work at once.", figures.slots)
    yield from _gauge("slots_used", "Slots that have a task.", figures.slots_used)
    yield from _gauge(
        "queued_phones", "Phones with a task that waits for a slot or for the phone.", figures.queued_phones
    )
    yield from _gauge(
        "pull_last_success_timestamp_seconds", "When the backend was last asked with success.", figures.pulled_at_sec
    )
    yield from _gauge(
        "clock_skew_seconds", "How far this PC's clock is ahead of the backend's.", figures.clock_skew_sec
    )
    yield from _gauge("disk_free_bytes", "Room in the data folder.", figures.disk_free_bytes)
    yield from _gauge("asyncio_tasks", "Tasks in the event loop.", figures.asyncio_tasks)
    yield from _gauge("threads", "Threads of the process.", figures.threads)


def _of_rack(figures: Figures) -> Iterator[Metric]:
    states = Counts(phone.state for phone in figures.phones)
    yield from _gauges(
        "phones", "Phones by how they are attached.", "state", {state.value: states[state] for state in AttachState}
    )
    in_quarantine = sum(phone.quarantined is not None for phone in figures.phones)
    yield from _gauge("phones_quarantined", "Phones that get no task until they have proved themselves.", in_quarantine)
    reserved = sum(phone.reserved is not None for phone in figures.phones)
    yield from _gauge("phones_reserved", "Phones that somebody keeps for themselves.", reserved)
    yield from _gauge("adb_server_up", "Whether the adb server answers.", figures.adb_ok)
    yield from _counter(
        "adb_server_restarts_total", "Times the adb server was gone and came back.", figures.adb_restarts
    )
    if figures.vendor_ok is not None:
        yield from _gauge("vendor_up", "Whether the vendor tool answers.", figures.vendor_ok)
        yield from _counter(
            "vendor_reconnects_total", "Times the vendor tool was silent and answered again.", figures.vendor_returns
        )


def _of_health(findings: Sequence[Finding]) -> Iterator[Metric]:
    there = {finding.trouble for finding in findings}
    yield from _gauges(
        "trouble", "What /healthz tells, 1 while it lasts.", "reason", {each.value: each in there for each in Trouble}
    )


def _of_journal(journal: JournalFigures, now_ms: int) -> Iterator[Metric]:
    yield from _counter("tasks_accepted_total", "Tasks that came with runs.", journal.accepted)
    yield from _counter("task_attempts_repeated_total", "Attempts after a task's first.", journal.retried)
    yield from _counter("tasks_parked_total", "Times a task gave its slot away for its phone's grace.", journal.parked)
    ended = CounterMetricFamily(
        "muster_agent_tasks_ended_total", "Tasks by how they ended.", labels=["status", "reason"]
    )
    for status, reason in dict.fromkeys((*_ENDS, *journal.ended)):
        ended.add_metric([status, reason], journal.ended.get((status, reason), 0))
    yield ended
    depth, oldest = journal.outbox, journal.oldest
    yield from _gauges(
        "outbox_events", "Events that wait to be told.", "kind", {"fact": depth.facts, "telemetry": depth.telemetry}
    )
    yield from _gauges(
        "outbox_oldest_age_seconds",
        "Age of the oldest event that waits, 0 when none does.",
        "kind",
        {"fact": _age_sec(oldest.fact_ms, now_ms), "telemetry": _age_sec(oldest.telemetry_ms, now_ms)},
    )
    yield from _gauge("dead_letters", "Events that the backend refused for good.", journal.dead_letters)
    yield from _gauge("spool_files", "Pictures that wait for the store.", journal.pictures)
    yield from _gauge("spool_bytes", "Bytes of pictures that wait for the store.", journal.picture_bytes)
    yield from _gauge("spool_refused_files", "Pictures that the store will never take.", journal.pictures_refused)


def _age_sec(at_ms: int | None, now_ms: int) -> float:
    return 0.0 if at_ms is None else max(0, now_ms - at_ms) / 1000
