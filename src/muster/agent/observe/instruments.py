"""What the agent counts while it works.

No label names a phone, a run or a task: a series lives for ever in whoever scrapes it, and a rack has hundreds of
phones and thousands of runs. Labels are closed lists of the code (kind of step, result, reason); who it was is in the
backend.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

STEP_BUCKETS_SEC: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
REFILL_BUCKETS_SEC: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
WRITE_BUCKETS_SEC: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
REQUEST_BUCKETS_SEC: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
POLL_BUCKETS_SEC: Final = (0.01, 0.1, 1, 5, 10, 20, 25, 30, 45)
LAG_BUCKETS_SEC: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class Instruments:
    """Counters and histograms of one agent, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # When a counter was made is when the process began: no second series is needed to tell it.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no type for it

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"muster_agent_{name}", told, labels, registry=registry)

        def histogram(name: str, told: str, *labels: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"muster_agent_{name}", told, labels, buckets=buckets, registry=registry)

        self.step_seconds = histogram(
            "step_seconds", "Tries of steps, by kind and how they ended.", "kind", "status", buckets=STEP_BUCKETS_SEC
        )
        self.refill_seconds = histogram(
            "slot_refill_seconds",
            "From a slot's release until the next task's start in it is journaled.",
            buckets=REFILL_BUCKETS_SEC,
        )
        self.pulls = counter("pulls_total", "Long polls for work, by result.", "result")
        self.pull_seconds = histogram(
            "pull_seconds", "Long polls that were answered; one without work lasts 25 s.", buckets=POLL_BUCKETS_SEC
        )
        self.deliveries = counter("deliveries_total", "Requests that tell events, by result.", "result")
        self.delivery_seconds = histogram(
            "delivery_seconds", "Requests that tell events, those that were answered.", buckets=REQUEST_BUCKETS_SEC
        )
        self.events = counter("events_told_total", "Events by what the backend said of each.", "verdict")
        self.uploads = counter("uploads_total", "Pictures sent to the store, by result.", "result")
        self.upload_seconds = histogram(
            "upload_seconds", "Pictures sent, those that were taken.", buckets=REQUEST_BUCKETS_SEC
        )
        self.upload_bytes = counter("upload_bytes_total", "Bytes of pictures that were taken.")
        self.journal_seconds = histogram(
            "journal_seconds",
            "From asking the journal until it is on the disk, or read.",
            buckets=WRITE_BUCKETS_SEC,
        )
        self.journal_failures = counter("journal_failures_total", "What the journal could not record or read.")
        self.loop_lag_seconds = histogram(
            "event_loop_lag_seconds", "How late the event loop came to a timer.", buckets=LAG_BUCKETS_SEC
        )
        # A series that begins with its first increment hides that increment from rate().
        for result in ("ok", "unreachable", "refused", "unauthorized", "cut_off"):
            for instrument in (self.pulls, self.deliveries, self.uploads):
                instrument.labels(result)
        for verdict in ("accepted", "duplicate", "refused", "later"):
            self.events.labels(verdict)
