"""Cursors of paged lists: opaque to clients, a JSON list in base64 to us."""

import base64
import binascii
import json
from typing import Any

_CHARS_MAX = 1_000


class MalformedCursorError(ValueError):
    """Not a cursor that this list has given out."""


def encode_cursor(*parts: str | int) -> str:
    """The place of the last item that was given out."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *kinds: type) -> list[Any]:
    """The parts, of these kinds. Raises MalformedCursorError."""
    if len(cursor) > _CHARS_MAX:
        raise MalformedCursorError("a cursor is not that long")
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise MalformedCursorError("this list gave out no such cursor") from error
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds):
        raise MalformedCursorError("this list gave out no such cursor")
    if any(isinstance(part, int) and not 0 <= part < 2**31 for part in parts):
        raise MalformedCursorError("this list gave out no such cursor")
    return parts
