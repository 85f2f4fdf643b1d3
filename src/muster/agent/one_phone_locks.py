"""Two names of one phone are one lock: tasks that queue under its id and under an alias never run at once (R6.3)."""

from typing import Protocol

from muster.agent.ports import Phones


class Locks(Protocol):
    """As `scheduler.parts.DeviceLocks`."""

    def acquire(self, device_id: str) -> bool:
        """At once, or False when somebody has it."""
        ...

    def release(self, device_id: str) -> None:
        """Gives it back."""
        ...


class OnePhoneLocks:
    """Implements `DeviceLocks`. Asks at each start, so it holds too when two ids turn out to be one phone later on."""

    def __init__(self, locks: Locks, phones: Phones) -> None:
        self._locks = locks
        self._phones = phones
        self._held: dict[str, str] = {}

    def acquire(self, device_id: str) -> bool:
        """Also False when a task of this very agent has the phone, under another name."""
        phone = self._phones.resolve(device_id)
        # Those that were taken under a name that has become an alias since count as what they are now.
        taken = {self._phones.resolve(name) for name in self._held} | set(self._held.values())
        if phone in taken or not self._locks.acquire(phone):
            return False
        self._held[device_id] = phone
        return True

    def release(self, device_id: str) -> None:
        """What was locked under this name, whatever it is called by now."""
        self._locks.release(self._held.pop(device_id))
