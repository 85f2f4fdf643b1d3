"""What an operator asked of a phone is done once the node has taken note of it, or told as not done (R1.9)."""

from typing import Protocol

from tests.world.backend import Backend
from tests.world.checkers import Ledger
from tests.world.trace import Entry, Violation


class Observed(Protocol):
    """What is looked at."""

    @property
    def backend(self) -> Backend: ...


class Orders:
    """Watches what the node acknowledges and what is done to phones; judges when all is over."""

    def __init__(self, world: Observed) -> None:
        self._world = world
        # By command: the phone, and how often it had been repaired when the node took note.
        self._taken: dict[str, tuple[str, int]] = {}
        self._repairs: dict[str, int] = {}

    def acknowledged(self, command_id: str) -> None:
        """Committed: the node has taken note of this command."""
        device = self._world.backend.phone_of_action(command_id)
        if device is not None:
            self._taken.setdefault(command_id, (device, self._repairs.get(device, 0)))

    def see(self, entry: Entry) -> None:
        if entry.kind == "repair":
            device = entry.fields[0]
            self._repairs[device] = self._repairs.get(device, 0) + 1

    def at_end(self, ledger: Ledger) -> None:
        """Whatever else repairs the phone counts as well: nobody can tell the two apart."""
        payloads = (body["payload"] for body in ledger.facts.values() if body["type"] == "command_ack")
        not_done = {payload["command_id"] for payload in payloads if payload.get("error_message") is not None}
        for command_id, (device, repairs) in self._taken.items():
            if command_id not in not_done and self._repairs.get(device, 0) == repairs:
                raise Violation(f"the node took note of an action on {device}, did nothing, and told nothing")
