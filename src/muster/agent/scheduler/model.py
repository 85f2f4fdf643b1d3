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
    """A started task has ended and its slot is free: its teardown is over and its outcome is journaled."""

    task_id: str


@dataclass(frozen=True, slots=True)
class PutBack:
    """A started task could not have its device now: it is first in its device's queue again, the device is away."""

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
    """A queued task leaves its queue at once; a started one is to be stopped and keeps its slot until `Finished`."""

    task_id: str


Event = Submit | Finished | PutBack | DeviceAway | DeviceReady | Cancel

# ---- what it answers -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Start this task now: a slot and the device are its own."""

    task_id: str
    device_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End this started task's work."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """This task was cancelled before it was started and is forgotten."""

    task_id: str


Effect = Start | Stop | Withdrawn

# ---- what it remembers -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Lane:
    """One device: its FIFO of waiting tasks and the one that runs. `served`: number of its last service, 0 if never."""

    device_id: str
    arrival: int
    served: int = 0
    waiting: OrderedDict[str, None] = field(default_factory=OrderedDict)
    running: str | None = None
    away: bool = False
    in_line: bool = False

    @property
    def eligible(self) -> bool:
        """It has work and may be given a slot."""
        return bool(self.waiting) and self.running is None and not self.away

    @property
    def idle(self) -> bool:
        """Nothing would be lost, were it forgotten."""
        return not self.waiting and self.running is None and not self.away


@dataclass(slots=True)
class SchedulerState:
    """Owned by one loop and changed by `decide` alone. `line` is a heap of (served, arrival, device_id)."""

    slots: int
    lanes: dict[str, Lane] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    line: list[tuple[int, int, str]] = field(default_factory=list)
    running: int = 0
    arrivals: int = 0
    services: int = 0

    @property
    def queued_devices(self) -> int:
        """Devices that have a task waiting."""
        return sum(1 for lane in self.lanes.values() if lane.waiting)

    def device_of(self, task_id: str) -> str | None:
        """The device of an open task, None once it has finished."""
        return self.devices.get(task_id)
