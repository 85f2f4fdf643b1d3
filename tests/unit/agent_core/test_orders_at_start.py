"""An agent that starts takes up what the last one left of an operator's orders, before the tasks that it left."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

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
    uuid,
)
from tests.support.phones import MemoryPhone
from tests.support.waiting import until

from muster.agent.composition import Agent, AgentPorts, AgentSettings
from muster.agent.ports import DeviceOrder
from muster.contracts.commands import DeviceActionKind
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source


@dataclass
class Noting:
    """`DeviceActions`: how many tasks had started when an order began; nothing is ever done."""

    executor: GatedExecutor
    begun: list[tuple[str, int]] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)

    def refusal(self, device_id: str, action: DeviceActionKind, terms: object = None) -> str | None:
        return None

    def begin(self, order: DeviceOrder) -> None:
        self.begun.append((order.device_id, len(self.executor.started)))

    async def see_through(self, order: DeviceOrder) -> str | None:
        self.under_way.append(order.device_id)
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")


async def test_orders_are_taken_up_before_tasks_and_a_clean_stop_keeps_what_is_not_done(tmp_path: Path) -> None:
    clock, rack, executor = SystemClock(), SlowRack(), GatedExecutor(open_gates=True)
    left = [
        DeviceOrder(uuid(n, kind=7), device, DeviceActionKind.REBOOT, clock.now_ms()) for n, device in enumerate("AB")
    ]
    async with opened_journal(tmp_path) as journal:
        await accept(journal, run_start("A", "B"))
        for order in left:
            assert await journal.accept_order(narrator().command_ack(order.command_id), order)
    for device in ("A", "B"):
        rack.phones.add(MemoryPhone(device))
    rack.settled.set()
    hands, backend = Noting(executor), MemoryBackend()
    settings = AgentSettings("http://none", NODE, tmp_path, None, ("127.0.0.1", 1), None, drain_grace_sec=0.0)
    async with opened_journal(tmp_path) as journal:
        ports = AgentPorts(
            clock, seeded(), id_source(clock), backend, journal, rack, MemoryLocks(), tmp_path / "spool",
            actions=hands, observer=Replaced(executor),
        )  # fmt: skip
        working = asyncio.create_task(Agent(settings, ports).run(lambda _line: None))
        await until(lambda: len(backend.of("task_finished")) == 2 and len(hands.under_way) == 2)
        fresh = uuid(9, kind=7)
        await backend.hand_out({"type": "device_action", "command_id": fresh, "device_id": "A", "action": "reboot"})
        await until(lambda: len(hands.begun) == 3)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        assert hands.begun == [("A", 0), ("B", 0), ("A", 2)]
        kept = await journal.open_orders()
        assert kept[:2] == left and kept[2].command_id == fresh
