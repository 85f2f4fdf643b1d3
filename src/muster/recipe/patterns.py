"""Regular expressions of recipes, matched in linear time.

A pattern comes from the backend and meets a megabyte of a phone's output, so a backtracking engine could hold a node's
only thread for hours. Pydantic's own engine (Rust's `regex`) cannot; it knows no look-around and no back-references.
"""

from functools import lru_cache
from typing import Annotated

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError


class PatternError(ValueError):
    """The pattern does not compile; the message says why."""


class Pattern:
    """A compiled pattern."""

    def __init__(self, text: str) -> None:
        try:
            self._adapter: TypeAdapter[str] = TypeAdapter(Annotated[str, StringConstraints(pattern=text)])
        except SchemaError as error:
            raise PatternError(_reason(str(error))) from error

    def found_in(self, text: str) -> bool:
        """Whether it matches anywhere in `text`; `^` and `$` bind it to the ends."""
        try:
            self._adapter.validate_python(text)
        except ValidationError:
            return False
        return True


@lru_cache(maxsize=512)
def compile_pattern(text: str) -> Pattern:
    """The pattern. Raises PatternError."""
    return Pattern(text)


def _reason(message: str) -> str:
    """The engine's last line: `error: unclosed group`."""
    for line in reversed(message.splitlines()):
        if line.strip().startswith("error:"):
            return line.strip().removeprefix("error:").strip()
    return " ".join(message.split())[:200]
