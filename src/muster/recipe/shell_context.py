"""Where in a shell command each placeholder stands, found without running anything.

The phone's shell is mksh; the same rules hold in dash and bash. What this reader does not understand it refuses: a
placeholder is only let through where a single-quoted value provably stays one word of one command.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from muster.recipe.shell_words import Simple, refuse_reinterpretation
from muster.recipe.template import Filter, Placeholder, TemplateError


class Quote(StrEnum):
    """What the author has opened before the placeholder."""

    NONE = ""
    SINGLE = "'"
    DOUBLE = '"'


@dataclass(frozen=True, slots=True)
class Slot:
    """A placeholder and the quotes around it."""

    placeholder: Placeholder
    quote: Quote


# Substitutions so plain that their end is certain: no quotes, no nesting, no comment, no `case` with its lone `)`.
_PLAIN_SUBSTITUTION = re.compile(
    r"\$\((?!\()(?![^)]*\bcase\b)[^()'\"`\\#<{}$]*\)"
    r"|`(?![^`]*\bcase\b)[^()'\"`\\#<{}$]*`"
    r"|\$\{[A-Za-z0-9_]+\}"
)
_SEPARATORS: Final = frozenset(";|&\n()")


def slots(command: str, found: Sequence[Placeholder]) -> tuple[Slot, ...]:
    """Each placeholder with its quotes. Raises TemplateError where a value could not be kept one word.

    `raw` placeholders are not judged: they are the author's and the node's own risk.
    """
    if "\0" in command:
        raise TemplateError("holds a NUL character, which no command can carry")
    reader = _Reader(command, {placeholder.start: placeholder for placeholder in found})
    at = 0
    while at < len(command):
        at = reader.take(at)
    judged = [place for place in reader.places if place.slot.placeholder.filter is not Filter.RAW]
    if judged and reader.quote:
        raise TemplateError(f"a {reader.quote} is opened and not closed")
    for place in judged:
        is_quoted = place.slot.quote is not Quote.NONE
        refuse_reinterpretation(str(place.slot.placeholder), place.command, place.offset, is_quoted=is_quoted)
    return tuple(place.slot for place in reader.places)


@dataclass(frozen=True, slots=True)
class _Place:
    slot: Slot
    command: Simple
    offset: int


@dataclass(slots=True)
class _Reader:
    """Walks a command once. `opaque` names the first construct that it does not look into; it never looks out again."""

    text: str
    placeholders: dict[int, Placeholder]
    quote: Quote = Quote.NONE
    opaque: str | None = None
    places: list[_Place] = field(default_factory=list)
    _simple: Simple = field(default_factory=Simple)

    def take(self, at: int) -> int:
        """Reads what stands at `at` and answers where to go on."""
        placeholder = self.placeholders.get(at)
        if placeholder is not None:
            return self._placeholder(placeholder)
        char = self.text[at]
        if self.quote is Quote.SINGLE:
            self._quoted(char, closes=char == "'")
            return at + 1
        if char in "$`":
            return self._substitution(at)
        if char == "\\":
            return self._escape(at)
        if self.quote is Quote.DOUBLE:
            self._quoted(char, closes=char == '"')
            return at + 1
        return self._bare(at, char)

    def _placeholder(self, placeholder: Placeholder) -> int:
        if placeholder.filter is not Filter.RAW:
            self._refuse_unsafe(placeholder)
        self.places.append(_Place(Slot(placeholder, self.quote), self._simple, len(self._simple.text)))
        self._simple.text += "_"
        return placeholder.end

    def _refuse_unsafe(self, placeholder: Placeholder) -> None:
        if self.opaque:
            raise TemplateError(
                f"{placeholder} stands in or behind {self.opaque}, where its value cannot be proved to stay one word;"
                " put it before, or into a step of its own"
            )
        if self.quote is not Quote.SINGLE and self.text[: placeholder.start].endswith("$"):
            raise TemplateError(f"{placeholder}: a $ right before a placeholder would change its quoting")

    def _quoted(self, char: str, *, closes: bool) -> None:
        if closes:
            self.quote = Quote.NONE
        # White space and separators in quotes end no word: they must not look as if they did.
        self._simple.text += "_" if char in _SEPARATORS or char.isspace() else char

    def _escape(self, at: int) -> int:
        following = self.placeholders.get(at + 1)
        if following is not None and following.filter is not Filter.RAW:
            raise TemplateError(f"{following}: a backslash right before a placeholder would break its quoting")
        self._simple.text += "_"
        return at + (1 if following is not None else 2)

    def _substitution(self, at: int) -> int:
        self._simple.text += "_"
        plain = _PLAIN_SUBSTITUTION.match(self.text, at)
        if plain:
            return plain.end()
        following = self.text[at + 1 : at + 2]
        is_string = following in ("'", '"') and self.quote is Quote.NONE
        is_nested = following in ("(", "{", "[") and at + 1 not in self.placeholders
        if self.text[at] == "`" or is_string or is_nested:
            self._close_eyes("`" if self.text[at] == "`" else f"${following}")
        return at + 1

    def _bare(self, at: int, char: str) -> int:
        if char in "'\"":
            self.quote = Quote(char)
        elif self.text.startswith(("<<", "(("), at):
            self._close_eyes(self.text[at : at + 2])
        elif char == "#" and self._is_word_start(at):
            self._close_eyes("a comment")
        if char in _SEPARATORS:
            self._simple.ended_by = char
            following = Simple()
            self._simple.followed_by, self._simple = following, following
        else:
            self._simple.text += char
        return at + 1

    def _is_word_start(self, at: int) -> bool:
        return at == 0 or self.text[at - 1] in (_SEPARATORS | {"<", ">"}) or self.text[at - 1].isspace()

    def _close_eyes(self, construct: str) -> None:
        self.opaque = self.opaque or construct
