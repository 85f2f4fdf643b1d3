"""`GET /api/nodes/pull`: a long poll that answers the moment there is work (R3.2), for one agent a node (docs/adr)."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from muster.backend.bus import Bus, Listener
from muster.backend.presence import Presence
from muster.backend.refusal import ProblemSlug, Refusal
from muster.domain.limits import COMMAND_REDELIVERY_SEC, INSTANCE_TAKEOVER_SEC
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.store import commands
from muster.store.database import Database

# An agent whose connection broke polls again within a second or two; one that was killed never does.
GONE_GRACE_SEC: Final = 5
_log = get_logger()
_REDELIVERY_MS = COMMAND_REDELIVERY_SEC * 1000


@dataclass(slots=True)
class Seat:
    """Which instance speaks for a node. `poll` is its poll under way; without one, others wait until `free_at`."""

    instance_id: str
    free_at: float
    poll: Listener | None = None


class HandOutCommands:
    """Hands commands to nodes, each again until it is acknowledged."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        presence: Presence,
        on_afresh: Callable[[str, str], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """`on_afresh`: told (node_id, instance_id) of an agent whose data folder nobody has ever spoken from."""
        self._database = database
        self._bus = bus
        self._presence = presence
        self._on_afresh = on_afresh
        self._clock = clock
        self._seats: dict[str, Seat] = {}

    async def pull(
        self,
        node_id: str,
        instance_id: str,
        wait_ms: int,
        until_gone: Callable[[], Awaitable[None]],
        *,
        replaces: str | None = None,
    ) -> list[dict[str, Any]] | Refusal:
        """What is due to this instance; waits up to `wait_ms` for the first command, or until the client is gone."""
        seat = self._sit_down(node_id, instance_id, replaces)
        if seat is None:
            _log.warning("A second agent was refused", node_id=node_id, instance_id=instance_id)
            return _taken(node_id)
        self._presence.register(node_id)
        if replaces is None:
            await self._on_afresh(node_id, instance_id)
        with self._bus.listen(node_id) as listener:
            if seat.poll is not None:
                seat.poll.wake()  # its client has given it up, or it would not ask again
            seat.poll = listener
            gone = asyncio.ensure_future(until_gone())
            gone.add_done_callback(lambda _: listener.wake())
            try:
                return await self._wait_for_work(node_id, seat, listener, wait_ms, gone)
            finally:
                keeps_sec = GONE_GRACE_SEC if gone.done() else INSTANCE_TAKEOVER_SEC
                gone.cancel()
                if seat.poll is listener:
                    seat.poll = None
                    seat.free_at = self._clock.monotonic() + keeps_sec

    def leave(self, node_id: str, instance_id: str) -> None:
        """The instance stops in good order: another one may take its place at once."""
        seat = self._seats.get(node_id)
        if seat is not None and seat.instance_id == instance_id:
            del self._seats[node_id]
            if seat.poll is not None:
                seat.poll.wake()

    def _sit_down(self, node_id: str, instance_id: str, replaces: str | None) -> Seat | None:
        now, seat = self._clock.monotonic(), self._seats.get(node_id)
        if seat is not None and seat.instance_id == instance_id:
            return seat
        if seat is not None and seat.instance_id != replaces and (seat.poll is not None or now < seat.free_at):
            return None
        if seat is not None and seat.poll is not None:
            seat.poll.wake()  # a killed agent's connection that nobody has closed yet
        self._seats[node_id] = Seat(instance_id, free_at=now + INSTANCE_TAKEOVER_SEC)
        return self._seats[node_id]

    async def _wait_for_work(
        self, node_id: str, seat: Seat, listener: Listener, wait_ms: int, gone: asyncio.Future[None]
    ) -> list[dict[str, Any]]:
        deadline = self._clock.monotonic() + wait_ms / 1000
        while not gone.done() and seat.poll is listener and self._seats.get(node_id) is seat:
            wait_sec = deadline - self._clock.monotonic()
            async with self._database.reading() as tx:
                due_ms = await commands.next_due_ms(
                    tx, node_id, seat.instance_id, now_ms=self._clock.now_ms(), redelivery_ms=_REDELIVERY_MS
                )
            if due_ms is not None and due_ms <= self._clock.now_ms():
                found = await self._take(node_id, seat.instance_id)
                if found:
                    return found
            if wait_sec <= 0 or self._bus.is_closed:
                break
            if due_ms is not None:
                wait_sec = min(wait_sec, max(due_ms - self._clock.now_ms(), 1) / 1000)
            await listener.wait(wait_sec, self._clock)
        return []

    async def _take(self, node_id: str, instance_id: str) -> list[dict[str, Any]]:
        async with self._database.writing() as tx:
            return await commands.hand_out(
                tx, node_id, instance_id, now_ms=self._clock.now_ms(), redelivery_ms=_REDELIVERY_MS
            )


def _taken(node_id: str) -> Refusal:
    return Refusal.of_field(
        ProblemSlug.NODE_ALREADY_CONNECTED,
        "instance_id",
        f"another agent is connected as {node_id}; stop it, or give this one another NODE_ID",
    )
