"""Values into texts: a command for the *phone's* shell, in which no value can add a word or a command."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from muster.domain.failure import FailureReason
from muster.recipe.shell_context import Quote, Slot, slots
from muster.recipe.template import Filter, Placeholder, placeholders

_ADB_PREFIX = re.compile(r"^\s*adb\s+(?:shell(?:\s+|$))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# adb refuses longer service strings (spec/10); the `shell,v2:` before the command counts too.
RENDERED_BYTES_MAX: Final = 65_000


class RenderError(Exception):
    """The text cannot be filled with these values; nothing was sent."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Values:
    """What placeholders stand for. `params` in effect (see `layered`), and the node's own secrets."""

    params: Mapping[str, str]
    secrets: Mapping[str, str] = field(default_factory=dict)

    def of(self, placeholder: Placeholder) -> str:
        """The value. Raises RenderError (`param_missing`)."""
        source = self.secrets if placeholder.is_secret else self.params
        if placeholder.key in source:
            return source[placeholder.key]
        where = "this node's secrets" if placeholder.is_secret else "the params of the recipe, the step or the run"
        raise RenderError(
            FailureReason.PARAM_MISSING, f"{placeholder} has no value: {placeholder.key} is not in {where}"
        )


def layered(*sources: Mapping[str, str]) -> dict[str, str]:
    """One mapping of several, each overriding those before it (spec/02: recipe, step, run, built-ins)."""
    return {key: value for source in sources for key, value in source.items()}


def strip_adb(command: str) -> str:
    """The command for the phone's shell: without a leading `adb ` or `adb shell ` (spec/02)."""
    return _ADB_PREFIX.sub("", command, count=1)


@lru_cache(maxsize=1024)
def command_slots(command: str) -> tuple[Slot, ...]:
    """The placeholders of a command (already without `adb shell`) and their quotes. Raises TemplateError."""
    return slots(command, placeholders(command))


def render_command(command: str, values: Values, *, allow_raw: bool) -> str:
    """The command as the phone's shell gets it. Raises RenderError, and TemplateError for what the parser refuses."""
    bare = strip_adb(command)
    parts, at = [], 0
    for slot in command_slots(bare):
        parts.append(bare[at : slot.placeholder.start])
        at = slot.placeholder.end
        parts.append(_fill(slot, values, bare, allow_raw=allow_raw))
    rendered = "".join([*parts, bare[at:]])
    size = len(_encodable(rendered).encode())
    if size > RENDERED_BYTES_MAX:
        raise RenderError(FailureReason.STEP_FAILED, f"the command has {size} bytes; adb carries {RENDERED_BYTES_MAX}")
    return rendered


def render_text(text: str, values: Values) -> str:
    """The text with its values as they are, for comparing; no shell will read it. Raises RenderError, TemplateError."""
    parts, at = [], 0
    for placeholder in placeholders(text):
        parts += [text[at : placeholder.start], values.of(placeholder)]
        at = placeholder.end
    return "".join([*parts, text[at:]])


def _fill(slot: Slot, values: Values, command: str, *, allow_raw: bool) -> str:
    placeholder = slot.placeholder
    if placeholder.filter is Filter.RAW and not allow_raw:
        raise RenderError(
            FailureReason.RAW_NOT_ALLOWED,
            f"{placeholder} is not allowed on this node; its own settings decide (allow_raw_shell)",
        )
    value = values.of(placeholder)
    if "\0" in value:
        raise RenderError(
            FailureReason.STEP_FAILED, f"the value of {placeholder} holds a NUL, which no command can carry"
        )
    if placeholder.filter is Filter.RAW:
        return value
    if placeholder.filter is Filter.INPUT:
        value = _for_input_text(placeholder, value, command)
    return quote(value, slot.quote)


def quote(value: str, inside: Quote = Quote.NONE) -> str:
    """`value` as (part of) one word, written where the author has opened the quotes `inside`."""
    escaped = value.replace("'", "'\\''")
    if inside is Quote.SINGLE:
        return escaped
    return f"\"'{escaped}'\"" if inside is Quote.DOUBLE else f"'{escaped}'"


def _for_input_text(placeholder: Placeholder, value: str, command: str) -> str:
    """Android's `input text` turns each `%s` into a space and knows no way to write `%s` itself (Input.java)."""
    around = command[placeholder.start - 1 : placeholder.start] + value + command[placeholder.end : placeholder.end + 1]
    if "%s" in around or around.endswith("%{"):
        raise RenderError(
            FailureReason.STEP_FAILED,
            f"the value of {placeholder} makes a %s, which `input text` would type as a space",
        )
    if _CONTROL.search(value):
        raise RenderError(
            FailureReason.STEP_FAILED,
            f"the value of {placeholder} holds a control character, which `input text` would press as a key",
        )
    return value.replace(" ", "%s")


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RenderError(FailureReason.STEP_FAILED, "a value holds half a surrogate pair, which is no text") from error
    return text
