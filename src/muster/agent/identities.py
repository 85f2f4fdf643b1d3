"""One phone, one id, one history (R6): which names mean which phone. Pure; what it knows can be kept on disk.

A phone has up to two names of its own: the vendor tool's `onlySerial` and its own `ro.serialno`. The name under which
it was recorded first is its `device_id` for ever, the other becomes an alias.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from muster.domain.limits import DEVICES_PER_NODE_MAX

_ONLY: Final = "onlySerial:"
_SERIALNO: Final = "serialno:"
_HANDLES_MAX: Final = 4 * DEVICES_PER_NODE_MAX


@dataclass(slots=True)
class Identities:
    """`names`: kind and name → device_id, in the order in which they were recorded. `handles`: last id of a handle."""

    names: dict[str, str] = field(default_factory=dict)
    handles: dict[str, str] = field(default_factory=dict)
    revision: int = 0

    def resolve(self, name: str) -> str:
        """The device_id that an id or an alias stands for; the text itself where it is unknown."""
        if name in self.names.values():
            return name
        return self.names.get(_ONLY + name) or self.names.get(_SERIALNO + name) or name

    def is_recorded(self, serialno: str) -> bool:
        """Whether a phone of this `ro.serialno` has an id already."""
        return _SERIALNO + serialno in self.names

    def identify(self, only_serial: str | None, serialno: str | None) -> str | None:
        """The id of the phone that has these names, recorded now if it is new; None when it has no name at all."""
        if only_serial and serialno:
            return self._bind(only_serial, serialno)
        key, name = (_ONLY, only_serial) if only_serial else (_SERIALNO, serialno)
        return self._record(key + name, name) if name else None

    def remember_handle(self, handle: str, device_id: str) -> None:
        """For the day when the phone at `handle` cannot be asked (`unauthorized`)."""
        if self.handles.get(handle) == device_id:
            return
        self.handles.pop(handle, None)
        self.handles[handle] = device_id
        while len(self.handles) > _HANDLES_MAX:
            self.handles.pop(next(iter(self.handles)))
        self.revision += 1

    def _bind(self, only_serial: str, serialno: str) -> str:
        only, own = self.names.get(_ONLY + only_serial), self.names.get(_SERIALNO + serialno)
        if only is None and own is not None and not self._is_bound_elsewhere(own, only_serial):
            return self._record(_ONLY + only_serial, own)
        if only is not None and own not in (None, only) and not self._is_bound_elsewhere(own or "", only_serial):
            return self._merge(only, own or "")
        device_id = self._record(_ONLY + only_serial, only_serial)
        self._record(_SERIALNO + serialno, device_id)
        return device_id

    def _is_bound_elsewhere(self, device_id: str, only_serial: str) -> bool:
        """Cheap phones share one `ro.serialno`; what the vendor tells apart must not be made one."""
        return any(
            key.startswith(_ONLY) and key != _ONLY + only_serial and value == device_id
            for key, value in self.names.items()
        )

    def _merge(self, one: str, other: str) -> str:
        """Two records turn out to be one phone: the id recorded first stays."""
        first = next(value for value in self.names.values() if value in (one, other))
        for key, value in self.names.items():
            if value in (one, other):
                self.names[key] = first
        self.revision += 1
        return first

    def _record(self, key: str, device_id: str) -> str:
        if key not in self.names:
            self.names[key] = device_id
            self.revision += 1
        return self.names[key]


def from_document(document: object) -> Identities:
    """What `to_document` wrote; anything else counts as nothing."""
    if not isinstance(document, dict):
        return Identities()
    return Identities(_texts(document.get("names")), _texts(document.get("handles")))


def to_document(identities: Identities) -> dict[str, Mapping[str, str]]:
    """Plain data for a JSON file. The order of `names` says which id came first."""
    return {"names": dict(identities.names), "handles": dict(identities.handles)}


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(key, str) and isinstance(text, str)}
