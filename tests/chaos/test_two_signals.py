"""A second SIGTERM ends at once; of two agents under one id only one works. (One SIGTERM: tests/system.)"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chaos.ends import all_told, dismissed, verdict
from tests.chaos.record import JournalView, read_journal
from tests.chaos.site import Site, site
from tests.support.processes import STOP_SIGNAL

pytestmark = [pytest.mark.system, pytest.mark.timeout(240), pytest.mark.xdist_group("processes")]

READY = "muster agent PC-01 ready"


async def journal_until(rig: Site, holds: Callable[[JournalView], bool]) -> JournalView:
    async with asyncio.timeout(90):
        while not holds(view := read_journal(rig.journal)):  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.02)
    return view


def running(view: JournalView) -> int:
    return sum(task.state == "running" for task in view.tasks.values())


async def test_a_second_signal_ends_at_once_as_safely_as_a_kill_and_a_second_agent_under_the_id_takes_no_work(
    tmp_path: Path,
) -> None:
    async with site(tmp_path, devices=2) as rig:
        async with rig.agent() as hasty:
            await hasty.wait_for_line(READY)
            await rig.add_run("slow")
            await journal_until(rig, lambda view: running(view) == 2)
            hasty.interrupt()
            await hasty.wait_for_line("Draining")
            hasty.interrupt()
            assert await hasty.ended() == -STOP_SIGNAL, hasty.output
        cut_off = read_journal(rig.journal)
        assert running(cut_off) == 2, "nothing was waited for"
        other = tmp_path / "another-pc"
        other.mkdir()
        async with rig.agent() as first:
            await first.wait_for_line(READY)
            async with rig.agent(other) as second:
                await second.wait_for_line("Another agent works under this node's id")
                await rig.add_run("late")
                await all_told(rig, first)
                second.interrupt()
                assert await second.ended() == 0, second.output
            assert not read_journal(other / "node" / "agent" / "journal.sqlite3").tasks
            wrong = await dismissed(rig, first)
    end, found = verdict(rig, [cut_off])
    assert not [*wrong, *found], "\n".join([*wrong, *found])
    assert sorted(task.reason or "" for task in end.tasks.values()) == ["", "", "node_restarted", "node_restarted"]
