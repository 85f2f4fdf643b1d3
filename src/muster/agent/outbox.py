"""Tells the backend what the journal recorded: at least once, in order for each task, as soon as there is news."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypeVar

from muster.agent.journal import JournalError, Outbox, Refusal, StaleAttempt
from muster.agent.link import BackendLink, LinkBroken, LinkError, LinkRefused, is_final_refusal, is_unauthorized
from muster.agent.waiting import set_within
from muster.contracts.events import STALE_ATTEMPT_STATUS, CallbackAnswer, EventVerdict, NodeHeartbeat, envelope
from muster.domain.limits import (
    CALLBACK_BYTES_MAX,
    CALLBACK_TIMEOUT_SEC,
    DEGRADED_AFTER_FAILURES,
    EVENT_BATCH_MAX,
    OUTBOX_AUTH_RETRY_SEC,
    OUTBOX_COALESCE_MS,
    OUTBOX_FRESH_SEC,
    OUTBOX_JOURNAL_SEC,
    OUTBOX_PACE_MS,
    OUTBOX_RETRY_LADDER_SEC,
)
from muster.runtime.backoff import ladder_delay_sec
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger

log = get_logger()
T = TypeVar("T")
FLUSH_LOOK_SEC: Final = 0.5
# A whole request refused with one of these says that its content is at fault. Any other 4xx may come from a proxy or a
# wrong address, and must not bury facts.
CONTENT_REFUSED: Final = frozenset({400, 413, 422})


class _Round(Enum):
    """How one attempt to send went."""

    EMPTY = "nothing to send"
    DONE = "everything sent was settled"
    CAUGHT_UP = "so it was, and it was not much"
    FAILED = "try again later"
    PAUSED = "the secret is refused"


class _EventsHeldBackError(LinkError):
    """The backend took the request but asked for some of its events again later."""


@dataclass(frozen=True, slots=True)
class _Item:
    """An event on its way. A heartbeat has no `position`, for it is not kept when it fails, but a number of its own."""

    position: int | None
    body: dict[str, Any]
    beat: int = 0


class OutboxSender:
    """One request at a time. What piles up meanwhile makes the next batch."""

    def __init__(self, outbox: Outbox, link: BackendLink, *, clock: Clock, rng: random.Random, new_id: NewId) -> None:
        # Told of an attempt that the backend calls stale (task_id, attempt) before the journal marks it.
        self.on_stale: Callable[[str, int], None] = lambda _task_id, _attempt: None
        # Told when the backend takes events again after an outage.
        self.on_back: Callable[[], None] = lambda: None
        self._outbox = outbox
        self._link = link
        self._clock = clock
        self._rng = rng
        self._new_id = new_id
        self._failures = 0
        self._heartbeat: NodeHeartbeat | None = None
        self._heartbeat_due = asyncio.Event()
        self._settled = asyncio.Event()
        self._beats = 0
        self._beat_accepted = 0
        self._beat_was_accepted = asyncio.Event()

    @property
    def degraded(self) -> bool:
        """The last five attempts failed (spec/03); the node goes on executing."""
        return self._failures >= DEGRADED_AFTER_FAILURES

    def beat(self, heartbeat: NodeHeartbeat) -> None:
        """Sends it at once, even while waiting to try again; a newer one replaces it."""
        self._beats += 1
        self._heartbeat = heartbeat
        self._heartbeat_due.set()
        self._outbox.news.set()

    async def next_beat_accepted(self) -> None:
        """Returns when the backend has taken a heartbeat that was made after this call."""
        wanted = self._beats + 1
        while self._beat_accepted < wanted:
            self._beat_was_accepted.clear()
            await self._beat_was_accepted.wait()

    async def run(self) -> None:
        """Sends until it is cancelled."""
        while True:
            await self._outbox.news.wait()
            self._outbox.news.clear()
            # Events of one burst go together; nobody notices three milliseconds.
            await self._clock.sleep(OUTBOX_COALESCE_MS / 1000)
            while (outcome := await self._round()) is not _Round.EMPTY:
                await self._after(outcome)

    async def flush(self, within_sec: float) -> bool:
        """Waits until nothing is left to tell; False when time is up first. `run` must be running."""
        try:
            async with asyncio.timeout(within_sec):
                while True:
                    self._settled.clear()
                    try:
                        if not (await self._outbox.depth()).total:
                            return True
                    except JournalError:
                        await self._clock.sleep(FLUSH_LOOK_SEC)
                        continue
                    await self._settled.wait()
        except TimeoutError:
            return False

    # ---- one round ---------------------------------------------------------------------------------------------------

    async def _round(self) -> _Round:
        try:
            fresh_since_ms = self._clock.now_ms() - OUTBOX_FRESH_SEC * 1000
            # A backend that has been away for a while is tried with one event, not with a whole batch for days.
            is_trial = self.degraded
            count_max = 1 if is_trial else EVENT_BATCH_MAX - 1
            events = await _in_time(self._outbox.pending(count_max, CALLBACK_BYTES_MAX, fresh_since_ms))
            items = [*self._take_heartbeat(), *(_Item(event.position, event.body) for event in events)]
            if not items:
                return _Round.EMPTY
            await self._deliver(items)
        except (LinkError, JournalError) as error:
            return self._failed(error)
        if self._failures:
            log.info("The backend takes events again", failures=self._failures)
            self.on_back()
        self._failures = 0
        return _Round.CAUGHT_UP if len(items) < EVENT_BATCH_MAX // 2 and not is_trial else _Round.DONE

    def _failed(self, error: LinkError | JournalError) -> _Round:
        self._failures += 1
        unauthorized = isinstance(error, LinkRefused) and is_unauthorized(error.status)
        if unauthorized:
            log.error("The backend refuses this node's secret; events wait", error=str(error))
            return _Round.PAUSED
        # Told on each rung of the ladder, then once in a while: days of outage must not fill the disk with lines.
        if self._failures <= len(OUTBOX_RETRY_LADDER_SEC) or self._failures % 60 == 0:
            log.warning("Events could not be sent", failures=self._failures, error=str(error))
        return _Round.FAILED

    async def _after(self, outcome: _Round) -> None:
        """What comes after a pause goes at once; what goes on coming, in few requests; a backlog, without a pause."""
        if outcome is _Round.CAUGHT_UP:
            await self._clock.sleep(OUTBOX_PACE_MS / 1000)
        elif outcome is _Round.PAUSED:
            await self._clock.sleep(OUTBOX_AUTH_RETRY_SEC * self._rng.uniform(0.8, 1.2))
        elif outcome is _Round.FAILED:
            await self._wait_to_retry(ladder_delay_sec(self._failures, OUTBOX_RETRY_LADDER_SEC, self._rng))

    async def _wait_to_retry(self, seconds: float) -> None:
        """A heartbeat that falls due is sent meanwhile: it is the probe that finds the backend back."""
        deadline = self._clock.monotonic() + seconds
        while (left := deadline - self._clock.monotonic()) > 0:
            if not await set_within(self._heartbeat_due, left, self._clock):
                return
            try:
                await self._deliver(self._take_heartbeat())
            except (LinkError, JournalError):
                continue
            return

    def _take_heartbeat(self) -> list[_Item]:
        heartbeat, self._heartbeat = self._heartbeat, None
        self._heartbeat_due.clear()
        return [] if heartbeat is None else [_Item(None, envelope(self._new_id(), heartbeat), self._beats)]

    # ---- delivering --------------------------------------------------------------------------------------------------

    async def _deliver(self, items: Sequence[_Item]) -> None:
        """Sends and settles. A batch whose content is refused as a whole is halved until the culprit stands alone."""
        try:
            verdicts = await self._post(items)
        except LinkRefused as refusal:
            if refusal.status not in CONTENT_REFUSED:
                raise
            if len(items) == 1:
                verdict = EventVerdict(event_id=None, ok=False, status=refusal.status, message=str(refusal))
                await self._settle(items, [verdict])
                return
            middle = len(items) // 2
            await self._deliver(items[:middle])
            await self._deliver(items[middle:])
            return
        await self._settle(items, verdicts)

    async def _post(self, items: Sequence[_Item]) -> list[EventVerdict]:
        try:
            async with asyncio.timeout(CALLBACK_TIMEOUT_SEC):
                answer = await self._link.callback([item.body for item in items])
        except TimeoutError as error:
            raise LinkBroken(f"no answer to a callback within {CALLBACK_TIMEOUT_SEC:.0f} s") from error
        return _verdicts(items, answer)

    async def _settle(self, items: Sequence[_Item], verdicts: Sequence[EventVerdict]) -> None:
        accepted: list[int] = []
        refused: list[Refusal] = []
        later: EventVerdict | None = None
        for item, verdict in zip(items, verdicts, strict=True):
            if verdict.ok:
                self._accepted(item, accepted)
            elif is_final_refusal(verdict.status):
                self._refused(item, verdict, refused)
            else:
                later = verdict
        if accepted or refused:
            await _in_time(self._outbox.settle(accepted, refused))
            self._settled.set()
        if later is not None:
            raise _held_back(later)

    def _accepted(self, item: _Item, accepted: list[int]) -> None:
        if item.position is None:
            self._beat_accepted = item.beat
            self._beat_was_accepted.set()
        else:
            accepted.append(item.position)

    def _refused(self, item: _Item, verdict: EventVerdict, refused: list[Refusal]) -> None:
        payload = item.body["payload"]
        message = ": ".join(part for part in (verdict.field, verdict.message) if part)
        log.error(
            "The backend refused an event for good",
            **{key: payload[key] for key in ("run_id", "device_id") if key in payload},
            type=item.body.get("type"),
            event_id=item.body.get("event_id"),
            status=verdict.status,
            error=message,
        )
        stale = None
        if verdict.status == STALE_ATTEMPT_STATUS and "task_id" in payload and "attempt" in payload:
            stale = StaleAttempt(payload["task_id"], payload["attempt"])
            self.on_stale(stale.task_id, stale.attempt)
        if item.position is not None:
            refused.append(Refusal(item.position, verdict.status, message, stale))


async def _in_time(asked: Awaitable[T]) -> T:
    """A journal that hangs counts as one that fails. Raises JournalError."""
    try:
        async with asyncio.timeout(OUTBOX_JOURNAL_SEC):
            return await asked
    except TimeoutError as error:
        raise JournalError(f"the journal has not answered for {OUTBOX_JOURNAL_SEC:.0f} s") from error


def _verdicts(items: Sequence[_Item], answer: CallbackAnswer) -> list[EventVerdict]:
    """A verdict for each event, in order; anything else is an answer that cannot be trusted."""
    results = answer.results
    if results is None or len(results) != len(items):
        raise LinkBroken("the backend's answer has not one verdict for each event")
    for item, verdict in zip(items, results, strict=True):
        if verdict.event_id is not None and verdict.event_id != item.body["event_id"]:
            raise LinkBroken("the backend's verdicts are for other events")
    return results


def _held_back(verdict: EventVerdict) -> LinkError:
    if is_unauthorized(verdict.status):
        return LinkRefused(verdict.status, verdict.message or "an event is not allowed")
    return _EventsHeldBackError(f"the backend asks for events again later: {verdict.status} {verdict.message or ''}")
