"""One process of the agent, from its start to its end; what it left running cannot act after that."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.world.trace import Trace


class Killed(BaseException):
    """A dead process tried to act."""


@dataclass
class Life:
    """`number`: 1 for the first start."""

    number: int
    is_dead: bool = False
    is_draining: bool = False
    settled_at: float | None = None

    def is_over(self) -> bool:
        """As a call, so that it is looked at anew each time."""
        return self.is_dead

    def must_be_alive(self) -> None:
        """First line of every port."""
        if self.is_dead:
            raise Killed


@dataclass
class MemoryLocks:
    """`DeviceLocks` of one process. `elsewhere`: another agent has it. `head`: state of the task whose turn it is."""

    life: Life
    trace: Trace
    elsewhere: set[str]
    head: Callable[[str], str]
    held: set[str] = field(default_factory=set)

    def acquire(self, device_id: str) -> bool:
        self.life.must_be_alive()
        if device_id in self.elsewhere:
            self.trace.note("refused", device_id)
            return False
        self.trace.note("locked", device_id, self.head(device_id))
        self.held.add(device_id)
        return True

    def release(self, device_id: str) -> None:
        if self.life.is_dead:
            return
        self.trace.note("unlocked", device_id)
        self.held.discard(device_id)

    def why_refused(self, device_id: str) -> str:
        return f"another agent has {device_id}"
