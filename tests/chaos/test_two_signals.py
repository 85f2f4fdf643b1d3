"""A second SIGTERM ends at once; of two agents under one id only one works. (One SIGTERM: tests/system.)"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chaos.ends import all_told, dismissed, verdict
from tests.chaos.record import JournalView, read_journal
from tests.chaos.site import Site, site

pytestmark = [pytest.mark.system, pytest.mark.timeout(240), pytest.mark.xdist_group("processes")]

READY = "muster agent PC-01 ready"


async def journal_until(rig: Site, holds: Callable[[JournalView], bool]) -> JournalView:
    async with asyncio.timeout(90):
        while not holds(view := read_journal(rig.journal)):  # noqa: ASYNC110 - another process's file
            await asyncio.sleep(0.02)
    return view


def running(view: JournalView) -> int:
    return sum(task.state == "running" for task in view.tasks.values())


async def test_a_second_signal_ends_a_draining_agent_at_once_as_safely_as_a_kill(tmp_path: Path) -> None:
    async with site(tmp_path, devices=2) as rig:
        async with rig.agent() as hasty:
            await hasty.wait_for_line(READY)
            await rig.add_run("slow")
            await journal_until(rig, lambda view: running(view) == 2)
            hasty.interrupt()
            await hasty.wait_for_line("Draining")
            hasty.interrupt()
            assert await hasty.ended() == 130, hasty.output
            cut_off = read_journal(rig.journal)
            assert running(cut_off) == 2, "nothing was waited for"
        async with rig.agent() as last:
            await last.wait_for_line(READY)
            await all_told(rig, last)
            wrong = await dismissed(rig, last)
    end, found = verdict(rig, [cut_off])
    assert not [*wrong, *found], "\n".join([*wrong, *found])
    assert [task.reason for task in end.tasks.values()] == ["node_restarted"] * 2


async def test_of_two_agents_under_one_id_on_two_pcs_the_second_is_told_and_takes_no_work(tmp_path: Path) -> None:
    async with site(tmp_path, devices=2) as rig, rig.agent() as first:
        await first.wait_for_line(READY)
        other = tmp_path / "another-pc"
        other.mkdir()
        async with rig.agent(other) as second:
            await second.wait_for_line("Another agent works under this node's id")
            await rig.add_run("late")
            await all_told(rig, first)
            assert not read_journal(other / "node" / "agent" / "journal.sqlite3").tasks
            second.interrupt()
            assert await second.ended() == 0, second.output
        wrong = await dismissed(rig, first)
    end, found = verdict(rig, [])
    assert not [*wrong, *found], "\n".join([*wrong, *found])
    assert [task.state for task in end.tasks.values()] == ["succeeded"] * 2
