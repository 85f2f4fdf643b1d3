"""Where something is wrong, as a person would write it: `timeoutOverrides.launch`, `steps[3].timeoutMs`."""

from collections.abc import Sequence


def field_name(loc: Sequence[int | str]) -> str:
    """A Pydantic location as a path; `[key]` (an error about a mapping's key, not its value) is left out."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":
            path += f".{part}" if path else part
    return path
