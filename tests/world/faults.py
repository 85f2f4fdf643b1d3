"""What goes wrong in a world, drawn from its seed: each seed turns on some kinds of fault, at its own rates (swarm)."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from muster.contracts.events import EventType
from muster.domain.device import AttachState

KINDS = (
    "hang", "drop", "unauthorized", "slow", "fail", "reserved",
    "away", "secret", "lost", "cut", "silent", "error", "double", "held", "refuse", "small_batches", "lagging",
    "full", "io_error", "slow_disk", "upload", "kill", "kill_at_commit", "restart", "clock", "bad_command",
    "cancel", "stop", "action", "renew", "node_lost", "stuck", "care", "reboot",
)  # fmt: skip
# What the backend may refuse for good without making the truth unknowable.
REFUSABLE = (EventType.TASK_PROGRESS, EventType.RUN_STARTED, EventType.RUN_FINISHED, EventType.TASK_STARTED)


@dataclass(frozen=True, slots=True)
class Spell:
    """A fault of kind `kind` from `start` to `end` (seconds); `where` names a phone or is empty."""

    kind: str
    start: float
    end: float
    rate: float = 0.0
    where: str = ""


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A run that is asked for at `at`: its recipe and phones."""

    at: float
    devices: tuple[str, ...]
    steps: tuple[dict[str, Any], ...]
    timeout_ms: int
    max_attempts: int = 1
    is_readable: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """All of a world that is drawn before it begins."""

    slots: int
    devices: tuple[str, ...]
    runs: tuple[RunOrder, ...]
    kinds: frozenset[str]
    spells: tuple[Spell, ...]
    heal_at: float
    drain_grace_sec: float
    slowness: dict[str, float] = field(default_factory=dict)
    fails: dict[str, float] = field(default_factory=dict)
    teardown_sec: dict[str, float] = field(default_factory=dict)
    node_lost_after_sec: float = math.inf


def draw(seed: int) -> Plan:
    """The same seed draws the same plan, on every machine."""
    rng = random.Random(f"plan {seed}")
    devices = tuple(f"PHONE{number:02d}" for number in range(1, rng.choice([2, 3, 5, 8, 14, 24]) + 1))
    share = rng.choice([0.0, 0.15, 0.3, 0.6])
    kinds = frozenset(kind for kind in KINDS if rng.random() < share)
    heal_at = rng.uniform(40, 200)
    # Half of the worlds ask for everything at once, of the same phones: queues are long there.
    wanted = tuple(rng.sample(devices, rng.randint(1, len(devices)))) if rng.random() < 0.5 else None
    runs = tuple(_run(rng, devices, heal_at, wanted, "bad_command" in kinds) for _ in range(rng.randint(1, 4)))
    return Plan(
        slots=rng.choice([1, 2, 3, 5, 20]),
        devices=devices,
        runs=tuple(sorted(runs, key=lambda run: run.at)),
        kinds=kinds,
        spells=tuple(_spells(rng, kinds, devices, heal_at)),
        heal_at=heal_at,
        drain_grace_sec=rng.choice([0.0, 2.0, 20.0]),
        slowness={device: rng.choice([1.0, 5.0, 20.0]) for device in devices} if "slow" in kinds else {},
        fails={device: rng.choice([0.0, 0.1, 0.5]) for device in devices} if "fail" in kinds else {},
        teardown_sec={device: rng.choice([0.05, 2.0, 8.0]) for device in devices} if "stuck" in kinds else {},
        node_lost_after_sec=rng.choice([15.0, 40.0]) if "node_lost" in kinds else math.inf,
    )


def roll_call(plan: Plan) -> RunOrder:
    """One short task for each phone."""
    steps = ({"id": "here", "kind": "adb", "command": "work {{RUN_ID}} 0", "timeoutMs": 10_000},)
    return RunOrder(plan.heal_at, plan.devices, steps, 60_000)


def _run(
    rng: random.Random, devices: tuple[str, ...], heal_at: float, wanted: tuple[str, ...] | None, may_be_bad: bool
) -> RunOrder:
    chosen = wanted or tuple(rng.sample(devices, rng.randint(1, len(devices))))
    readable = not (may_be_bad and rng.random() < 0.4)
    at = 0.5 if wanted else rng.choice([0.5, rng.uniform(0, heal_at * 0.7)])
    return RunOrder(at, chosen, tuple(_steps(rng)), rng.choice([60_000, 90_000]), rng.choice([1, 1, 3]), readable)


def _steps(rng: random.Random) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {
            "id": f"work{number}",
            "kind": "adb",
            "command": f"work {{{{RUN_ID}}}} {number}",
            "timeoutMs": rng.choice([5_000, 10_000, 30_000]),
            **rng.choice(_MANNERS),
        }
        for number in range(1, rng.randint(1, 4) + 1)
    ]
    if rng.random() < 0.5:
        steps.append({"id": "shot", "kind": "screenshot", "phase": "SCREENSHOT"})
        steps.append({"id": "upload", "kind": "upload", "phase": "UPLOAD", "source": "shot"})
    return steps


_MANNERS: tuple[dict[str, Any], ...] = (
    {},
    {"onFailure": "continue"},
    {"onFailure": "retry", "retryCount": 2, "idempotent": True},
)


def _spells(rng: random.Random, kinds: frozenset[str], devices: tuple[str, ...], heal_at: float) -> list[Spell]:
    """In the order of KINDS, never of a set."""
    spells: list[Spell] = []
    for kind in KINDS:
        if kind in kinds:
            spells.extend(_DRAW.get(kind, _whole_world)(rng, kind, devices, heal_at))
    return spells


def _on_phones(rng: random.Random, kind: str, devices: tuple[str, ...], heal_at: float) -> list[Spell]:
    spells = []
    for device in devices:
        for _ in range(rng.choice([0, 0, 1, 3])):
            # Half of them are there before the first task comes.
            start = rng.choice([0.2, rng.uniform(0, heal_at)])
            spells.append(Spell(kind, start, start + rng.choice([2.0, 12.0, 20.0, 80.0]), where=device))
    return spells


def _instants(rng: random.Random, kind: str, _devices: tuple[str, ...], heal_at: float) -> list[Spell]:
    """`rate`: how many commits on (a kill at a commit), or which task or phone."""
    times = [rng.uniform(0, heal_at) for _ in range(rng.randint(1, 4))]
    return [Spell(kind, at, at, float(rng.randint(1, 30))) for at in times]


def _orders(rng: random.Random, kind: str, _devices: tuple[str, ...], heal_at: float) -> list[Spell]:
    """`rate`: which task or phone. Half of them come while the first runs are likely to be at work."""
    times = [rng.choice([rng.uniform(0, heal_at), rng.uniform(1, 25)]) for _ in range(rng.randint(1, 8))]
    return [Spell(kind, at, at, float(rng.randint(1, 60))) for at in times]


def _whole_world(rng: random.Random, kind: str, _devices: tuple[str, ...], heal_at: float) -> list[Spell]:
    spells = []
    for _ in range(rng.randint(1, 3)):
        start = rng.uniform(0, heal_at)
        spells.append(Spell(kind, start, start + rng.choice([3.0, 30.0, 100.0]), rng.choice([0.02, 0.1, 0.4])))
    return spells


_DRAW: dict[str, Callable[[random.Random, str, tuple[str, ...], float], list[Spell]]] = {
    "hang": _on_phones,
    "drop": _on_phones,
    "unauthorized": _on_phones,
    "reserved": _on_phones,
    "kill": _instants,
    "kill_at_commit": _instants,
    "restart": _instants,
    "clock": _instants,
    "cancel": _orders,
    "stop": _orders,
    "renew": _orders,
    "action": _orders,
    "slow": lambda *_: [],
    "stuck": lambda *_: [],
    "care": lambda *_: [],
    "reboot": lambda *_: [],
    "fail": lambda *_: [],
    "bad_command": lambda *_: [],
}
GONE = (AttachState.MISSING, AttachState.OFFLINE)
