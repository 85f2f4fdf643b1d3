"""What operators asked of phones: from the acknowledgement on until it is done, has failed or is too late (R1.9).

The journal keeps each order until it has ended, so it may be done twice and is never forgotten (docs/adr/0026). Those
for one phone are done one after the other, as they came, also by the next process.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Protocol

from muster.agent.journal_retry import until_journaled
from muster.agent.narrate import Narrator
from muster.agent.ports import DeviceActions, DeviceOrder, ReserveTerms
from muster.contracts.commands import DeviceAction, DeviceActionKind
from muster.contracts.events import CommandAck
from muster.domain.limits import DEVICE_ORDERS_MAX, RESERVATION_MINUTES_DEFAULT
from muster.runtime.clock import Clock
from muster.runtime.logs import bind_context, get_logger
from muster.runtime.supervision import Background

log = get_logger()


class OrderLedger(Protocol):
    """As much of the journal as this needs."""

    async def end_order(self, command_id: str, failed: CommandAck | None) -> None:
        """See `journal.Commands`."""
        ...


class Orders:
    """Those in hand. `background` ends them all with the process: the journal has what has not ended."""

    def __init__(
        self,
        ledger: OrderLedger,
        actions: DeviceActions,
        background: Background,
        *,
        narrator: Narrator,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._ledger = ledger
        self._actions = actions
        self._background = background
        self._narrator = narrator
        self._clock = clock
        self._rng = rng
        # The latest of each phone: that is done to it, and that is noted of it and waits for the disk alone.
        self._latest: dict[tuple[str, bool], asyncio.Task[None]] = {}
        self._in_hand = 0

    def refusal(self, order: DeviceOrder) -> str | None:
        """Why it is not taken, fit for an operator, else None."""
        if self._in_hand >= DEVICE_ORDERS_MAX:
            return f"this node has {self._in_hand} actions on phones to do already: ask again later"
        return self._actions.refusal(order.device_id, order.action, order.terms)

    def take_up(self, left: Sequence[DeviceOrder]) -> None:
        """What the last process did not get done."""
        for order in left:
            log.info("Device action is taken up again", device_id=order.device_id, device_action=order.action.value)
            self.begin(order)

    def begin(self, order: DeviceOrder) -> None:
        """A journaled one: it goes on by itself."""
        self._actions.begin(order)
        self._in_hand += 1
        line = _line(order)
        work = self._see_through(order, self._latest.get(line))
        self._latest[line] = self._background.start(f"order: {order.action.value} {order.device_id}", work)

    async def _see_through(self, order: DeviceOrder, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        try:
            failure = await self._actions.see_through(order)
        except Exception as error:
            # Kept, it would end the agent at each start.
            log.error("A device action raised, which is a bug", exc_info=True, device_id=order.device_id)
            failure = f"a bug: {type(error).__name__}: {error}"
        await self._end(order, failure)
        self._in_hand -= 1
        if self._latest[_line(order)] is asyncio.current_task():
            del self._latest[_line(order)]

    async def _end(self, order: DeviceOrder, failure: str | None) -> None:
        told = {"device_id": order.device_id, "device_action": order.action.value}
        if failure is None:
            log.info("Device action done", **told)
        else:
            log.warning("Device action failed", error=failure, **told)
        failed = None if failure is None else self._narrator.command_ack(order.command_id, failure)
        with bind_context(device_id=order.device_id):
            await until_journaled(lambda: self._ledger.end_order(order.command_id, failed), self._clock, self._rng)


def _line(order: DeviceOrder) -> tuple[str, bool]:
    """Those in one line are seen through one after the other: a disk that is full keeps no phone from its reboot."""
    return order.device_id, order.is_felt


def order_of(command: DeviceAction, taken_at_ms: int) -> DeviceOrder:
    """The command as it is kept and obeyed."""
    terms = None
    if command.action is DeviceActionKind.RESERVE:
        terms = ReserveTerms(command.owner or "?", command.reason, command.minutes or RESERVATION_MINUTES_DEFAULT)
    return DeviceOrder(command.command_id, command.device_id, command.action, taken_at_ms, terms, command.reason)
