"""`{{KEY}}` in texts of a recipe: finding placeholders. How a value enters a command is in `shell_quote.py`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# The one built-in that not every run has.
VIDEO_ID: Final = "VIDEO_ID"
BUILT_INS: Final = frozenset({"RUN_ID", "NODE_ID", "DEVICE_ID", "RUNTIME_HANDLE", VIDEO_ID, "AUTO_SCREENSHOT_PATH"})
_SECRET_PREFIX: Final = "secret."  # noqa: S105  # a name's prefix, no secret
_PLACEHOLDER = re.compile(
    r"\{\{\s*(?P<key>(?:secret\.)?[A-Za-z_][A-Za-z0-9_]{0,63})\s*(?:\|\s*(?P<filter>[A-Za-z0-9_-]*)\s*)?\}\}", re.ASCII
)


class Filter(StrEnum):
    """How a value enters a command."""

    QUOTED = ""
    INPUT = "input"
    RAW = "raw"


class TemplateError(ValueError):
    """A text that cannot be filled, whatever the values; the message says what to write instead."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """`{{KEY|filter}}` at `start:end` of its text. A secret's key carries no `secret.`."""

    key: str
    filter: Filter
    is_secret: bool
    start: int
    end: int

    def __str__(self) -> str:
        name = f"secret.{self.key}" if self.is_secret else self.key
        return "{{" + name + (f"|{self.filter}" if self.filter else "") + "}}"


def placeholders(text: str) -> tuple[Placeholder, ...]:
    """All of them in order. Raises TemplateError for a `{{` that opens none."""
    return tuple(_scan(text))


def _scan(text: str) -> Iterator[Placeholder]:
    at = 0
    while (start := text.find("{{", at)) >= 0:
        match = _PLACEHOLDER.match(text, start)
        if match is None:
            raise TemplateError(f"`{_excerpt(text, start)}` is no placeholder; write {{{{KEY}}}} or {{{{KEY|input}}}}")
        key = match["key"]
        secret = key.startswith(_SECRET_PREFIX)
        yield Placeholder(key.removeprefix(_SECRET_PREFIX), _filter(match), secret, start, match.end())
        at = match.end()


def _filter(match: re.Match[str]) -> Filter:
    name = match["filter"]
    if name is None:
        return Filter.QUOTED
    if name not in (Filter.INPUT, Filter.RAW):
        raise TemplateError(f"`{match[0]}`: there is no filter {name!r}; the filters are input and raw")
    return Filter(name)


def _excerpt(text: str, start: int) -> str:
    return text[start : start + 24].replace("\n", "\\n")
