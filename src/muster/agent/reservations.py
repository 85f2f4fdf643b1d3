"""Phones that people have reserved: no task starts there meanwhile (spec/07, docs/adr/0015). Kept across restarts.

Where the file cannot be read nobody knows who has which phone: each one counts as reserved until somebody says of it
that it is not, or has reserved it anew, or the longest reservation that could have been in the file is over. Where only
one phone's entry cannot be read, that holds for this phone alone.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from muster.agent.kept_file import KeptFile
from muster.agent.ports import ReserveTerms
from muster.domain.ids import DEVICE_ID_PATTERN
from muster.domain.limits import DEVICES_PER_NODE_MAX, RESERVATION_MINUTES_MAX
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
_MINUTE_MS: Final = 60_000
NAMES_TOLD_MAX: Final = 5
ENTRY_CHARS_TOLD_MAX: Final = 200
_DEVICE_ID: Final = re.compile(DEVICE_ID_PATTERN)


@dataclass(frozen=True, slots=True)
class Reservation:
    """`until_ms`: epoch ms of this PC's clock. `owner` None: its entry could not be read, nobody knows."""

    owner: str | None
    reason: str | None
    until_ms: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """`settled`: phones of which somebody has said, since the file was lost, whether they are reserved."""

    held: dict[str, Reservation]
    settled: set[str]


class Reservations:
    """`path` None: kept in memory alone. A file that cannot be read or written is said, not fatal."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, Reservation] = {}
        self._settled: set[str] = set()
        self._lost_until_ms = 0
        self._file = KeptFile(path, self._document(), clock)

    async def load(self) -> None:
        """Takes up what the last process kept."""
        longest_ms = self._clock.now_ms() + RESERVATION_MINUTES_MAX * _MINUTE_MS
        found = await self._file.load(lambda document: _from_document(document, longest_ms))
        if found is not None:
            self._held, self._settled = found.held, found.settled
        written_ms = await self._file.unreadable_since_ms()
        if written_ms is not None:
            self._lost_until_ms = written_ms + RESERVATION_MINUTES_MAX * _MINUTE_MS
        if not self._is_lost:
            self._settled.clear()
        # Of an entry that could not be read: or its week would begin anew with each start.
        await self.save()

    @property
    def trouble(self) -> str | None:
        """What somebody has to see to."""
        if not self._is_lost:
            doubtful = [name for name in sorted(self._held) if (held := self._of(name)) and held.owner is None]
            names = ", ".join(doubtful[:NAMES_TOLD_MAX]) + (", …" if len(doubtful) > NAMES_TOLD_MAX else "")
            what = "in the file of reserved phones these could not be read and count as reserved until somebody"
            return f"{what} releases or reserves them, for a week at most: {names}" if doubtful else None
        return (
            "the file of reserved phones could not be read: until somebody releases or reserves it, each phone counts"
            f" as reserved, for {self._lost_for} more; see {self._file.aside}"
        )

    def why(self, device_id: str) -> str | None:
        """Why the phone gets no task, in words; None: nobody has reserved it."""
        held = self._of(device_id)
        if held is not None and held.owner is None:
            left = _left(held.until_ms - self._clock.now_ms())
            return f"perhaps reserved, for {left} more: its entry in this node's file of reservations could not be read"
        if held is not None:
            what = "" if held.reason is None else f": {held.reason}"
            return f"reserved by {held.owner} for {_left(held.until_ms - self._clock.now_ms())} more{what}"
        if self._is_lost and device_id not in self._settled:
            return f"perhaps reserved, for {self._lost_for} more: this node's file of reservations could not be read"
        return None

    def owner(self, device_id: str) -> str | None:
        """Who has reserved it, as far as that is known."""
        held = self._of(device_id)
        return held.owner if held else None

    def count(self) -> int:
        """Phones that are known to be reserved now, and one for those of which nobody knows."""
        return sum(1 for device_id in list(self._held) if self._of(device_id)) + self._is_lost

    def reserve(self, device_id: str, terms: ReserveTerms, since_ms: int | None = None) -> None:
        """From now on, at once; `save` makes it durable. Its time began at `since_ms` (epoch ms), or begins now."""
        now_ms = self._clock.now_ms()
        # A clock that was put back prolongs nothing.
        until_ms = min(now_ms if since_ms is None else since_ms, now_ms) + terms.minutes * _MINUTE_MS
        if until_ms <= now_ms:
            return
        self._held[device_id] = Reservation(terms.owner, terms.reason, until_ms)
        self._settle(device_id)
        log.info("Phone reserved", device_id=device_id, owner=terms.owner, minutes=terms.minutes)

    def release(self, device_id: str) -> bool:
        """From now on, at once; False: it was not reserved."""
        if self.why(device_id) is None:
            return False
        self._held.pop(device_id, None)
        self._settle(device_id)
        log.info("Phone no longer reserved", device_id=device_id)
        return True

    async def save(self) -> bool:
        """Makes it durable. False: the disk does not take it."""
        return await self._file.save(self._document())

    @property
    def _is_lost(self) -> bool:
        return self._clock.now_ms() < self._lost_until_ms

    @property
    def _lost_for(self) -> str:
        return _left(self._lost_until_ms - self._clock.now_ms())

    def _settle(self, device_id: str) -> None:
        if self._is_lost:
            self._settled.add(device_id)

    def _document(self) -> dict[str, object]:
        held = {name: asdict(held) for name, held in self._held.items()}
        return {"held": held, "settled": sorted(self._settled)}

    def _of(self, device_id: str) -> Reservation | None:
        held = self._held.get(device_id)
        if held is not None and held.until_ms <= self._clock.now_ms():
            del self._held[device_id]
            return None
        return held


def _left(milliseconds: int) -> str:
    """`1 min`, `59 min`, `2 h`, `3 d`: rounded up."""
    minutes = -(-milliseconds // _MINUTE_MS)
    for unit, length in (("d", 48 * 60), ("h", 120)):
        if minutes > length:
            return f"{-(-minutes // (length // 2))} {unit}"
    return f"{minutes} min"


def _from_document(document: Any, longest_ms: int) -> _Kept:
    """A phone whose entry cannot be read counts as reserved until `longest_ms`. Raises ValueError for what is no table
    of phones."""
    match document:
        case {"held": Mapping() as held, "settled": [*settled]}:
            if max(len(held), len(settled)) > DEVICES_PER_NODE_MAX:
                raise ValueError("it has more phones than a node can have")
            found = {
                device_id: _reservation_or_doubt(device_id, entry, longest_ms) for device_id, entry in held.items()
            }
            return _Kept(found, {str(device_id) for device_id in settled})
        case Mapping() as older if "held" not in older:
            # As it was written before a lost file was told from an empty one: the table of reservations alone.
            return _Kept({device_id: _reservation(device_id, entry) for device_id, entry in older.items()}, set())
    raise ValueError("it is no table of reservations")


def _reservation_or_doubt(device_id: str, entry: Any, longest_ms: int) -> Reservation:
    """Raises ValueError where the name is no phone's either."""
    try:
        return _reservation(device_id, entry)
    except ValueError as error:
        if not _DEVICE_ID.fullmatch(device_id):
            raise
        log.error("A reservation cannot be read; the phone is kept", device_id=device_id, error=str(error))
        return Reservation(None, None, longest_ms)


def _reservation(device_id: str, entry: Any) -> Reservation:
    match entry:
        case {"owner": str() | None as owner, "reason": str() | None as reason, "until_ms": int(until_ms)}:
            return Reservation(owner, reason, until_ms)
    # Shown, for what is written next has it no more.
    raise ValueError(f"the reservation of {device_id!r} cannot be read: {str(entry)[:ENTRY_CHARS_TOLD_MAX]}")
