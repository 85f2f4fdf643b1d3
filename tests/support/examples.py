"""What properties are tried with: the same examples each time; PROPERTY_EXAMPLES=20: new ones, 20 times as many."""

import os

TIMES = int(os.environ.get("PROPERTY_EXAMPLES", "0"))


def examples(usual: int) -> int:
    """As many examples of a property as this run draws, for one that needs more or fewer than Hypothesis' hundred."""
    return usual * max(1, TIMES)
