"""Who is there: adb's list and the vendor tool's list joined into one table by device_id (R6, R8). Pure; time is given.

saw_adb, saw_vendor, told, not_told   what came in
rebuild(now)                          the table, after any of these and once a second (two waits end by time alone)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from muster.agent.identities import Identities
from muster.agent.ports import NOT_ATTACHED, DeviceStatus
from muster.domain import ids
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.limits import DEVICES_PER_NODE_MAX, VENDOR_BOOT_WAIT_MS

# A TCP phone is `offline` for some milliseconds before it is `device`; telling that would be noise.
OFFLINE_DEBOUNCE_SEC: Final = 2.0
_TCP_HANDLE = re.compile(r".+:\d{1,5}$")
_DEVICE_ID = re.compile(ids.DEVICE_ID_PATTERN)


@dataclass(frozen=True, slots=True)
class AdbEntry:
    """A line of adb's list. `detail` is adb's own word where it is none of ours (`recovery`, …)."""

    handle: str
    state: AttachState
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class VendorEntry:
    """A phone as the vendor tool lists it. Without adb: reached by its accessibility mode alone."""

    handle: str
    only_serial: str
    model: str | None = None
    is_online: bool = True
    has_adb: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """What a phone said of itself. `boot_id` is new at each boot: two handles that share one are one phone."""

    serialno: str | None
    model: str | None = None
    boot_id: str | None = None
    battery: int | None = None
    temperature: float | None = None


@dataclass(slots=True)
class _Attached:
    entry: AdbEntry
    first_seen: float
    told: Told | None = None
    was_asked: bool = False
    was_ready: bool = False
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """A status, and whether it counts as a sign of life as long as nothing changes."""

    status: DeviceStatus
    is_live: bool


@dataclass(slots=True)
class Registry:
    """What one node knows of its phones. `expects_vendor`: phones wait a moment for the tool to name them (R6.3)."""

    identities: Identities = field(default_factory=Identities)
    expects_vendor: bool = False
    _attached: dict[str, _Attached] = field(default_factory=dict)
    _vendor: dict[str, VendorEntry] = field(default_factory=dict)
    _rows: dict[str, _Row] = field(default_factory=dict)
    _strangers: tuple[str, ...] = ()
    _adb_error: str | None = None
    _is_waiting: bool = False

    # ---- what came in ------------------------------------------------------------------------------------------------

    def saw_adb(self, entries: Sequence[AdbEntry], now: float, *, error: str | None = None) -> None:
        """adb's whole list; with `error` and no entries: the server itself is gone."""
        self._adb_error = error
        before, self._attached = self._attached, {}
        for entry in entries[: 2 * DEVICES_PER_NODE_MAX]:
            known = before.get(entry.handle) or _Attached(entry, first_seen=now)
            if entry.state is AttachState.DEVICE and known.entry.state is not AttachState.DEVICE:
                # It came back: perhaps restarted, perhaps another phone at the same address.
                known.was_asked = False
            known.was_ready |= entry.state is AttachState.DEVICE
            known.entry = entry
            self._attached[entry.handle] = known

    def saw_vendor(self, entries: Sequence[VendorEntry] | None) -> None:
        """The tool's whole list; None: it does not answer, and adb alone counts."""
        self._vendor = {entry.handle: entry for entry in entries or ()}

    def told(self, handle: str, told: Told) -> None:
        """The phone at `handle` answered."""
        if attached := self._attached.get(handle):
            attached.told, attached.was_asked, attached.error = told, True, None

    def not_told(self, handle: str, error: str) -> None:
        """The phone at `handle` did not answer when it was asked who it is."""
        if attached := self._attached.get(handle):
            attached.was_asked, attached.error = True, error

    # ---- what is known -----------------------------------------------------------------------------------------------

    def unasked(self) -> list[str]:
        """Handles that take commands and have not been asked who they are since they came."""
        return [
            handle
            for handle, attached in self._attached.items()
            if attached.entry.state is AttachState.DEVICE and not attached.was_asked
        ]

    def silent(self) -> list[str]:
        """Handles that take commands, were asked, and have never answered."""
        return [
            handle
            for handle in self.ready_handles()
            if self._attached[handle].was_asked and self._attached[handle].told is None
        ]

    def last_told(self, handle: str) -> Told | None:
        """What the phone at `handle` last said of itself."""
        attached = self._attached.get(handle)
        return attached.told if attached else None

    def ready_handles(self) -> list[str]:
        """Handles that take commands."""
        return [handle for handle, attached in self._attached.items() if attached.entry.state is AttachState.DEVICE]

    def in_vendor_list(self, handle: str) -> bool:
        """Whether the vendor tool can be asked for this phone's picture."""
        return handle in self._vendor and self._vendor[handle].is_online

    def strangers(self) -> tuple[str, ...]:
        """Handles that no id can be found for; they are shown in the log and get no task."""
        return self._strangers

    def withheld(self, now: float) -> list[str]:
        """Handles not announced yet: still to be asked, or waiting for the vendor tool to name them."""
        return [*self.unasked(), *(handle for handle in self.ready_handles() if self._awaits_vendor(handle, now))]

    def status(self, name: str, now: float) -> DeviceStatus | None:
        """By device_id or alias."""
        row = self._rows.get(name) or self._rows.get(self.identities.resolve(name))
        return _at(row, now) if row else None

    def all(self, now: float) -> list[DeviceStatus]:
        """Every phone, by device_id."""
        return [_at(self._rows[device_id], now) for device_id in sorted(self._rows)]

    @property
    def is_waiting(self) -> bool:
        """Whether the passing of time alone may change the table."""
        return self._is_waiting

    def rebuild(self, now: float) -> bool:
        """Makes the table anew; whether anything but battery and times changed."""
        before = self._rows
        handles_of = self._handles_by_id(now)
        rows = {device_id: self._row(device_id, handles, now) for device_id, handles in handles_of.items()}
        rows.update(self._rows_by_vendor_alone(rows, now))
        rows.update({device_id: self._missing(row, now) for device_id, row in before.items() if device_id not in rows})
        self._rows = _without_renamed(_bounded(rows), self.identities)
        return before.keys() != self._rows.keys() or any(
            _essence(before[device_id]) != _essence(row) for device_id, row in self._rows.items()
        )

    # ---- the join ----------------------------------------------------------------------------------------------------

    def _handles_by_id(self, now: float) -> dict[str, list[_Attached]]:
        found: dict[str, list[_Attached]] = {}
        strangers: list[str] = []
        self._is_waiting = False
        for handle, attached in self._attached.items():
            if self._is_settling(attached, now):
                self._is_waiting = True
                continue
            device_id = self._device_id(handle, attached)
            if device_id is None:
                strangers.append(handle)
                continue
            self.identities.remember_handle(handle, device_id)
            found.setdefault(device_id, []).append(attached)
        self._strangers = tuple(strangers)
        return found

    def _is_settling(self, attached: _Attached, now: float) -> bool:
        if not attached.was_ready and attached.entry.state is AttachState.OFFLINE:
            return now - attached.first_seen < OFFLINE_DEBOUNCE_SEC
        is_ready = attached.entry.state is AttachState.DEVICE
        handle = attached.entry.handle
        if is_ready and not attached.was_asked and attached.told is None and handle not in self._vendor:
            return True
        return self._awaits_vendor(handle, now)

    def _awaits_vendor(self, handle: str, now: float) -> bool:
        """A phone that nobody has recorded yet waits for the tool, whose name for it would be the better id."""
        attached = self._attached[handle]
        if not self.expects_vendor or handle in self._vendor or handle in self.identities.handles:
            return False
        if attached.told and attached.told.serialno and self.identities.is_recorded(attached.told.serialno):
            return False
        return now - attached.first_seen < VENDOR_BOOT_WAIT_MS / 1000

    def _device_id(self, handle: str, attached: _Attached) -> str | None:
        vendor = self._vendor.get(handle)
        serialno = attached.told.serialno if attached.told else None
        named = self.identities.identify(vendor.only_serial if vendor else None, _usable(serialno))
        if named is not None:
            return named
        # It cannot be asked (R6.3): its last id here, else its USB serial; a TCP address is no name.
        remembered = self.identities.handles.get(handle)
        return remembered or (None if _TCP_HANDLE.match(handle) else _usable(handle))

    def _row(self, device_id: str, handles: Sequence[_Attached], now: float) -> _Row:
        ready = [attached for attached in handles if attached.entry.state is AttachState.DEVICE]
        if len(ready) > 1 and not _is_one_phone(ready):
            return self._conflict(device_id, ready, now)
        chosen = self._choose(device_id, ready or handles)
        entry, told, vendor = chosen.entry, chosen.told or Told(None), self._vendor.get(chosen.entry.handle)
        before = self._rows.get(device_id)
        # `offline` is no sign of life; a phone that asks for authorization is there.
        is_live = entry.state in (AttachState.DEVICE, AttachState.UNAUTHORIZED)
        status = DeviceStatus(
            device_id=device_id,
            runtime_handle=entry.handle,
            state=entry.state,
            last_seen=_seen(before, now, is_live=is_live),
            model=told.model or (vendor.model if vendor else None),
            battery=told.battery,
            temperature=told.temperature,
            last_error_message=_cause(entry) or chosen.error,
        )
        return _Row(status, is_live)

    def _choose(self, device_id: str, handles: Sequence[_Attached]) -> _Attached:
        """Of several ways to one phone: the one in use, else a cable, else the first by name."""
        before = self._rows.get(device_id)
        in_use = before.status.runtime_handle if before else None
        rank = {AttachState.DEVICE: 0, AttachState.UNAUTHORIZED: 1}

        def order(attached: _Attached) -> tuple[int, bool, bool, str]:
            handle = attached.entry.handle
            is_tcp = _TCP_HANDLE.match(handle) is not None
            return rank.get(attached.entry.state, 2), handle != in_use, is_tcp, handle

        return min(handles, key=order)

    def _conflict(self, device_id: str, handles: Sequence[_Attached], now: float) -> _Row:
        names = ", ".join(sorted(attached.entry.handle for attached in handles))
        status = DeviceStatus(
            device_id=device_id,
            runtime_handle=min(attached.entry.handle for attached in handles),
            state=AttachState.DEVICE,
            last_seen=now,
            last_error_message=f"two phones have this id ({names}); neither is used until one of them is removed",
            problem=FailureReason.IDENTITY_CONFLICT,
        )
        return _Row(status, is_live=True)

    def _rows_by_vendor_alone(self, rows: Mapping[str, _Row], now: float) -> dict[str, _Row]:
        """Phones that the vendor tool lists and adb does not have: shown, with the reason why no task can use them."""
        found: dict[str, _Row] = {}
        for handle, entry in self._vendor.items():
            device_id = self.identities.identify(entry.only_serial, None)
            if handle in self._attached or device_id is None or device_id in rows:
                continue
            before = self._rows.get(device_id)
            mode = (
                "in accessibility mode, without adb" if not entry.has_adb else f"as {handle}, which adb does not have"
            )
            status = DeviceStatus(
                device_id=device_id,
                runtime_handle=handle,
                state=AttachState.MISSING,
                last_seen=_seen(before, now, is_live=entry.is_online),
                model=entry.model,
                last_error_message=f"the vendor tool lists it {mode}",
            )
            found[device_id] = _Row(status, is_live=entry.is_online)
        return found

    def _missing(self, row: _Row, now: float) -> _Row:
        message = self._adb_error or NOT_ATTACHED
        if not row.is_live and row.status.last_error_message == message and row.status.state is AttachState.MISSING:
            return row
        status = replace(_at(row, now), state=AttachState.MISSING, last_error_message=message, problem=None)
        return _Row(status, is_live=False)


def _at(row: _Row, now: float) -> DeviceStatus:
    if not row.is_live:
        return row.status
    # Not `replace`, which takes four times as long: a rack of a hundred is looked at several times a second.
    known = row.status
    return DeviceStatus(
        known.device_id,
        known.runtime_handle,
        known.state,
        now,
        known.model,
        known.battery,
        known.temperature,
        known.last_error_message,
        known.problem,
        known.quarantined,
        known.reserved,
    )


def _seen(before: _Row | None, now: float, *, is_live: bool) -> float | None:
    """When a phone gave its last sign: now, or when it stopped being alive, or never."""
    if is_live:
        return now
    return _at(before, now).last_seen if before else None


def _essence(row: _Row) -> tuple[object, ...]:
    """A status without what changes all the time."""
    status = row.status
    return status.runtime_handle, status.state, status.model, status.last_error_message, status.problem


def _bounded(rows: dict[str, _Row]) -> dict[str, _Row]:
    """At most `DEVICES_PER_NODE_MAX`: those that are gone longest are forgotten first."""
    if len(rows) <= DEVICES_PER_NODE_MAX:
        return rows
    keep = sorted(rows, key=lambda device_id: (rows[device_id].is_live, rows[device_id].status.last_seen or 0.0))
    return {device_id: rows[device_id] for device_id in keep[-DEVICES_PER_NODE_MAX:]}


def _without_renamed(rows: dict[str, _Row], identities: Identities) -> dict[str, _Row]:
    """A row under a name that meanwhile is an alias of another row's phone is that phone, not a second one."""
    return {device_id: row for device_id, row in rows.items() if identities.resolve(device_id) == device_id}


def _is_one_phone(handles: Sequence[_Attached]) -> bool:
    """The same phone by cable and by Wi-Fi: both handles tell the same boot."""
    boots = {attached.told.boot_id if attached.told else None for attached in handles}
    return len(boots) == 1 and None not in boots


def _cause(entry: AdbEntry) -> str | None:
    if entry.state is AttachState.UNAUTHORIZED:
        return "it does not trust this PC: accept the USB debugging question on its screen"
    if entry.state is AttachState.OFFLINE:
        return f"adb shows it as {entry.detail or 'offline'}"
    return None


def _usable(name: str | None) -> str | None:
    return name if name and _DEVICE_ID.fullmatch(name) else None
