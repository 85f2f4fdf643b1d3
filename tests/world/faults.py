"""What goes wrong in a world, drawn from its seed: each seed turns on some kinds of fault, at its own rates (swarm).

Each kind, run and phone draws from a stream of its own: a new kind of fault changes nothing in worlds without it.
"""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.world.streams import Streams, streams

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


def draw(seed: int, only: Iterable[str] | None = None, *, among: Sequence[str] = KINDS) -> Plan:
    """The same seed draws the same plan, on every machine.

    `only`: the kinds of fault that are on, in place of drawn ones; `among`: all that there are.
    """
    of = streams(seed)
    devices = tuple(f"PHONE{number:02d}" for number in range(1, of("phones").choice([2, 3, 5, 8, 14, 24]) + 1))
    kinds = _kinds(of, among) if only is None else frozenset(only)
    heal_at = of("healing").uniform(40, 200)
    return Plan(
        slots=of("slots").choice([1, 2, 3, 5, 20]),
        devices=devices,
        runs=_runs(of, devices, heal_at, may_be_bad="bad_command" in kinds),
        kinds=kinds,
        # In their order, never of a set.
        spells=tuple(
            spell
            for kind in among
            if kind in kinds
            for spell in _DRAW.get(kind, _whole_world)(of(f"spells of {kind}"), kind, devices, heal_at)
        ),
        heal_at=heal_at,
        drain_grace_sec=of("drain grace").choice([0.0, 2.0, 20.0]),
        slowness=_of_each(of, devices, "slow", [1.0, 5.0, 20.0], kinds),
        fails=_of_each(of, devices, "fail", [0.0, 0.1, 0.5], kinds),
        teardown_sec=_of_each(of, devices, "stuck", [0.05, 2.0, 8.0], kinds),
        node_lost_after_sec=of("node_lost").choice([15.0, 40.0]) if "node_lost" in kinds else math.inf,
    )


def _kinds(of: Streams, among: Sequence[str]) -> frozenset[str]:
    share = of("share of the kinds").choice([0.0, 0.15, 0.3, 0.6])
    return frozenset(kind for kind in among if of(f"whether {kind}").random() < share)


def _of_each(
    of: Streams, devices: tuple[str, ...], kind: str, choices: list[float], kinds: frozenset[str]
) -> dict[str, float]:
    return {device: of(f"{kind} {device}").choice(choices) for device in devices} if kind in kinds else {}


def roll_call(plan: Plan) -> RunOrder:
    """One short task for each phone."""
    steps = ({"id": "here", "kind": "adb", "command": "work {{RUN_ID}} 0", "timeoutMs": 10_000},)
    return RunOrder(plan.heal_at, plan.devices, steps, 60_000)


def _runs(of: Streams, devices: tuple[str, ...], heal_at: float, *, may_be_bad: bool) -> tuple[RunOrder, ...]:
    rng = of("runs")
    count = rng.randint(1, 4)
    # Half of the worlds ask for everything at once, of the same phones: queues are long there.
    wanted = tuple(rng.sample(devices, rng.randint(1, len(devices)))) if rng.random() < 0.5 else None
    runs = []
    for number in range(count):
        is_readable = not (may_be_bad and of(f"bad_command {number}").random() < 0.4)
        runs.append(_run(of(f"run {number}"), devices, heal_at, wanted, is_readable))
    return tuple(sorted(runs, key=lambda run: run.at))


def _run(
    rng: random.Random, devices: tuple[str, ...], heal_at: float, wanted: tuple[str, ...] | None, is_readable: bool
) -> RunOrder:
    chosen = wanted or tuple(rng.sample(devices, rng.randint(1, len(devices))))
    at = 0.5 if wanted else rng.choice([0.5, rng.uniform(0, heal_at * 0.7)])
    return RunOrder(at, chosen, tuple(_steps(rng)), rng.choice([60_000, 90_000]), rng.choice([1, 1, 3]), is_readable)


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
