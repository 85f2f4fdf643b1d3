"""Cares for the node's phones beside their tasks: recovery, quarantine with its probes, and what an operator asks.

Acts on what `recovery.py` and `quarantine.py` decide; few repairs at once, each within a limit.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Final

from muster.agent.ports import DeviceOrder, DeviceStatus, Phones, ReserveTerms
from muster.agent.quarantine import Event, Isolate, Probed, Release, TaskEnded
from muster.agent.quarantine_book import QuarantineBook
from muster.agent.recovery import PAUSE_SEC, Climb, Move, Seen, decide, is_tcp, should_restart_server
from muster.agent.repair_turns import RepairTurns
from muster.agent.repairs import RepairFailed, Repairs
from muster.agent.reservations import Reservations
from muster.contracts.commands import DeviceActionKind
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.limits import DEVICES_PER_NODE_MAX, RECOVERIES_AT_ONCE, SILENT_PHONES_ASKED_AT_ONCE
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.runtime.supervision import Background

log = get_logger()
TICK_SEC: Final = 1.0
# adb itself brings a TCP phone back for a minute (spec/10); what it has forgotten is looked for ever more seldom.
LOST_FIRST_SEC: Final = 15.0
LOST_SEC_MAX: Final = 300.0
# What a full disk does not take holds meanwhile, and the journal has it.
SAVE_AGAIN_SEC: Final = 30.0
_SILENT: Final = (FailureReason.DEVICE_UNRESPONSIVE, FailureReason.ADB_OFFLINE, FailureReason.ADB_MISSING)


@dataclass(frozen=True, slots=True)
class CareParts:
    """`announce`: the table of phones looks different now. `server_lost_at`: monotonic, when adb was last gone."""

    phones: Phones
    repairs: Repairs
    book: QuarantineBook
    clock: Clock
    announce: Callable[[], None]
    server_lost_at: Callable[[], float | None]
    reservations: Reservations = field(kw_only=True)
    grace_ms: int = field(kw_only=True)
    may_reboot: bool = False


@dataclass(slots=True)
class _Lost:
    """A TCP phone that adb does not have: when its port is looked at next, and how long after that."""

    at: float
    pause_sec: float = LOST_FIRST_SEC


@dataclass(slots=True)
class _Notes:
    """What is remembered of phones from one look to the next."""

    began_at: dict[str, float] = field(default_factory=dict)
    lost: dict[str, _Lost] = field(default_factory=dict)
    in_hand: Counter[str] = field(default_factory=Counter)
    given_up: set[str] = field(default_factory=set)
    rebooted: set[str] = field(default_factory=set)
    server_restarted_at: float | None = None


class PhoneCare:
    """Use as `async with`. Implements `ports.DeviceCare` and `ports.DeviceActions`."""

    def __init__(self, parts: CareParts) -> None:
        self._parts = parts
        self._notes = _Notes()
        self._turns = RepairTurns()
        self._slots = asyncio.Semaphore(RECOVERIES_AT_ONCE)
        self._asks = asyncio.Semaphore(SILENT_PHONES_ASKED_AT_ONCE)
        self._background = Background()

    async def __aenter__(self) -> "PhoneCare":
        await self._background.__aenter__()
        _ = self._background.start("care", self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._background.__aexit__(kind, error, trace)
        finally:
            await self._parts.book.save()
            await self._parts.reservations.save()

    # ---- tasks -------------------------------------------------------------------------------------------------------

    async def began(self, device_id: str) -> None:
        """See `DeviceCare`."""
        name = self._name(device_id)
        await self._turns.begin(name)
        self._notes.began_at[name] = self._now()

    def left(self, device_id: str) -> None:
        """See `DeviceCare`."""
        self._turns.end(self._name(device_id))

    async def ended(self, device_id: str, reason: FailureReason | None) -> None:
        """See `DeviceCare`. A loss of the adb server is the node's trouble: it is held against no phone."""
        name, lost_at = self._name(device_id), self._parts.server_lost_at()
        if reason is None:
            self._notes.given_up.discard(name)
            self._notes.rebooted.discard(name)
        elif lost_at is not None and lost_at >= self._notes.began_at.get(name, self._now()):
            return
        if reason in _SILENT:
            self.unresponsive(name)
        await self._record(TaskEnded(name, reason))
        if reason is FailureReason.DEVICE_UNRESPONSIVE and self._may_reboot(name):
            self._notes.rebooted.add(name)
            _ = self._background.start(f"care: reboot {name}", self._reboot(name))

    def _may_reboot(self, name: str) -> bool:
        """Once, and not under the fingers of whoever has reserved it."""
        is_reserved = self._parts.reservations.why(name) is not None
        return self._parts.may_reboot and name not in self._notes.rebooted and not is_reserved

    def unresponsive(self, device_id: str) -> None:
        """See `DeviceCare`."""
        name = self._name(device_id)
        status = self._parts.phones.status(name)
        if status is None or status.state is AttachState.UNAUTHORIZED:
            return
        self._turns.ask(name)
        if self._notes.in_hand[name]:
            return
        self._notes.in_hand[name] += 1
        until = self._now() + self._parts.grace_ms / 1000
        _ = self._background.start(f"care: recover {name}", self._climb(name, Climb(status.runtime_handle, until)))

    async def answered(self, device_id: str) -> bool:
        """See `DeviceCare`."""
        return await self._turns.go_on(self._name(device_id))

    async def waited_in_vain(self, device_id: str) -> None:
        """See `DeviceCare`."""
        await self._turns.go_on(self._name(device_id))

    # ---- what an operator asks ---------------------------------------------------------------------------------------

    def refusal(self, device_id: str, action: DeviceActionKind, terms: ReserveTerms | None = None) -> str | None:
        """See `DeviceActions`."""
        name = self._name(device_id)
        status = self._parts.phones.status(name)
        if status is None:
            return "this node does not know the phone"
        if action in (DeviceActionKind.REBOOT, DeviceActionKind.RECONNECT):
            return self._repair_refusal(name, status)
        reservations = self._parts.reservations
        if action is DeviceActionKind.RELEASE and not (self._parts.book.why(name) or reservations.why(name)):
            return "the phone is neither in quarantine nor reserved"
        if terms is not None and reservations.owner(name) not in (None, terms.owner):
            return f"{reservations.why(name)}; release it first"
        return None

    def _repair_refusal(self, name: str, status: DeviceStatus) -> str | None:
        if name in self._turns.busy:
            return "a task is running on the phone: stop it first"
        if status.state is AttachState.MISSING and not is_tcp(status.runtime_handle):
            return "the phone is not attached: check its cable, hub and power"
        return None

    def begin(self, order: DeviceOrder) -> None:
        """See `DeviceActions`. What only this node's books say of a phone holds from this call on."""
        name, reservations = self._name(order.device_id), self._parts.reservations
        match order.action:
            case DeviceActionKind.QUARANTINE:
                _ = self._parts.book.note(Isolate(name, order.reason))
            case DeviceActionKind.RESERVE if order.terms is not None:
                reservations.reserve(name, order.terms, order.taken_at_ms)
            case DeviceActionKind.RELEASE:
                _ = reservations.release(name)
                _ = self._parts.book.note(Release(name))
            case _:
                return
        self._parts.announce()

    async def see_through(self, order: DeviceOrder) -> str | None:
        """See `DeviceActions`."""
        if order.is_felt:
            try:
                await self._repair(self._name(order.device_id), order.action, order)
            except RepairFailed as error:
                return str(error)
            return None
        while not await self._is_noted(order.action):
            await self._parts.clock.sleep(SAVE_AGAIN_SEC)
        return None

    async def _is_noted(self, action: DeviceActionKind) -> bool:
        """On the disk, in whichever file it concerns."""
        reservations, book = self._parts.reservations, self._parts.book
        if action is DeviceActionKind.RESERVE:
            return await reservations.save()
        return await book.save() and (action is not DeviceActionKind.RELEASE or await reservations.save())

    async def _reboot(self, name: str) -> None:
        """What nobody asked for."""
        try:
            await self._repair(name, DeviceActionKind.REBOOT)
        except RepairFailed as error:
            log.warning("Phone not rebooted", device_id=name, error=str(error))

    async def _repair(self, name: str, action: DeviceActionKind, order: DeviceOrder | None = None) -> None:
        """Raises RepairFailed."""
        self._notes.in_hand[name] += 1
        try:
            async with self._slots, self._turns.repair(name):
                status = self._parts.phones.status(name)
                if order is not None and order.is_late(self._parts.clock.now_ms()):
                    raise RepairFailed("too late: this node did not come to it within the time in which it was wanted")
                if status is None:
                    raise RepairFailed("this node does not know the phone")
                if name in self._turns.busy:
                    raise RepairFailed("a task has begun on the phone")
                await self._act(status.runtime_handle, action)
        finally:
            self._put_down(name)

    async def _act(self, handle: str, action: DeviceActionKind) -> None:
        repairs = self._parts.repairs
        if action is DeviceActionKind.REBOOT:
            await repairs.reboot(handle)
        elif not is_tcp(handle):
            await repairs.reconnect(handle)
        elif await repairs.port_answers(handle):
            await repairs.reattach(handle)
        else:
            raise RepairFailed(f"nothing answers at {handle}")

    # ---- the ladder --------------------------------------------------------------------------------------------------

    async def _climb(self, name: str, climb: Climb) -> None:
        try:
            move = Move.ASK
            while move not in (Move.RECOVERED, Move.GIVE_UP) and self._turns.may_repair(name):
                seen = await self._make(move, name, climb)
                move = decide(climb, seen, self._now())
        finally:
            self._put_down(name)
        log.info("Phone that did not answer", device_id=name, end=move.value, repairs=climb.repairs)
        if move is Move.GIVE_UP:
            self._notes.given_up.add(name)
        elif move is Move.RECOVERED:
            self._notes.given_up.discard(name)

    async def _make(self, move: Move, name: str, climb: Climb) -> Seen:
        repairs = self._parts.repairs
        match move:
            case Move.LOOK_AT_PORT:
                async with self._slots:
                    return Seen.PORT_OPEN if await repairs.port_answers(climb.handle) else Seen.PORT_CLOSED
            case Move.RECONNECT | Move.REATTACH:
                mend = repairs.reattach if move is Move.REATTACH else repairs.reconnect
                try:
                    async with self._slots:
                        is_done = await self._in_turn(name, partial(mend, climb.handle))
                except RepairFailed as error:
                    log.info("Connection not repaired", device_id=name, runtime_handle=climb.handle, error=str(error))
                    return Seen.REPAIRED
                return Seen.REPAIRED if is_done else Seen.PAUSED
            case Move.PAUSE:
                await self._parts.clock.sleep(PAUSE_SEC)
                return Seen.PAUSED
        async with self._asks:
            answers = await repairs.answers(name)
        if status := self._parts.phones.status(name):
            # It may have come back under another handle meanwhile.
            climb.handle = status.runtime_handle
        return Seen.ANSWERED if answers else Seen.SILENT

    async def _in_turn(self, name: str, mend: Callable[[], Awaitable[None]]) -> bool:
        """False: it was not done, for a task has begun on the phone while another repair was waited for."""
        async with self._turns.repair(name):
            if not self._turns.may_repair(name):
                return False
            await mend()
        return True

    # ---- now and then ------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await self._parts.clock.sleep(TICK_SEC)
            for name in self._parts.book.due():
                if not self._notes.in_hand[name]:
                    self._notes.in_hand[name] += 1
                    _ = self._background.start(f"care: probe {name}", self._probe(name))
            for status in self._parts.phones.all():
                self._look_for(status)
            self._forget_strangers()
            await self._restart_server_if_last()

    async def _probe(self, name: str) -> None:
        try:
            async with self._slots:
                is_clean = await self._parts.repairs.answers(name)
            await self._record(Probed(name, is_clean))
        finally:
            self._put_down(name)

    def _look_for(self, status: DeviceStatus) -> None:
        """A TCP phone that adb has forgotten, or keeps as `offline`, is connected again when its port answers."""
        name, now = status.device_id, self._now()
        is_lost = is_tcp(status.runtime_handle) and status.state in (AttachState.MISSING, AttachState.OFFLINE)
        if not is_lost:
            self._notes.lost.pop(name, None)
            return
        lost = self._notes.lost.setdefault(name, _Lost(now + LOST_FIRST_SEC))
        if now >= lost.at and not self._notes.in_hand[name] and len(self._notes.lost) <= DEVICES_PER_NODE_MAX:
            lost.pause_sec = min(2 * lost.pause_sec, LOST_SEC_MAX)
            lost.at = now + lost.pause_sec
            _ = self._background.start(f"care: look for {name}", self._fetch(name, status.runtime_handle))

    async def _fetch(self, name: str, handle: str) -> None:
        self._notes.in_hand[name] += 1
        try:
            async with self._slots:
                repairs = self._parts.repairs
                if await repairs.port_answers(handle) and await self._in_turn(name, partial(repairs.reattach, handle)):
                    log.info("Phone connected again", device_id=name, runtime_handle=handle)
        except RepairFailed as error:
            log.debug("Phone not connected again", device_id=name, runtime_handle=handle, error=str(error))
        finally:
            self._put_down(name)

    async def _restart_server_if_last(self) -> None:
        notes, now = self._notes, self._now()
        ready = {status.device_id for status in self._parts.phones.all() if status.state is AttachState.DEVICE}
        since = None if notes.server_restarted_at is None else now - notes.server_restarted_at
        given_up = len(notes.given_up & ready)
        # Whoever has reserved a phone may be at work on it, over the same server.
        running = len(self._turns.busy) + self._parts.reservations.count()
        if not should_restart_server(known=len(ready), given_up=given_up, running=running, since_last_sec=since):
            return
        notes.server_restarted_at = now
        notes.given_up.clear()
        log.warning("No phone answers: the adb server is restarted", phones=given_up)
        try:
            async with self._turns.repair(None):
                await self._parts.repairs.restart_server()
        except RepairFailed as error:
            log.warning("The adb server could not be restarted", error=str(error))

    # ---- bookkeeping -------------------------------------------------------------------------------------------------

    async def _record(self, event: Event) -> None:
        if await self._parts.book.record(event):
            self._parts.announce()

    def _put_down(self, name: str) -> None:
        _less(self._notes.in_hand, name)

    def _forget_strangers(self) -> None:
        known = {status.device_id for status in self._parts.phones.all()}
        for table in (self._notes.lost, self._notes.began_at):
            for name in table.keys() - known:
                table.pop(name)
        self._turns.forget(known)
        self._notes.given_up &= known
        self._notes.rebooted &= known

    def _name(self, device_id: str) -> str:
        return self._parts.phones.resolve(device_id)

    def _now(self) -> float:
        return self._parts.clock.monotonic()


def _less(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
