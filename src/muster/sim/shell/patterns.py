r"""The regular expressions of the phone's grep and sed, matched without ever holding up the rack.

Python's engine tries one way after another: with a repetition inside a repetition (`\(a*\)*b`) there are more ways than
anyone can wait for, and all phones of the rack would wait with it. The engine that recipes use needs time in proportion
to the line, but tells only *whether* a pattern fits. So it answers where that is enough, and is asked first where the
place matters too (`grep -o`, `sed s`); a pattern with a repetition inside a repetition is refused there as too complex.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from muster.recipe.patterns import Pattern, PatternError

PATTERN_CHARS_MAX: Final = 1_000
LINE_CHARS_MAX: Final = 2_000
"""Up to here a single repetition costs Python's engine next to nothing, and it alone is asked."""
CLASSES: Final = MappingProxyType(
    {"alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "digit": "0-9", "lower": "a-z", "space": r"\s", "upper": "A-Z"}
)
_PIECE: Final = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\{\d*,?\d*\}|.", re.DOTALL)
_REPEATS: Final = re.compile(r"[*+]|\{\d*,?\d*\}")


@dataclass(slots=True)
class _Group:
    """What has been read of a group. `varies`: a part of it may fit one text in several ways."""

    varies: bool = False
    heads: tuple[str, ...] = ()
    at_head: bool = True


@dataclass(frozen=True, slots=True)
class _Shape:
    """`repeats`: how many repetitions; `nested`: one inside another."""

    repeats: int
    nested: bool


class LinePattern:
    """A pattern in Python's words, for single lines. `needs_places`: it is asked where it fits, not only whether.

    Raises re.error for one that is wrong, too long or too complex.
    """

    def __init__(self, source: str, *, ignore_case: bool = False, needs_places: bool = False) -> None:
        if len(source) > PATTERN_CHARS_MAX:
            raise re.error("pattern is too long")
        self._by_places = re.compile(source, re.IGNORECASE if ignore_case else 0)
        self._shape = _shape(source)
        self._linear = _linear(source, ignore_case=ignore_case) if self._shape.repeats else None
        if self._shape.nested and (needs_places or self._linear is None):
            raise re.error("a repetition inside a repetition is too complex")

    def found_in(self, line: str) -> bool:
        """Whether it fits anywhere."""
        if self._is_for_linear(line):
            assert self._linear is not None
            return self._linear.found_in(_without_surrogates(line))
        return self._by_places.search(line) is not None

    def parts_of(self, line: str) -> Iterator[str]:
        """Every part that it fits, from left to right."""
        if not self._is_for_linear(line) or self.found_in(line):
            yield from (hit[0] for hit in self._by_places.finditer(line))

    def replaced_in(self, line: str, replacement: str, *, count: int) -> tuple[str, int]:
        """The line with `count` parts replaced (0: all), and how many there were. Raises re.error."""
        if self._is_for_linear(line) and not self.found_in(line):
            return line, 0
        return self._by_places.subn(replacement, line, count=count)

    def _is_for_linear(self, line: str) -> bool:
        is_slow = self._shape.nested or self._shape.repeats > 1 or len(line) > LINE_CHARS_MAX
        return self._linear is not None and is_slow


def translated(pattern: str, *, extended: bool) -> str:
    """A basic or an extended regular expression of POSIX in Python's words."""
    source = pattern if extended else _basic(pattern)
    for name, inside in CLASSES.items():
        source = source.replace(f"[:{name}:]", inside)
    return source


def _basic(pattern: str) -> str:
    r"""In basic ones `\(`, `\|`, `\+`, `\{` are operators, the bare ones are not."""

    def swap(found: "re.Match[str]") -> str:
        text = found[0]
        return text[1:] if len(text) == 2 and text[1] in "(){}|+?" else text if len(text) == 2 else "\\" + text

    return re.sub(r"\\.|[(){}|+?]", swap, pattern)


def _linear(source: str, *, ignore_case: bool) -> Pattern | None:
    """None for what that engine does not know, such as back-references."""
    try:
        return Pattern(f"(?i){source}" if ignore_case else source)
    except PatternError:
        return None


def _shape(source: str) -> _Shape:
    groups, repeats, nested = [_Group()], 0, False
    closed: _Group | None = None
    for piece in _PIECE.findall(source):
        group, before, closed = groups[-1], closed, None
        if piece in ("(", "(?:"):
            groups.append(_Group())
        elif piece == ")" and len(groups) > 1:
            closed = _closed(groups)
        elif piece == "|":
            group.at_head = True
        elif piece == "?" or _REPEATS.fullmatch(piece):
            is_repeat = piece != "?"
            nested |= is_repeat and before is not None and before.varies
            repeats += is_repeat
            group.varies = True
        elif group.at_head:
            group.heads, group.at_head = (*group.heads, piece), False
    return _Shape(repeats, nested)


def _closed(groups: list[_Group]) -> _Group:
    """Ends the innermost group: it varies, too, unless all its alternatives begin with characters of their own."""
    closed = groups.pop()
    has_alternatives = len(closed.heads) > 1 or (closed.heads and closed.at_head)
    are_distinct = all(head.isalnum() for head in closed.heads) and len(set(closed.heads)) == len(closed.heads)
    closed.varies |= bool(has_alternatives) and not (are_distinct and not closed.at_head)
    groups[-1].varies |= closed.varies
    if groups[-1].at_head:
        groups[-1].heads, groups[-1].at_head = (*groups[-1].heads, "("), False
    return closed


def _without_surrogates(line: str) -> str:
    """Bytes that are no text stand as surrogates in a line; that engine takes text alone."""
    return line if line.isascii() else line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
