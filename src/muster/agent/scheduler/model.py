"""The scheduler's state, events and effects as plain data: no clock, no I/O, no asyncio."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

# ---- what it is told -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ticket:
    """A task as the scheduler sees it: a name and the device it needs."""

    task_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class Submit:
    """New tasks, in the order in which each device shall run its own. A task that is already known is ignored."""

    tickets: Sequence[Ticket]


@dataclass(frozen=True, slots=True)
class Finished:
    """A started or withdrawn task is over and its outcome is journaled; if it had a slot, its teardown has ended."""

    task_id: str


@dataclass(frozen=True, slots=True)
class PutBack:
    """A started task could not have its device now: it is first in its device's queue again, the device is away."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Park:
    """A started task waits out its grace: its slot is free, its device starts nothing else meanwhile (R8.5)."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Recover:
    """A parked task's device answers again: it gets the next slot, before every device that never waited."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Again:
    """A task's attempt is over and another follows.

    A started or parked one is first in its device's queue, which was served; a withdrawn or queued one stands where it
    stood.
    """

    task_id: str


@dataclass(frozen=True, slots=True)
class DeviceAway:
    """Start nothing on this device until it is ready again; what runs there goes on."""

    device_id: str


@dataclass(frozen=True, slots=True)
class DeviceReady:
    """The device may be used again."""

    device_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """A task is to end. Until `Finished` or `Again` nothing that came to its device later is started."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Start nothing more; what has a slot keeps it."""


Event = Submit | Finished | PutBack | Park | Recover | Again | DeviceAway | DeviceReady | Cancel | Drain

# ---- what it answers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Start this task now: a slot and the device are its own."""

    task_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End this started task's work. Of a withdrawn one: it was cancelled once more."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """This task was cancelled while it had no slot: record its end, and tell of that."""

    task_id: str


Effect = Start | Stop | Withdrawn

# ---- what it remembers -----------------------------------------------------------------------------------------------


Place = tuple[int, int, int, str]
"""Where a device stands in line: the recovered ones first, in the order of their recovery, then by last service."""


@dataclass(slots=True)
class Lane:
    """One device: its FIFO of waiting tasks and the one that runs or is parked.

    `ending`: those of the waiting that are withdrawn; their end is on its way into the journal. `served`: number of its
    last service, 0 if never. `recovered`: its first waiting task was parked and is owed a slot; the number is its place
    among those.
    """

    device_id: str
    arrival: int
    served: int = 0
    waiting: OrderedDict[str, None] = field(default_factory=OrderedDict)
    running: str | None = None
    parked: str | None = None
    ending: set[str] = field(default_factory=set)
    recovered: int | None = None
    away: bool = False
    in_line: bool = False

    @property
    def eligible(self) -> bool:
        """It has work and may be given a slot."""
        if self.running is not None or self.parked is not None or self.away:
            return False
        return bool(self.waiting) and next(iter(self.waiting)) not in self.ending

    @property
    def idle(self) -> bool:
        """Nothing would be lost, were it forgotten."""
        return not self.waiting and self.running is None and self.parked is None and not self.away

    @property
    def place(self) -> Place:
        """Where it stands, should it stand in line now."""
        if self.recovered is not None:
            return 0, self.recovered, self.arrival, self.device_id
        return 1, self.served, self.arrival, self.device_id


@dataclass(slots=True)
class SchedulerState:
    """Owned by one loop and changed by `decide` alone. `line` is a heap."""

    slots: int
    lanes: dict[str, Lane] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    line: list[Place] = field(default_factory=list)
    running: int = 0
    arrivals: int = 0
    services: int = 0
    recoveries: int = 0

    @property
    def queued_devices(self) -> int:
        """Devices that have a task waiting, for a slot or for the device itself."""
        return sum(1 for lane in self.lanes.values() if len(lane.waiting) > len(lane.ending) or lane.parked is not None)

    def device_of(self, task_id: str) -> str | None:
        """The device of an open task, None once it has finished."""
        return self.devices.get(task_id)
