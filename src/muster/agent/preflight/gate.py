"""What a gate is."""

import math
from dataclasses import dataclass
from typing import Protocol

from muster.agent.phone_clock import PhoneClock
from muster.agent.ports import DeviceStatus, Phones
from muster.domain.failure import FailureReason
from muster.domain.limits import ONLINE_WINDOW_SEC
from muster.domain.task import TaskState
from muster.recipe.conditions import DeviceFacts
from muster.runtime.clock import Clock


@dataclass(frozen=True, slots=True)
class Refused:
    """The task ends here: `failed`, or `skipped_offline` where the phone is Offline (R8.2)."""

    status: TaskState
    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The phone should answer and does not now: it gets its grace (R8.3), and the gates are asked again."""

    reason: FailureReason
    message: str


@dataclass(slots=True)
class Subject:
    """The phone that wants to pass. Gates write into `facts` and `phone_clock` what they learn.

    `deadline`: the end of the task's own time (monotonic seconds), in which the gates' waiting counts too (spec/02).
    `online_window_sec`: how old its last sign may be for it to be Online (R8.1).
    """

    device_id: str
    phones: Phones
    clock: Clock
    timeout_ms: int
    facts: DeviceFacts
    phone_clock: PhoneClock | None = None
    deadline: float = math.inf
    online_window_sec: float = ONLINE_WINDOW_SEC

    @property
    def status(self) -> DeviceStatus | None:
        """What the node knows of the phone now."""
        return self.phones.status(self.device_id)

    def is_online(self, status: DeviceStatus) -> bool:
        """By R8.1: there was a sign of it within the window."""
        return status.last_seen is not None and self.clock.monotonic() - status.last_seen <= self.online_window_sec

    @property
    def left_sec(self) -> float:
        """How long its task still has."""
        return self.deadline - self.clock.monotonic()


class Gate(Protocol):
    """Answers None to let the phone pass. Never raises for what a phone does; keeps within its own limit."""

    async def check(self, subject: Subject) -> Refused | Wait | None:
        """Asked just before the task's first step, in the order of `GATES`."""
        ...
