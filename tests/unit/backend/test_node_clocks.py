"""A node's clock decides nothing, but people are told when it is wrong."""

import io

from tests.support.backend import Rig
from tests.support.scraped import Scraped

from muster.cli.node import clock_text


async def beat(rig: Rig, *, ahead_ms: int, late_sec: float = 0.0) -> int | None:
    """A heartbeat by a clock that is so far ahead, so long on its way; what is told of the node then."""
    event = rig.heartbeat_event("PC-01", ["A"])
    event["payload"]["timestamp"] += ahead_ms
    await rig.clock.advance(late_sec)
    await rig.callback(event)
    skew: int | None = (await rig.http.get("/api/nodes/PC-01")).json()["clock_skew_ms"]
    return skew


async def test_a_node_tells_how_wrong_its_clock_is(rig: Rig, log: io.StringIO) -> None:
    assert await beat(rig, ahead_ms=95_000) == 95_000
    scraped = Scraped.of((await rig.http.get("/metrics")).text)
    assert scraped["muster_backend_node_clock_skew_seconds{node_id=PC-01}"] == 95
    assert "A node's clock is wrong" in log.getvalue()
    assert (await rig.http.get("/api/devices/A")).json()["online"] is True


async def test_a_heartbeat_that_was_long_on_its_way_is_no_slow_clock(rig: Rig) -> None:
    assert await beat(rig, ahead_ms=0) == 0
    assert await beat(rig, ahead_ms=0, late_sec=25) == 0
    assert await beat(rig, ahead_ms=-3_000, late_sec=1) == 0, "the last minute's fastest"


async def test_a_clock_that_was_set_right_is_right_within_a_minute(rig: Rig, log: io.StringIO) -> None:
    await beat(rig, ahead_ms=95_000)
    told = [await beat(rig, ahead_ms=0, late_sec=10) for _ in range(6)]
    assert told[-1] == -10_000
    assert log.getvalue().count("A node's clock is wrong") == 1
    assert log.getvalue().count("A node's clock is right again") == 1


async def test_a_node_that_has_only_asked_for_work_has_told_no_time(rig: Rig) -> None:
    await rig.pull("PC-07")
    assert (await rig.http.get("/api/nodes/PC-07")).json()["clock_skew_ms"] is None


def test_the_list_of_nodes_shows_a_clock_only_when_it_is_wrong() -> None:
    assert [clock_text(ms) for ms in (None, 0, 10_000, 95_400, -61_000)] == [None, "ok", "ok", "+95 s", "-61 s"]
