"""How long a stop takes at most, and that whoever waits for one waits longer."""

import re
from pathlib import Path

from muster.agent.composition import DRAIN_GRACE_SEC, FLUSH_SEC, LEAVE_SEC
from muster.agent.scheduler.loop import STOP_TEARDOWN_SEC
from muster.backend.main import GRACEFUL_STOP_SEC
from muster.cli.family import KILL_SEC_MAX, STOP_SEC_MAX
from muster.cli.service import ORPHAN_SEC_MAX

MANUAL = Path(__file__).parents[3] / "docs" / "operations.md"
AGENT_SEC = DRAIN_GRACE_SEC + STOP_TEARDOWN_SEC + FLUSH_SEC + LEAVE_SEC
CLOSING_SEC = 5
"""For files, connections and what a busy machine makes of all this."""


def as_a_service() -> str:
    return MANUAL.read_text(encoding="utf-8").partition("### As a service\n")[2].partition("\n## ")[0]


def test_a_parent_waits_longer_than_its_children_take_and_an_orphan_longer_than_a_parent_would() -> None:
    assert max(AGENT_SEC, GRACEFUL_STOP_SEC) + CLOSING_SEC < STOP_SEC_MAX
    assert STOP_SEC_MAX < ORPHAN_SEC_MAX


def test_the_manual_tells_how_long_a_stop_takes() -> None:
    assert (
        f"{DRAIN_GRACE_SEC:g} s, tears down what still runs within {STOP_TEARDOWN_SEC:g} s, "
        f"tells what happened within {FLUSH_SEC:g} s and takes its leave within {LEAVE_SEC:g} s:\n{AGENT_SEC:g} s,"
    ) in as_a_service()
    assert f"A backend answers what is open within {GRACEFUL_STOP_SEC:g} s" in as_a_service()
    assert f"each of its children {STOP_SEC_MAX:g} s" in as_a_service()


def test_the_service_managers_of_the_manual_wait_long_enough() -> None:
    agent_sec, up_sec = (int(found) for found in re.findall(r"TimeoutStopSec=(\d+)", as_a_service()))
    (console_ms,) = (int(found) for found in re.findall(r"AppStopMethodConsole (\d+)", as_a_service()))
    assert min(agent_sec, console_ms / 1000) >= STOP_SEC_MAX
    assert up_sec >= 2 * (STOP_SEC_MAX + KILL_SEC_MAX), "an agent, then a backend"
