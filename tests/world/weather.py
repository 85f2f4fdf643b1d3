"""Faults as they strike a world's parts, and go."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.world.backend import Backend
from tests.world.disk import Disk
from tests.world.faults import GONE, REFUSABLE, Spell
from tests.world.link import Network
from tests.world.phones import SimPhone, SimRack
from tests.world.streams import Streams, streams
from tests.world.trace import Trace

from muster.contracts.events import EventType
from muster.domain.device import AttachState

HOUR_MS = 3_600_000


@dataclass
class Weather:
    """`reserved`: phones that another agent of this PC has; `is_held`: whether this one's has it."""

    trace: Trace
    network: Network
    disk: Disk
    backend: Backend
    rack: SimRack
    streams: Streams
    is_held: Callable[[str], bool]
    reserved: set[str]
    skew_ms: int = 0

    def __post_init__(self) -> None:
        self._clocks, self._refusing = self.streams("clock"), self.streams("refuse")

    def strike(self, spell: Spell) -> None:
        """It begins; what is no matter of the weather is left to others."""
        self.trace.note("fault", spell.kind, spell.where, spell.rate)
        network, disk, kind = self.network, self.disk, spell.kind
        if spell.where:
            self._strike_phone(self.rack.phones[spell.where], spell)
        elif kind == "clock":
            self.skew_ms = self._clocks.randint(-HOUR_MS, HOUR_MS)
        elif kind == "full":
            disk.fill()
        elif kind == "io_error":
            disk.commit_fails = spell.rate
        elif kind == "slow_disk":
            disk.latency_sec = spell.rate
        elif kind == "refuse":
            self.backend.refuses = lambda kind: kind in REFUSABLE and self._refusing.random() < spell.rate
        elif kind in _NETWORK:
            setattr(network, *_NETWORK[kind](spell.rate))

    def _strike_phone(self, phone: SimPhone, spell: Spell) -> None:
        match spell.kind:
            case "hang":
                phone.hangs_until = max(phone.hangs_until, spell.end)
            case "reserved":
                self._reserve(phone.device_id)
            case "unauthorized":
                self.rack.change(phone, lambda: phone.drop(AttachState.UNAUTHORIZED))
            case _:
                state = GONE[phone.epoch % len(GONE)]
                self.rack.change(phone, lambda: phone.drop(state))

    def _reserve(self, device: str) -> None:
        """Another agent on this PC takes the phone, if it is free."""
        if not self.is_held(device):
            self.reserved.add(device)

    def relent(self, spell: Spell) -> None:
        """It is over."""
        self.trace.note("over", spell.kind, spell.where)
        if spell.kind == "reserved":
            self.reserved.discard(spell.where)
        elif spell.kind in ("drop", "unauthorized"):
            phone = self.rack.phones[spell.where]
            self.rack.change(phone, phone.come_back)
        elif spell.kind == "full":
            self.disk.make_room()
        elif spell.kind == "io_error":
            self.disk.commit_fails = 0.0
        elif spell.kind == "slow_disk":
            self.disk.latency_sec = 0.001
        elif spell.kind == "refuse":
            self.backend.refuses = _refuses_nothing
        elif spell.kind in _NETWORK:
            name, _ = _NETWORK[spell.kind](0.0)
            setattr(self.network, name, getattr(_HEALTHY, name))

    def heal(self) -> None:
        """Everything is well from now on."""
        self.trace.note("healed")
        self.network.heal()
        self.disk.make_room()
        self.disk.commit_fails, self.disk.latency_sec = 0.0, 0.001
        self.backend.refuses = _refuses_nothing
        self.reserved.clear()
        for phone in self.rack.phones.values():
            phone.heal()
        self.rack.is_changed()


_HEALTHY = Network(streams(0), lambda _seconds, _what: None)
_NETWORK: dict[str, Callable[[float], tuple[str, Any]]] = {
    "away": lambda _rate: ("is_away", True),
    "node_lost": lambda _rate: ("is_away", True),
    "secret": lambda _rate: ("is_unauthorized", True),
    "lost": lambda rate: ("loses", rate),
    "cut": lambda rate: ("loses_answer", rate),
    "silent": lambda rate: ("hangs", rate),
    "error": lambda rate: ("errs", rate),
    "double": lambda rate: ("doubles", rate),
    "held": lambda rate: ("holds_back", rate),
    "small_batches": lambda rate: ("batch_max", max(1, round(20 * rate))),
    "lagging": lambda rate: ("latency_sec", 5 * rate),
    "upload": lambda rate: ("upload_fails", min(1.0, 2 * rate)),
}


def _refuses_nothing(_kind: EventType) -> bool:
    return False
