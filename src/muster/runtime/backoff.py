"""When to try again: pure functions of attempt and random number, so that a thousand nodes never march in step."""

import random
from collections.abc import Sequence


def ladder_delay_sec(failures: int, ladder: Sequence[float], rng: random.Random) -> float:
    """The wait after the `failures`-th failure in a row (1, 2, …): the ladder's rung, its last one for ever, ±20 %."""
    rung = ladder[min(max(failures, 1), len(ladder)) - 1]
    return rung * rng.uniform(0.8, 1.2)


def full_jitter_delay_sec(failures: int, *, base_sec: float, cap_sec: float, rng: random.Random) -> float:
    """Exponential back-off with full jitter: uniform in [base/2, min(cap, base·2ⁿ)]; never a busy loop."""
    ceiling = min(cap_sec, base_sec * 2.0 ** min(failures, 30))
    return rng.uniform(base_sec / 2, max(ceiling, base_sec))
