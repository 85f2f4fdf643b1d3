"""What the loop acts through, and what it knows of the tasks that it has."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from muster.agent.journal import TaskLedger
from muster.agent.narrate import Narrator
from muster.agent.ports import Executor
from muster.agent.readiness import Readiness
from muster.domain.limits import DEVICE_GRACE_WAIT_MS
from muster.runtime.clock import Clock


class DeviceLocks(Protocol):
    """Exclusive use of a phone among the agents of this PC."""

    def acquire(self, device_id: str) -> bool:
        """At once, or False when another process has it."""
        ...

    def release(self, device_id: str) -> None:
        """Gives it back."""
        ...

    def why_refused(self, device_id: str) -> str:
        """Why a phone was refused, fit for an operator."""
        ...


@dataclass(frozen=True, slots=True)
class LoopParts:
    """What the loop acts through. `on_ended` is called after each task's end is journaled.

    `on_refilled` is told how many seconds after a slot was given back the next task's start was journaled in it.
    """

    executor: Executor
    ledger: TaskLedger
    locks: DeviceLocks
    narrator: Narrator
    clock: Clock
    rng: random.Random
    on_ended: Callable[[], None]
    readiness: Readiness
    grace_sec: float = DEVICE_GRACE_WAIT_MS / 1000
    on_refilled: Callable[[float], None] = lambda _seconds: None
