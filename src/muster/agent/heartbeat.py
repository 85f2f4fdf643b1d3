"""Tells the backend who is there: every 10 s, and at once when a phone comes or goes (R8.6)."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import ValidationError

from muster.agent.journal import JournalError
from muster.agent.ports import DeviceStatus, Phones
from muster.agent.waiting import set_within
from muster.contracts.events import DeviceReport, NodeHeartbeat, NodeTrouble
from muster.domain.device import AttachState
from muster.domain.limits import DEVICES_PER_NODE_MAX, HEARTBEAT_INTERVAL_SEC, JOURNAL_ANSWER_SEC
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
# A hub that is plugged in brings twenty phones within a moment: one heartbeat for all of them.
CHANGE_DEBOUNCE_SEC: Final = 0.2
MODEL_CHARS_MAX: Final = 128


class VendorState(Protocol):
    """Node Preflight (R2.3): whether the vendor tool answers."""

    @property
    def vendor_ok(self) -> bool:
        """The last `list` succeeded."""
        ...

    @property
    def last_vendor_ok_ms(self) -> int | None:
        """When one last did, epoch ms."""
        ...


class Workload(Protocol):
    """What the scheduler has in hand."""

    @property
    def running(self) -> int:
        """Tasks with a slot."""
        ...

    @property
    def queued_devices(self) -> int:
        """Devices with a task waiting."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """How the node is: its troubles, what stops work first, and how many events the backend refused for good."""

    troubles: tuple[NodeTrouble, ...] = ()
    dead_letters: int = 0

    @property
    def can_work(self) -> bool:
        """Tasks can be executed."""
        return not any(trouble.stops_work for trouble in self.troubles)


@dataclass(frozen=True, slots=True)
class HeartbeatSources:
    """Where a heartbeat's figures come from. `outbox_depth`: how many events wait; `trouble`: why no run is taken."""

    phones: Phones
    vendor: VendorState
    workload: Workload
    outbox_depth: Callable[[], Awaitable[int]]
    is_degraded: Callable[[], bool]
    trouble: Callable[[], str | None] = lambda: None
    condition: Callable[[], Condition] = Condition


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What does not change while the agent runs."""

    node_id: str
    agent_version: str
    max_concurrency: int
    starts_emulators: bool = False


class HeartbeatLoop:
    """`send` hands a heartbeat to the outbox's sender; `changed` is set by whoever watches the phones."""

    def __init__(
        self,
        facts: NodeFacts,
        sources: HeartbeatSources,
        send: Callable[[NodeHeartbeat], None],
        *,
        changed: asyncio.Event,
        clock: Clock,
    ) -> None:
        self._facts = facts
        self._sources = sources
        self._send = send
        self._changed = changed
        self._clock = clock
        self._depth = 0

    async def run(self) -> None:
        """Beats until it is cancelled, the first time at once."""
        while True:
            self._changed.clear()
            self._send(await self._heartbeat())
            if await set_within(self._changed, HEARTBEAT_INTERVAL_SEC, self._clock):
                await self._clock.sleep(CHANGE_DEBOUNCE_SEC)

    async def _heartbeat(self) -> NodeHeartbeat:
        sources, facts = self._sources, self._facts
        depth = await self._outbox_depth()
        # From here on without an await: what is sent is the rack as it is now.
        phones, trouble, condition = sources.phones.all(), sources.trouble(), sources.condition()
        return NodeHeartbeat(
            node_id=facts.node_id,
            timestamp=self._clock.now_ms(),
            connected_devices_count=sum(1 for phone in phones if phone.state is AttachState.DEVICE),
            running_devices_count=sources.workload.running,
            queue_devices_count=sources.workload.queued_devices,
            vendor_ws_ok=sources.vendor.vendor_ok,
            last_vendor_ws_ok_at=sources.vendor.last_vendor_ok_ms,
            agent_version=facts.agent_version,
            outbox_depth=depth,
            degraded=trouble is not None or not condition.can_work or sources.is_degraded(),
            last_error_message=trouble,
            max_concurrency=facts.max_concurrency,
            troubles=list(condition.troubles),
            quarantined_devices_count=sum(1 for phone in phones if phone.quarantined is not None),
            reserved_devices_count=sum(1 for phone in phones if phone.reserved is not None),
            dead_letters=condition.dead_letters,
            starts_emulators=facts.starts_emulators,
            devices=device_reports(phones, self._clock.monotonic()),
        )

    async def _outbox_depth(self) -> int:
        """The last one known, when the journal does not say: presence must outlive a disk that fails or hangs."""
        try:
            async with asyncio.timeout(JOURNAL_ANSWER_SEC):
                self._depth = await self._sources.outbox_depth()
        except (JournalError, TimeoutError) as error:
            log.error("The journal cannot be read", error=str(error) or "no answer")
        return self._depth


def device_reports(phones: Sequence[DeviceStatus], now: float) -> list[DeviceReport]:
    """Phones as the backend takes them. `now` is on the axis of `last_seen` (monotonic seconds).

    What a phone or the vendor tool says of itself may be anything: a value that the contract does not allow is left
    out, and a phone whose very names it does not allow is left out whole, so that it cannot silence its neighbours.
    """
    reports: list[DeviceReport] = []
    for phone in phones[:DEVICES_PER_NODE_MAX]:
        try:
            reports.append(_report(phone, now))
        except ValidationError as error:
            log.warning("A phone cannot be reported", device_id=phone.device_id, error=str(error.errors()[0]["msg"]))
    return reports


def _report(phone: DeviceStatus, now: float) -> DeviceReport:
    battery_is_sane = phone.battery is not None and 0 <= phone.battery <= 100
    temperature_is_sane = phone.temperature is not None and math.isfinite(phone.temperature)
    return DeviceReport(
        device_id=phone.device_id,
        runtime_handle=phone.runtime_handle,
        state=phone.state,
        age_ms=None if phone.last_seen is None else max(0, round((now - phone.last_seen) * 1000)),
        model=phone.model[:MODEL_CHARS_MAX] if phone.model else None,
        battery=phone.battery if battery_is_sane else None,
        temperature=phone.temperature if temperature_is_sane else None,
        last_error_message=phone.last_error_message,
    )
