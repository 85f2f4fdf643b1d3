"""What can be said of a phone: where it is attached, and whether it counts as Online (R8.1: there is nothing else)."""

import re
from enum import StrEnum
from typing import Final

from muster.domain.limits import ONLINE_WINDOW_SEC

_EMULATOR: Final = re.compile(r"emulator-(\d{4,5})")


class AttachState(StrEnum):
    """A phone as its node sees it. The console shows Online or Offline only; this is the cause behind it."""

    DEVICE = "device"
    OFFLINE = "offline"
    UNAUTHORIZED = "unauthorized"
    MISSING = "missing"


def is_online(age_ms: int | None, window_sec: int = ONLINE_WINDOW_SEC) -> bool:
    """R8.1. Since its last sign, by the *backend's* clock (R8.6); a phone never seen (None) is Offline."""
    return age_ms is not None and age_ms <= window_sec * 1000


def emulator_port(handle: str) -> int | None:
    """The console port in the handle of one of Android's emulators, `emulator-5554`; None for every other phone."""
    match = _EMULATOR.fullmatch(handle)
    return int(match[1]) if match else None
