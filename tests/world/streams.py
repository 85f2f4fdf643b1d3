"""Random numbers of a world: a stream for each thing that draws, so that a new one leaves all others as they are."""

import random
from collections.abc import Callable

Streams = Callable[[str], random.Random]
"""From the name of what draws to its own stream, from the beginning."""


def streams(seed: object) -> Streams:
    """The same for the same `seed` and name in every process and on every machine."""
    return lambda name: random.Random(f"{seed}:{name}")
