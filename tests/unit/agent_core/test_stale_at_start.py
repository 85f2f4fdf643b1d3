"""What the backend calls stale while an agent starts, before it has taken up the tasks that its journal has."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.agent_parts import (
    NODE,
    GatedExecutor,
    MemoryBackend,
    MemoryLocks,
    Replaced,
    accept,
    narrator,
    opened_journal,
    run_start,
    seeded,
    tasks_of,
)
from tests.support.loop_stage import OFFLINE
from tests.support.phones import MemoryPhone, MemoryPhones
from tests.support.waiting import until

from muster.agent.composition import Agent, AgentPorts, AgentSettings
from muster.contracts.events import EventVerdict
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source


@dataclass
class SlowRack:
    """`composition.Rack`: it is settled when the test says so."""

    phones: MemoryPhones = field(default_factory=MemoryPhones)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    vendor_ok: bool = True
    last_vendor_ok_ms: int | None = None

    def subscribe(self, changed: asyncio.Event) -> None:
        pass

    async def wait_settled(self) -> None:
        await self.settled.wait()


async def test_a_task_that_is_called_stale_while_the_agent_starts_is_not_taken_up(tmp_path: Path) -> None:
    start = run_start("A", "B")
    stale, fresh = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        assert await journal.park_task(narrator().waiting(stale, OFFLINE, 0))

    def judge(event: dict[str, Any]) -> EventVerdict | None:
        is_stale = event["payload"].get("task_id") == stale.task_id
        return EventVerdict(event_id=event["event_id"], ok=False, status=409) if is_stale else None

    backend, rack, executor = MemoryBackend(judge=judge), SlowRack(), GatedExecutor(open_gates=True)
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
