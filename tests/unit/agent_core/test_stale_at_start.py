"""What the backend calls stale when the scheduler cannot hear of it: a kill comes first, or it has not begun yet."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.support.agent_parts import (
    NODE,
    GatedExecutor,
    MemoryBackend,
    MemoryLocks,
    Replaced,
    SlowRack,
    accept,
    narrator,
    opened_journal,
    run_start,
    seeded,
    tasks_of,
    told,
    types_of,
    uuid,
)
from tests.support.loop_stage import OFFLINE
from tests.support.phones import MemoryPhone, MemoryPhones
from tests.support.waiting import until

from muster.agent.composition import Agent, AgentPorts, AgentSettings
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.outbox import OutboxSender
from muster.agent.ports import Task
from muster.agent.preflight.known_screen import Screens
from muster.agent.resume import resume
from muster.contracts.events import EventVerdict
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source


def calls_stale(task: Task) -> Callable[[dict[str, Any]], EventVerdict | None]:
    """A backend's judge that has handed out a higher attempt of the task."""

    def judge(event: dict[str, Any]) -> EventVerdict | None:
        payload = event["payload"]
        is_stale = payload.get("task_id") == task.task_id and payload["attempt"] <= task.attempt
        return EventVerdict(event_id=event["event_id"], ok=False, status=409) if is_stale else None

    return judge


async def told_the_backend(journal: SqliteJournal, backend: MemoryBackend) -> None:
    """As an agent that is killed when its last event is settled, before its scheduler has heard of the verdicts."""
    clock = SystemClock()
    sender = OutboxSender(journal, backend, clock=clock, rng=seeded(), new_id=id_source(clock))
    journal.news.set()
    sending = asyncio.create_task(sender.run())
    try:
        assert await sender.flush(20)
    finally:
        sending.cancel()
        await asyncio.wait([sending])


async def test_an_attempt_that_was_called_stale_before_a_kill_is_taken_up_by_no_later_life(tmp_path: Path) -> None:
    start = run_start("A", "B")
    stale, fresh = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        assert await journal.park_task(narrator().waiting(stale, OFFLINE, 0))
        await told_the_backend(journal, MemoryBackend(judge=calls_stale(stale)))
    async with opened_journal(tmp_path) as journal:
        assert await resume(journal, narrator()) == [fresh]
        assert await told(journal) == [], "nobody is told of a stale attempt"
    async with opened_journal(tmp_path) as journal:
        assert [task.task_id for task in await journal.open_tasks()] == [fresh.task_id]
        handed_out_again = run_start("A", run=1).model_copy(update={"command_id": uuid(9, kind=1)})
        (again,) = await accept(
            journal,
            handed_out_again.model_copy(update={"tasks": [start.tasks[0].model_copy(update={"attempt": 2})]}),
        )
        assert [task.attempt for task in await resume(journal, narrator())] == [2, 1], f"{again} is a task like others"


async def test_a_stale_attempt_that_a_kill_cut_off_leaves_its_phone_in_an_unknown_screen(tmp_path: Path) -> None:
    start = run_start("A", maxAttempts=3)
    (stale,) = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        assert await journal.begin_task(narrator().task_started(stale, "usb-1"))
        await told_the_backend(journal, MemoryBackend(judge=calls_stale(stale)))
    async with opened_journal(tmp_path) as journal:
        assert await resume(journal, narrator()) == []
        assert types_of(await told(journal)) == ["run_finished"], "here it is over"
        screens = Screens()
        screens.take_up(await journal.last_at_phones(), MemoryPhones())
        assert screens.is_unknown("A")


async def test_a_stale_attempt_that_was_asked_to_end_is_told_by_nobody(tmp_path: Path) -> None:
    start = run_start("A", "B")
    stale, fresh = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        assert await journal.park_task(narrator().waiting(stale, OFFLINE, 0))
        await journal.accept_cancel(narrator().command_ack(uuid(7, kind=7)), stale.task_id)
        await told_the_backend(journal, MemoryBackend(judge=calls_stale(stale)))
    async with opened_journal(tmp_path) as journal:
        assert await resume(journal, narrator()) == [fresh]
        assert await told(journal) == []


async def test_a_task_that_is_called_stale_while_the_agent_starts_is_not_taken_up(tmp_path: Path) -> None:
    start = run_start("A", "B")
    stale, fresh = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        assert await journal.park_task(narrator().waiting(stale, OFFLINE, 0))
    backend, rack, executor = MemoryBackend(judge=calls_stale(stale)), SlowRack(), GatedExecutor(open_gates=True)
    for device in ("A", "B"):
        rack.phones.add(MemoryPhone(device))
    clock, locks = SystemClock(), MemoryLocks()
    settings = AgentSettings("http://none", NODE, tmp_path, None, ("127.0.0.1", 1), None, drain_grace_sec=0.0)
    async with opened_journal(tmp_path) as journal:
        ports = AgentPorts(
            clock,
            seeded(),
            id_source(clock),
            backend,
            journal,
            rack,
            locks,
            tmp_path / "spool",
            observer=Replaced(executor),
        )
        working = asyncio.create_task(Agent(settings, ports).run(lambda _line: None))
        try:
            async with asyncio.timeout(20):
                while (await journal.depth()).telemetry:  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0.01)
            rack.settled.set()
            await until(lambda: backend.of("task_finished"))
            async with asyncio.timeout(20):
                while await journal.open_tasks():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert executor.started == [fresh.task_id]
            assert [payload["task_id"] for payload in backend.of("task_finished")] == [fresh.task_id]
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
