"""A care for phones whose repairs are scripted, on a clock that a test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.manual_clock import ManualClock
from tests.support.phones import MemoryPhone, MemoryPhones

from muster.agent.care import CareParts, PhoneCare
from muster.agent.ports import DeviceOrder, ReserveTerms
from muster.agent.quarantine_book import QuarantineBook
from muster.agent.repairs import RepairFailed
from muster.agent.reservations import Reservations
from muster.contracts.commands import DeviceActionKind
from muster.domain.failure import FailureReason
from muster.domain.limits import DEVICE_GRACE_WAIT_MS
from muster.runtime.supervision import Background

USB, TCP = "R58M123", "192.168.0.7:5555"
HUNG = FailureReason.DEVICE_UNRESPONSIVE


@dataclass
class ScriptedRepairs:
    """Implements `Repairs`. `well`: phones that answer; `open_ports`; what was done is kept in order."""

    clock: ManualClock
    well: set[str] = field(default_factory=set)
    open_ports: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    on_repair: Callable[[str], None] = lambda _: None
    look_until: asyncio.Event | None = None
    fails: str | None = None
    until: asyncio.Event | None = None
    at_once: int = 0
    at_once_max: int = 0

    async def answers(self, device_id: str) -> bool:
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            await self.clock.sleep(0.1 if device_id in self.well else 3.0)
        finally:
            self.at_once -= 1
        return device_id in self.well

    async def port_answers(self, handle: str) -> bool:
        self.done.append(f"look {handle}")
        if self.look_until is not None:
            await self.look_until.wait()
        return handle in self.open_ports

    async def reconnect(self, handle: str) -> None:
        self._do(f"reconnect {handle}")
        if self.until is not None:
            await self.until.wait()

    async def reattach(self, handle: str) -> None:
        self._do(f"reattach {handle}")
        if self.until is not None:
            await self.until.wait()

    async def reboot(self, handle: str) -> None:
        self._do(f"reboot {handle}")

    async def restart_server(self) -> None:
        self._do("restart server")

    def _do(self, what: str) -> None:
        self.done.append(what)
        if self.fails is not None:
            raise RepairFailed(self.fails)
        self.on_repair(what)


@dataclass
class Ward:
    """A care under test and what surrounds it."""

    care: PhoneCare
    repairs: ScriptedRepairs
    phones: MemoryPhones
    book: QuarantineBook
    reservations: Reservations
    clock: ManualClock
    announced: list[float]
    server_lost: list[float]
    orders: Background
    failed: list[str] = field(default_factory=list)

    def add(self, handle: str, device_id: str = "A", **fields: object) -> str:
        self.phones.add(MemoryPhone(device_id, handle), **fields)  # type: ignore[arg-type]
        return device_id

    def order(
        self,
        device_id: str,
        action: DeviceActionKind,
        terms: ReserveTerms | None = None,
        *,
        taken_at_ms: int | None = None,
        reason: str | None = None,
    ) -> None:
        """As if an operator asked for it now, or then; why it could not be done comes into `failed`."""
        at_ms = self.clock.now_ms() if taken_at_ms is None else taken_at_ms
        order = DeviceOrder(f"order {device_id}", device_id, action, at_ms, terms, reason)
        self.care.begin(order)
        _ = self.orders.start(f"{action} {device_id}", self._see_through(order))

    async def _see_through(self, order: DeviceOrder) -> None:
        failure = await self.care.see_through(order)
        if failure is not None:
            self.failed.append(failure)

    async def fail(self, device_id: str, times: int, reason: FailureReason | None = HUNG) -> None:
        for _ in range(times):
            await self.care.began(device_id)
            self.care.left(device_id)
            await self.care.ended(device_id, reason)


@asynccontextmanager
async def ward(folder: Path | None = None, *, may_reboot: bool = False) -> AsyncIterator[Ward]:
    clock, phones = ManualClock(), MemoryPhones()
    repairs = ScriptedRepairs(clock)
    book = QuarantineBook(folder / "quarantine.json" if folder else None, clock)
    await book.load()
    reservations = Reservations(folder / "reservations.json" if folder else None, clock)
    await reservations.load()
    announced, lost = list[float](), list[float]()
    parts = CareParts(
        phones, repairs, book, clock, lambda: announced.append(clock.monotonic()), lambda: lost[-1] if lost else None,
        reservations=reservations, may_reboot=may_reboot, grace_ms=DEVICE_GRACE_WAIT_MS,
    )  # fmt: skip
    async with PhoneCare(parts) as care, Background() as orders:
        yield Ward(care, repairs, phones, book, reservations, clock, announced, lost, orders)
