"""What is wrong with a node is said in words, and whether it still works."""

from dataclasses import replace
from typing import Any

import pytest

from muster.agent.observe.health import Seen, examine
from muster.domain import limits
from muster.domain.trouble import Trouble

WELL = Seen(
    adb_ok=True,
    vendor_ok=True,
    backend_age_sec=1.0,
    refused=None,
    oldest_fact_age_sec=None,
    no_run=None,
    journal_error=None,
    disk_free_bytes=50 * 1024**3,
    spool_bytes=0,
    clock_skew_ms=0,
)


def troubles(**changes: Any) -> list[Trouble]:
    return [finding.trouble for finding in examine(replace(WELL, **changes))]


def test_a_node_that_is_well_has_nothing_to_say() -> None:
    assert examine(WELL) == []
    assert examine(replace(WELL, vendor_ok=None, disk_free_bytes=None, clock_skew_ms=None)) == []


@pytest.mark.parametrize(
    ("changes", "trouble", "just_not"),
    [
        ({"adb_ok": False}, Trouble.ADB_GONE, {"adb_ok": True}),
        ({"vendor_ok": False}, Trouble.VENDOR_GONE, {"vendor_ok": None}),
        ({"backend_age_sec": 30.1}, Trouble.BACKEND_UNREACHABLE, {"backend_age_sec": 30.0}),
        ({"refused": 401}, Trouble.SECRET_REFUSED, {"refused": 422}),
        ({"refused": 409}, Trouble.ANOTHER_AGENT, {"refused": None}),
        ({"oldest_fact_age_sec": 121.0}, Trouble.OUTBOX_OLD, {"oldest_fact_age_sec": 120.0}),
        ({"no_run": "the disk is full"}, Trouble.DISK_FULL, {"no_run": None}),
        ({"no_run": "the disk is full", "disk_free_bytes": 0}, Trouble.DISK_FULL, {"no_run": None}),
        ({"journal_error": "it does not answer"}, Trouble.JOURNAL_FAILS, {"journal_error": None}),
        (
            {"disk_free_bytes": limits.DISK_BYTES_LOW - 1},
            Trouble.DISK_LOW,
            {"disk_free_bytes": limits.DISK_BYTES_LOW},
        ),
        (
            {"spool_bytes": limits.SPOOL_BYTES_MAX},
            Trouble.SPOOL_FULL,
            {"spool_bytes": limits.SPOOL_BYTES_MAX // 2},
        ),
        ({"clock_skew_ms": 10_001}, Trouble.CLOCK_WRONG, {"clock_skew_ms": 10_000}),
        ({"book_lost": "it could not be read"}, Trouble.BOOK_LOST, {"book_lost": None}),
        ({"clock_skew_ms": -10_001}, Trouble.CLOCK_WRONG, {"clock_skew_ms": -10_000}),
    ],
)
def test_each_trouble_is_found_at_its_limit_and_not_before(
    changes: dict[str, Any], trouble: Trouble, just_not: dict[str, Any]
) -> None:
    assert troubles(**changes) == [trouble]
    assert troubles(**just_not) == []


def test_every_trouble_of_the_list_can_be_found() -> None:
    worst = troubles(
        adb_ok=False, vendor_ok=False, backend_age_sec=99.0, oldest_fact_age_sec=999.0, journal_error="gone",
        disk_free_bytes=0, spool_bytes=limits.SPOOL_BYTES_MAX, clock_skew_ms=99_999, book_lost="it could not be read",
    )  # fmt: skip
    assert {*worst, *troubles(refused=403), *troubles(refused=409), *troubles(no_run="full")} == set(Trouble)


def test_what_stops_work_is_said_first() -> None:
    found = troubles(vendor_ok=False, adb_ok=False, backend_age_sec=99.0, journal_error="gone")
    assert [trouble.stops_work for trouble in found] == [True, True, False, False]


def test_a_backend_that_is_away_stops_no_work() -> None:
    assert not Trouble.BACKEND_UNREACHABLE.stops_work


def test_the_clocks_side_is_told() -> None:
    (ahead,), (behind,) = (examine(replace(WELL, clock_skew_ms=sign * 95_000)) for sign in (1, -1))
    assert ahead.message == "this PC's clock is 95 s ahead of the backend's"
    assert behind.message == "this PC's clock is 95 s behind the backend's"
