"""Is the node well, and if not, why: a plain function of what was looked at."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from muster.domain.limits import (
    BACKEND_SILENT_SEC,
    CLOCK_SKEW_MS_MAX,
    DISK_BYTES_LOW,
    OUTBOX_OLD_SEC,
    SPOOL_BYTES_MAX,
)
from muster.domain.trouble import Trouble

SPOOL_NEARLY_FULL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Seen:
    """What was looked at. Ages are seconds; None: never, unknown or not there.

    `vendor_ok` None: there is no tool. `no_run`: why no run is taken (`agent/disk_room.py`). `journal_error`: why the
    journal cannot even be read. `refused`: the HTTP status with which the backend turned this node away last,
    None when it took something since. `clock_skew_ms`: how far this PC's clock is ahead of the backend's. `book_lost`:
    which of the node's own lists of phones could not be read.
    """

    adb_ok: bool
    vendor_ok: bool | None
    backend_age_sec: float
    refused: int | None
    oldest_fact_age_sec: float | None
    no_run: str | None
    journal_error: str | None
    disk_free_bytes: int | None
    spool_bytes: int
    clock_skew_ms: int | None
    book_lost: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One trouble, in words for an operator."""

    trouble: Trouble
    message: str


def examine(seen: Seen) -> list[Finding]:
    """Every trouble, what stops work first."""
    return sorted(_findings(seen), key=lambda finding: not finding.trouble.stops_work)


def _findings(seen: Seen) -> Iterator[Finding]:
    if not seen.adb_ok:
        yield Finding(Trouble.ADB_GONE, "the adb server does not answer; the agent keeps starting it")
    if seen.vendor_ok is False:
        yield Finding(Trouble.VENDOR_GONE, "the vendor tool does not answer; pictures come by adb")
    yield from _of_disk(seen)
    yield from _of_backend(seen)
    if seen.clock_skew_ms is not None and abs(seen.clock_skew_ms) > CLOCK_SKEW_MS_MAX:
        side = "ahead of" if seen.clock_skew_ms > 0 else "behind"
        seconds = abs(seen.clock_skew_ms) / 1000
        yield Finding(Trouble.CLOCK_WRONG, f"this PC's clock is {seconds:.0f} s {side} the backend's")
    if seen.book_lost is not None:
        yield Finding(Trouble.BOOK_LOST, seen.book_lost)


def _of_disk(seen: Seen) -> Iterator[Finding]:
    if seen.no_run is not None:
        yield Finding(Trouble.DISK_FULL, seen.no_run)
    elif seen.disk_free_bytes is not None and seen.disk_free_bytes < DISK_BYTES_LOW:
        yield Finding(Trouble.DISK_LOW, f"{seen.disk_free_bytes / 1024**2:.0f} MB are free in the data folder")
    if seen.journal_error is not None:
        yield Finding(Trouble.JOURNAL_FAILS, seen.journal_error)
    if seen.spool_bytes > SPOOL_NEARLY_FULL * SPOOL_BYTES_MAX:
        megabytes = seen.spool_bytes / 1024**2
        yield Finding(Trouble.SPOOL_FULL, f"{megabytes:.0f} MB of pictures wait for the store; soon none is kept")


def _of_backend(seen: Seen) -> Iterator[Finding]:
    if seen.refused in (401, 403):
        yield Finding(Trouble.SECRET_REFUSED, "the backend refuses this node's secret; events wait")
    elif seen.refused == 409:
        yield Finding(Trouble.ANOTHER_AGENT, "another agent works under this node's id; this one gets no run")
    elif seen.backend_age_sec > BACKEND_SILENT_SEC:
        yield Finding(Trouble.BACKEND_UNREACHABLE, f"no answer for {seen.backend_age_sec:.0f} s; runs go on")
    age = seen.oldest_fact_age_sec
    if age is not None and age > OUTBOX_OLD_SEC:
        yield Finding(Trouble.OUTBOX_OLD, f"the oldest result has waited {age:.0f} s to be told")
