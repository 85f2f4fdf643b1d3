"""The gates before a task's steps, in order (R2). A gate lets the phone pass, ends the task or has it wait.

To add one: a file here with a class that has `check`, and its place in `gates`.
"""

from collections.abc import Sequence
from typing import Final

from muster.agent.preflight.battery import FitToWork
from muster.agent.preflight.device import Answers, Present
from muster.agent.preflight.emulator import EmulatorHealth, Emulators, NoEmulators
from muster.agent.preflight.gate import Gate, Refused, Subject, Wait
from muster.agent.preflight.known_screen import KnownScreen, Screens
from muster.agent.preflight.quarantine import NotQuarantined
from muster.agent.preflight.reserved import NotReserved
from muster.domain.limits import EMULATOR_GATE_WAIT_MS
from muster.recipe.conditions import DeviceFacts


def gates(emulators: Emulators, emulator_wait_ms: int = EMULATOR_GATE_WAIT_MS) -> tuple[Gate, ...]:
    """All of them, in order, on a node with these emulators."""
    health = EmulatorHealth(emulators, emulator_wait_ms)
    return (NotReserved(), NotQuarantined(), health, Present(), Answers(), FitToWork())


GATES: Final = gates(NoEmulators())


def with_known_screen(before: Sequence[Gate], screens: Screens) -> tuple[Gate, ...]:
    """The same gates, and last of all: a phone that may show anything goes home."""
    return (*before, KnownScreen(screens))


async def pass_gates(subject: Subject, gates: Sequence[Gate] = GATES) -> DeviceFacts | Refused | Wait:
    """What the gates learnt of the phone, or the first verdict that does not let it pass."""
    for gate in gates:
        verdict = await gate.check(subject)
        if verdict is not None:
            return verdict
    return subject.facts
