"""What an earlier life of the agent left on a phone's screen is known to the next one, however it ended (spec/07)."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.agent_parts import (
    NODE,
    MemoryBackend,
    MemoryLocks,
    SlowRack,
    accept,
    command,
    narrator,
    opened_journal,
    run_start,
    seeded,
    tasks_of,
)
from tests.support.loop_stage import OFFLINE
from tests.support.phones import Answer, MemoryPhone, ended

from muster.agent.composition import Agent, AgentPorts, AgentSettings
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.ports import TaskOutcome
from muster.agent.preflight.known_screen import GO_HOME, Screens
from muster.contracts.commands import RunStart
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source

PATIENCE_SEC = 20.0
WORK = "echo hello"


async def life(folder: Path, start: RunStart, answer: Answer) -> Sequence[str]:
    """What phone A was told to do in a life of the agent that ends by a clean stop: at the end of the run's task, or in
    its step when that hangs."""
    phone, rack, clock = MemoryPhone("A", answers={WORK: [answer]}), SlowRack(), SystemClock()
    rack.phones.add(phone)
    rack.settled.set()
    backend = MemoryBackend(commands=[command(start)])
    settings = AgentSettings("http://none", NODE, folder, None, ("127.0.0.1", 1), None, drain_grace_sec=0.0)
    async with opened_journal(folder) as journal:
        ports = AgentPorts(
            clock, seeded(), id_source(clock), backend, journal, rack, MemoryLocks(), folder / "spool"
        )  # fmt: skip
        working = asyncio.create_task(Agent(settings, ports).run(lambda _line: None))
        try:
            async with asyncio.timeout(PATIENCE_SEC):
                if isinstance(answer, float):
                    await phone.hung.wait()
                else:
                    await _is_over(backend)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
        assert await journal.open_tasks() == [], "it ended cleanly"
    return phone.commands


async def _is_over(backend: MemoryBackend) -> None:
    async with backend.changed:
        await backend.changed.wait_for(lambda: bool(backend.of("task_finished")))


@pytest.mark.parametrize(
    ("answer", "must_go_home"), [(math.inf, True), (ended("hello"), False), (ended("", exit_code=1), False)]
)
async def test_a_phone_whose_task_a_clean_stop_cut_off_goes_home_in_the_next_life(
    tmp_path: Path, answer: Answer, must_go_home: bool
) -> None:
    first = await life(tmp_path, run_start("A", run=1), answer)
    assert WORK in first and GO_HOME not in first
    second = await life(tmp_path, run_start("A", run=2), ended("hello"))
    assert (GO_HOME in second) is must_go_home
    assert not must_go_home or second.index(GO_HOME) < second.index(WORK)
    assert GO_HOME not in await life(tmp_path, run_start("A", run=3), ended("hello")), "it has been there"


async def unknown(journal: SqliteJournal) -> bool:
    screens, rack = Screens(), SlowRack()
    screens.take_up(await journal.last_at_phones(), rack.phones)
    return screens.is_unknown("A")


async def test_a_phone_stays_unknown_however_often_the_agent_starts_before_it_has_a_task(tmp_path: Path) -> None:
    start = run_start("A")
    (task,) = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        assert not await unknown(journal), "nothing has begun there"
        assert await journal.begin_task(narrator().task_started(task, "usb-1"))
        assert await unknown(journal)
        (cut_off,) = await journal.open_tasks()
        assert await journal.end_task(narrator().node_restarted(cut_off))
        assert await unknown(journal)


async def test_a_phone_of_which_an_earlier_attempt_ended_in_the_middle_is_unknown(tmp_path: Path) -> None:
    start = run_start("A", maxAttempts=2)
    (task,) = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        assert await journal.begin_task(narrator().task_started(task, "usb-1"))
        failed = narrator().attempt_failed(task, FailureReason.STEP_TIMEOUT, "too long")
        assert await journal.retry_task(failed)
        assert await unknown(journal)


@pytest.mark.parametrize("end", [TaskState.CANCELLED, TaskState.SKIPPED_OFFLINE])
async def test_so_it_stays_when_the_attempt_after_it_ends_before_it_has_begun(tmp_path: Path, end: TaskState) -> None:
    well, cut_off = run_start("A", run=1), run_start("A", run=2, maxAttempts=2)
    async with opened_journal(tmp_path) as journal:
        for start in (well, cut_off):
            (task,) = tasks_of(start)
            await accept(journal, start)
            assert await journal.begin_task(narrator().task_started(task, "usb-1"))
            outcome = TaskOutcome(TaskState.SUCCEEDED)
            if start is well:
                finished = narrator().task_finished(task, outcome, started_at_ms=None, duration_ms=None)
                assert await journal.end_task(finished)
        failed = narrator().attempt_failed(task, FailureReason.NODE_RESTARTED, "power cut")
        assert await journal.retry_task(failed)
        ended_so = TaskOutcome(end, FailureReason.CANCELLED if end is TaskState.CANCELLED else None)
        again = replace(task, attempt=2)
        assert await journal.end_task(narrator().task_finished(again, ended_so, started_at_ms=None, duration_ms=None))
        assert await unknown(journal)


async def test_the_last_task_at_a_phone_counts_and_none_that_never_came_to_it(tmp_path: Path) -> None:
    cut_off, well, in_vain = run_start("A", run=1), run_start("A", run=2), run_start("A", run=3)
    async with opened_journal(tmp_path) as journal:
        for start, reason in (
            (cut_off, FailureReason.STEP_TIMEOUT),
            (well, None),
            (in_vain, FailureReason.ADB_OFFLINE),
        ):
            (task,) = tasks_of(start)
            await accept(journal, start)
            outcome = TaskOutcome(TaskState.FAILED if reason else TaskState.SUCCEEDED, reason)
            if start is in_vain:
                assert await journal.park_task(narrator().waiting(task, OFFLINE, 0))
            else:
                assert await journal.begin_task(narrator().task_started(task, "usb-1"))
            finished = narrator().task_finished(task, outcome, started_at_ms=None, duration_ms=None)
            assert await journal.end_task(finished)
            assert await unknown(journal) is (start is cut_off)
