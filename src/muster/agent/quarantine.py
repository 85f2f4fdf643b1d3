"""Which phones get no task because they failed again and again, and how they come back (spec/07). Pure; time is given.

decide(quarantine, event, now) changes the state and answers what has to be told; `due(quarantine, now)` names the
phones to be probed now. Times are monotonic seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from muster.domain.failure import FailureClass, FailureReason
from muster.domain.limits import (
    DEVICES_PER_NODE_MAX,
    QUARANTINE_AFTER_FAILURES,
    QUARANTINE_CLEAN_PROBES,
    QUARANTINE_PROBE_SEC,
    QUARANTINE_PROBE_SEC_MAX,
)

UNREADABLE: Final = "its entry in this node's file of quarantined phones could not be read: release it if it is well"
# Of the device's class, but nothing that leaving the phone alone would mend, or no failure of the phone at all.
_NO_FAULT: Final = frozenset(
    {
        FailureReason.NEEDS_USB_AUTHORIZATION,
        FailureReason.BATTERY_LOW,
        FailureReason.OVERHEATED,
        FailureReason.QUARANTINED,
    }
)
# Of the infrastructure's class, but at this one phone.
_AT_THE_PHONE: Final = frozenset({FailureReason.VENDOR_COMMAND_ERROR})


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task of the phone ended; `reason` None: it succeeded."""

    device_id: str
    reason: FailureReason | None


@dataclass(frozen=True, slots=True)
class Probed:
    """The phone was asked whether it is well."""

    device_id: str
    is_clean: bool


@dataclass(frozen=True, slots=True)
class Isolate:
    """Somebody wants it kept out; only somebody lets it in again. `reason`: theirs."""

    device_id: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """Somebody lets it in again."""

    device_id: str


Event = TaskEnded | Probed | Isolate | Release


@dataclass(frozen=True, slots=True)
class Entered:
    """From now on the phone gets no task."""

    device_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Left:
    """From now on it gets tasks again."""

    device_id: str
    why: str


Effect = Entered | Left


@dataclass(slots=True)
class Held:
    """A phone in quarantine. `by_hand`: no probe frees it. `clean`: probes that found it well, in a row."""

    why: str
    by_hand: bool
    probe_at: float = 0.0
    clean: int = 0


@dataclass(slots=True)
class Quarantine:
    """`streaks`: failures in a row. `stays`: times in quarantine since the last success, by which probes back off."""

    held: dict[str, Held] = field(default_factory=dict)
    streaks: dict[str, int] = field(default_factory=dict)
    stays: dict[str, int] = field(default_factory=dict)

    def why(self, device_id: str) -> str | None:
        """Why the phone gets no task; None: it does."""
        held = self.held.get(device_id)
        return held.why if held else None


def counts_against(reason: FailureReason) -> bool:
    """Whether a failure speaks against the phone, not against the recipe, the node or an operator."""
    if reason in _AT_THE_PHONE:
        return True
    return reason.failure_class is FailureClass.DEVICE and reason not in _NO_FAULT


def due(quarantine: Quarantine, now: float) -> list[str]:
    """Phones to be probed now."""
    return [name for name, held in quarantine.held.items() if not held.by_hand and held.probe_at <= now]


def probe_interval_sec(stays: int) -> float:
    """Between two probes of a phone that is here for the `stays`-th time since it last succeeded."""
    return min(QUARANTINE_PROBE_SEC * 2.0 ** min(max(stays - 1, 0), 30), QUARANTINE_PROBE_SEC_MAX)


def decide(quarantine: Quarantine, event: Event, now: float) -> Sequence[Effect]:
    """What the event changes."""
    match event:
        case TaskEnded(device_id, reason):
            return _task_ended(quarantine, device_id, reason, now)
        case Probed(device_id, is_clean):
            return _probed(quarantine, device_id, now, is_clean=is_clean)
        case Isolate(device_id, reason):
            why = "an operator put it into quarantine" + (f": {reason}" if reason else "")
            return _enter(quarantine, device_id, Held(why, by_hand=True))
        case Release(device_id):
            quarantine.stays.pop(device_id, None)
            return _leave(quarantine, device_id, "an operator released it")


def _task_ended(quarantine: Quarantine, device_id: str, reason: FailureReason | None, now: float) -> Sequence[Effect]:
    if reason is None:
        quarantine.streaks.pop(device_id, None)
        quarantine.stays.pop(device_id, None)
        return ()
    if not counts_against(reason) or device_id in quarantine.held:
        return ()
    streak = quarantine.streaks[device_id] = quarantine.streaks.pop(device_id, 0) + 1
    if streak < QUARANTINE_AFTER_FAILURES:
        _bound(quarantine.streaks)
        return ()
    stays = quarantine.stays[device_id] = quarantine.stays.pop(device_id, 0) + 1
    _bound(quarantine.stays)
    why = f"{streak} tasks in a row failed, the last one with {reason.value}"
    return _enter(quarantine, device_id, Held(why, by_hand=False, probe_at=now + probe_interval_sec(stays)))


def _probed(quarantine: Quarantine, device_id: str, now: float, *, is_clean: bool) -> Sequence[Effect]:
    held = quarantine.held.get(device_id)
    if held is None or held.by_hand:
        return ()
    held.clean = held.clean + 1 if is_clean else 0
    held.probe_at = now + probe_interval_sec(quarantine.stays.get(device_id, 1))
    if held.clean < QUARANTINE_CLEAN_PROBES:
        return ()
    return _leave(quarantine, device_id, f"{held.clean} probes in a row found it well")


def _enter(quarantine: Quarantine, device_id: str, held: Held) -> Sequence[Effect]:
    quarantine.streaks.pop(device_id, None)
    if device_id not in quarantine.held and len(quarantine.held) >= DEVICES_PER_NODE_MAX:
        quarantine.held.pop(next(iter(quarantine.held)))
    quarantine.held[device_id] = held
    return (Entered(device_id, held.why),)


def _leave(quarantine: Quarantine, device_id: str, why: str) -> Sequence[Effect]:
    quarantine.streaks.pop(device_id, None)
    return (Left(device_id, why),) if quarantine.held.pop(device_id, None) else ()


def _bound(counts: dict[str, int]) -> None:
    """What was counted longest ago is forgotten first."""
    while len(counts) > DEVICES_PER_NODE_MAX:
        counts.pop(next(iter(counts)))


def to_document(quarantine: Quarantine) -> dict[str, object]:
    """Plain data for a JSON file; times are left out, they mean nothing after a restart."""
    held = {name: {"why": entry.why, "by_hand": entry.by_hand} for name, entry in quarantine.held.items()}
    return {"held": held, "streaks": dict(quarantine.streaks), "stays": dict(quarantine.stays)}


def from_document(document: object, now: float) -> Quarantine:
    """What `to_document` wrote, its phones to be probed after their interval; anything else counts as nothing.

    A phone of which only the name can be read stays held: perhaps a person put it there.
    """
    if not isinstance(document, dict):
        return Quarantine()
    quarantine = Quarantine({}, _counts(document.get("streaks")), _counts(document.get("stays")))
    held = document.get("held")
    for name, entry in held.items() if isinstance(held, dict) else ():
        probe_at = now + probe_interval_sec(quarantine.stays.get(name, 1))
        match entry:
            case {"why": str(why), "by_hand": bool(by_hand)}:
                quarantine.held[name] = Held(why, by_hand=by_hand, probe_at=probe_at)
            case _:
                quarantine.held[name] = Held(UNREADABLE, by_hand=True)
    return quarantine


def _counts(value: object) -> dict[str, int]:
    entries: Mapping[object, object] = value if isinstance(value, dict) else {}
    return {name: count for name, count in entries.items() if isinstance(name, str) and isinstance(count, int)}
