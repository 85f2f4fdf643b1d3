"""What is wrong with the log of a process, every line of it looked at (R7.1, R7.2)."""

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from tests.support.processes import SECRET

KEYS = ("timestamp", "level", "event")
# Only a task has these.
OF_A_TASK = ("task_id", "attempt", "step_id")


def wrong_lines(
    lines: Sequence[str],
    *,
    ready: str,
    of_every_line: Collection[str],
    run_ids: Collection[str],
    phones: Collection[str],
) -> list[str]:
    """Each bad line behind what is wrong with it. `ready`: what the one line that is no log begins with (spec/09).

    `of_every_line`: keys that each has. `run_ids`, `phones` (device_ids and handles): whoever names one has its key.
    """
    logged = [line for line in lines if not line.startswith(ready)]
    named = [("run_id", run_ids), ("device_id", phones)]
    return [f"{wrong}: {line}" for line in logged for wrong in _wrong(line, [*KEYS, *of_every_line], named)]


def _wrong(line: str, always: Sequence[str], named: Sequence[tuple[str, Collection[str]]]) -> Iterator[str]:
    if SECRET in line:
        yield "holds the nodes' secret"
    try:
        said: dict[str, Any] = json.loads(line)
    except ValueError:
        yield "is no JSON"
        return
    wanted = set(always)
    if str(said.get("event", "")).startswith("Task ") or any(key in said for key in OF_A_TASK):
        wanted |= {"run_id", "device_id"}
    if "handles" not in said:  # that one speaks of several phones
        wanted |= {key for key, names in named if any(name in line for name in names)}
    yield from (f"has no {key}" for key in sorted(wanted) if not said.get(key))
