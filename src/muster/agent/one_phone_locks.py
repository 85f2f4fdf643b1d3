"""Two names of one phone are one lock: tasks that queue under its id and under an alias never run at once (R6.3)."""

from muster.agent.ports import Phones
from muster.agent.scheduler.parts import DeviceLocks


class OnePhoneLocks:
    """Implements `DeviceLocks`. Asks at each start, so it holds too when two ids turn out to be one phone later on."""

    def __init__(self, locks: DeviceLocks, phones: Phones) -> None:
        self._locks = locks
        self._phones = phones
        self._held: dict[str, str] = {}

    def acquire(self, device_id: str) -> bool:
        """Also False when a task of this very agent has the phone, under another name."""
        phone = self._phones.resolve(device_id)
        if self._name_taken(phone) is not None or not self._locks.acquire(phone):
            return False
        self._held[device_id] = phone
        return True

    def release(self, device_id: str) -> None:
        """What was locked under this name, whatever it is called by now."""
        self._locks.release(self._held.pop(device_id))

    def why_refused(self, device_id: str) -> str:
        """See `DeviceLocks`."""
        phone = self._phones.resolve(device_id)
        name = self._name_taken(phone)
        if name is None:
            return self._locks.why_refused(phone)
        return f"a task of this node has the phone under its name {name}"

    def _name_taken(self, phone: str) -> str | None:
        # Those that were taken under a name that has become an alias since count as what they are now.
        return next((name for name, held in self._held.items() if phone in (held, self._phones.resolve(name))), None)
