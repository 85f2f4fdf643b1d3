"""The recovery ladder of a phone that should answer and does not (spec/07, spec/10). Pure; time is given.

ask it → repair its connection (a cable: `reconnect`; TCP: look at the port, then disconnect and connect) → ask again,
until it answers or its time is up. Rebooting it and keeping it out are rungs above, taken after its task.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

# What a repair needs before the next one could help more: adb's own handshake takes a second or two.
REPAIR_GAP_SEC: Final = 4.0
PAUSE_SEC: Final = 0.5
# The node's own adb server is restarted at most so often, and only when there is nothing left to lose.
SERVER_RESTART_GAP_SEC: Final = 600.0
SERVER_SILENT_PHONES_MIN: Final = 2
_TCP_HANDLE: Final = re.compile(r".+:\d{1,5}$")


class Move(Enum):
    """What is done next."""

    ASK = "ask"
    LOOK_AT_PORT = "look at port"
    RECONNECT = "reconnect"
    REATTACH = "reattach"
    PAUSE = "pause"
    RECOVERED = "recovered"
    GIVE_UP = "give up"


class Seen(Enum):
    """How the last move ended."""

    ANSWERED = "answered"
    SILENT = "silent"
    PORT_OPEN = "port open"
    PORT_CLOSED = "port closed"
    REPAIRED = "repaired"
    PAUSED = "paused"


@dataclass(slots=True)
class Climb:
    """One phone's way up. `until`: when its time is up (monotonic seconds)."""

    handle: str
    until: float
    repair_at: float = 0.0
    repairs: int = 0


def is_tcp(handle: str) -> bool:
    """Whether the phone is attached by an address; the others hang on a cable, or are emulators."""
    return _TCP_HANDLE.match(handle) is not None


def decide(climb: Climb, seen: Seen, now: float) -> Move:
    """The next move. A repair on TCP comes only right after its port was seen to answer."""
    match seen:
        case Seen.ANSWERED:
            return Move.RECOVERED
        case Seen.PAUSED:
            return Move.ASK
        case Seen.PORT_CLOSED:
            return Move.PAUSE
        case Seen.REPAIRED:
            climb.repair_at = now + REPAIR_GAP_SEC
            return Move.PAUSE
        case Seen.PORT_OPEN:
            climb.repairs += 1
            return Move.REATTACH
        case Seen.SILENT:
            return _on_silence(climb, now)


def _on_silence(climb: Climb, now: float) -> Move:
    if now >= climb.until:
        return Move.GIVE_UP
    if now < climb.repair_at:
        return Move.PAUSE
    if is_tcp(climb.handle):
        return Move.LOOK_AT_PORT
    climb.repairs += 1
    return Move.RECONNECT


def should_restart_server(*, known: int, given_up: int, running: int, since_last_sec: float | None) -> bool:
    """The last rung: every phone of the node was given up, no task would be hit, and it was not just tried."""
    is_rested = since_last_sec is None or since_last_sec >= SERVER_RESTART_GAP_SEC
    return running == 0 and given_up >= max(known, SERVER_SILENT_PHONES_MIN) and is_rested
