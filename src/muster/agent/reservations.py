"""Phones that people have reserved: no task starts there meanwhile (spec/07, docs/adr/0015). Kept across restarts."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from muster.agent.ports import ReserveTerms
from muster.agent.whole_file import replace_file
from muster.domain.limits import DEVICES_PER_NODE_MAX
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
_MINUTE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Reservation:
    """`until_ms`: epoch ms of this PC's clock."""

    owner: str
    reason: str | None
    until_ms: int


class Reservations:
    """`path` None: kept in memory alone. A file that cannot be read or written is said, not fatal."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._held: dict[str, Reservation] = {}
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Takes up what the last process kept."""
        if self._path is None:
            return
        try:
            text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
            self._held = _from_document(json.loads(text))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.error("The file of reserved phones cannot be read; none is reserved", error=str(error))

    def why(self, device_id: str) -> str | None:
        """Why the phone gets no task, in words; None: nobody has reserved it."""
        held = self._of(device_id)
        if held is None:
            return None
        what = "" if held.reason is None else f": {held.reason}"
        return f"reserved by {held.owner} for {_left(held.until_ms - self._clock.now_ms())} more{what}"

    def owner(self, device_id: str) -> str | None:
        """Who has reserved it."""
        held = self._of(device_id)
        return held.owner if held else None

    def count(self) -> int:
        """Phones that are reserved now."""
        return sum(1 for device_id in list(self._held) if self._of(device_id))

    def reserve(self, device_id: str, terms: ReserveTerms) -> None:
        """From now on, at once; `save` makes it durable."""
        until_ms = self._clock.now_ms() + terms.minutes * _MINUTE_MS
        self._held[device_id] = Reservation(terms.owner, terms.reason, until_ms)
        log.info("Phone reserved", device_id=device_id, owner=terms.owner, minutes=terms.minutes)

    def release(self, device_id: str) -> bool:
        """From now on, at once; False: it was not reserved."""
        if self._of(device_id) is None:
            return False
        del self._held[device_id]
        log.info("Phone no longer reserved", device_id=device_id)
        return True

    async def save(self) -> None:
        """Replaces the file as a whole; half a file is never seen."""
        if self._path is None:
            return
        async with self._writing:
            text = json.dumps({name: asdict(held) for name, held in self._held.items()}, ensure_ascii=False, indent=1)
            try:
                await asyncio.to_thread(replace_file, self._path, text)
            except OSError as error:
                log.error("The file of reserved phones cannot be written", error=str(error))

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


def _from_document(document: Any) -> dict[str, Reservation]:
    """Raises ValueError for anything that `save` did not write."""
    if not isinstance(document, Mapping) or len(document) > DEVICES_PER_NODE_MAX:
        raise ValueError("it is no table of reservations")
    found = {}
    for device_id, held in document.items():
        match held:
            case {"owner": str(owner), "reason": str() | None as reason, "until_ms": int(until_ms)}:
                found[device_id] = Reservation(owner, reason, until_ms)
            case _:
                raise ValueError(f"the reservation of {device_id!r} cannot be read")
    return found
