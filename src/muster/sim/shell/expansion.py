"""Turns words into arguments: variables, substitutions, field splitting, globbing."""

import fnmatch
import re
from collections.abc import Awaitable, Iterable, Sequence
from functools import lru_cache
from typing import Final, Protocol

from muster.sim.files import FileTree, normalise
from muster.sim.shell import syntax
from muster.sim.shell.arithmetic import evaluate
from muster.sim.shell.syntax import Arithmetic, Substitution, Text, Variable, Word

ARGUMENT_CHARS_MAX: Final = 1024 * 1024
GLOB_MATCHES_MAX: Final = 10_000
_GLOB: Final = re.compile(r"[*?\[]")
_PIECE: Final = re.compile(r"\[[!^]?\]?[^\]]*\]|.", re.DOTALL)
Piece = tuple[str, bool]
"""Characters, and whether they were quoted."""


class ExpansionProblem(Exception):
    """A word without a value, in the shell's words: `X: parameter not set`."""


class Scope(Protocol):
    """What the expansion needs from the shell it happens in."""

    @property
    def cwd(self) -> str:
        """The current folder."""
        ...

    @property
    def positional(self) -> Sequence[str]:
        """`$1`, `$2`, …"""
        ...

    @property
    def files(self) -> FileTree:
        """Where patterns are matched."""
        ...

    def get(self, name: str) -> str | None:
        """A variable or special parameter, None when it is not set."""
        ...

    def assign(self, name: str, value: str) -> None:
        """`${NAME:=word}`."""
        ...

    def capture(self, body: syntax.Sequence) -> Awaitable[str]:
        """The output of `$(…)`, without its last newlines."""
        ...


async def expand_fields(words: Iterable[Word], scope: Scope) -> list[str]:
    """The arguments that `words` stand for, split and globbed. Raises ExpansionProblem, ArithmeticProblem."""
    arguments: list[str] = []
    for word in words:
        if len(word) == 1 and isinstance(word[0], Text) and (word[0].quoted or not _GLOB.search(word[0].value)):
            arguments.append(word[0].value)
            continue
        for field in _split(await _pieces(word, scope)):
            arguments += _glob(field, scope)
    return arguments


async def expand_single(word: Word, scope: Scope) -> str:
    """The text that `word` stands for where nothing is split: assignments, redirections, `case`."""
    return "".join(text for text, _quoted in await _pieces(word, scope, join=True) if text is not None)


async def expand_pattern(word: Word, scope: Scope) -> str:
    """`word` as a pattern of `case` and `${NAME%…}`; what was quoted matches itself only."""
    pieces = await _pieces(word, scope, join=True)
    return "".join(_escape(text) if quoted else text for text, quoted in pieces if text is not None)


async def _pieces(word: Word, scope: Scope, *, join: bool = False) -> list[tuple[str | None, bool]]:
    """The word's pieces in order; `(None, _)` stands between the fields of `"$@"`."""
    pieces: list[tuple[str | None, bool]] = []
    size = 0
    for part in word:
        before = len(pieces)
        match part:
            case Text(value, quoted):
                pieces.append((value, quoted))
            case Variable("@", True, "") if not join:
                for index, value in enumerate(scope.positional):
                    pieces += [(None, True)] * (index > 0) + [(value, True)]
            case Variable():
                pieces.append((await _variable(part, scope), part.quoted or join))
            case Substitution(body, quoted):
                pieces.append((await scope.capture(body), quoted or join))
            case Arithmetic(expression):
                text = await expand_single(expression, scope)
                pieces.append((str(evaluate(text, lambda name: scope.get(name) or "")), True))
        size += sum(len(text or "") for text, _quoted in pieces[before:])
        if size > ARGUMENT_CHARS_MAX:
            raise ExpansionProblem("argument list too long")
    return pieces


async def _variable(part: Variable, scope: Scope) -> str:
    value = " ".join(scope.positional) if part.name in ("@", "*") else scope.get(part.name)
    operator = part.operator
    if operator == "#len":
        return str(len(value or ""))
    if part.operand is None:
        return value or ""
    if operator in ("#", "##", "%", "%%"):
        return strip_pattern(value or "", operator, await expand_pattern(part.operand, scope))
    missing = value is None or (operator.startswith(":") and not value)
    if operator.endswith("+"):
        return "" if missing else await expand_single(part.operand, scope)
    if not missing:
        return value or ""
    substitute = await expand_single(part.operand, scope)
    if operator.endswith("?"):
        raise ExpansionProblem(f"{part.name}: {substitute or 'parameter null or not set'}")
    if operator.endswith("="):
        scope.assign(part.name, substitute)
    return substitute


def strip_pattern(value: str, operator: str, pattern: str) -> str:
    """`${value#pattern}` and its three sisters: the shortest or longest match at one end is left out."""
    at_end, longest = operator[0] == "%", len(operator) == 2
    subject = value[::-1] if at_end else value
    found = _end_pattern(pattern, at_end, longest).match(subject)
    kept = subject[found.end() :] if found else subject
    return kept[::-1] if at_end else kept


@lru_cache(maxsize=512)
def _end_pattern(pattern: str, backwards: bool, longest: bool) -> "re.Pattern[str]":
    """The pattern for `match` at the beginning of a text, or of a text turned round: no cut is tried one by one."""
    star = ".*" if longest else ".*?"
    parts = [star if piece == "*" else fnmatch.translate(piece)[4:-3] for piece in _PIECE.findall(pattern)]
    return re.compile("".join(reversed(parts) if backwards else parts), re.DOTALL)


def _split(pieces: list[tuple[str | None, bool]]) -> list[list[Piece]]:
    """Fields: unquoted pieces are split at blanks and newlines, quoted ones never, and an empty quoted one counts."""
    fields: list[list[Piece]] = []
    current: list[Piece] | None = None
    for text, quoted in pieces:
        if text is None:
            fields.append(current or [("", True)])
            current = []
        elif quoted:
            current = [*(current or []), (text, True)]
        else:
            fields, current = _split_unquoted(text, fields, current)
    if current is not None:
        fields.append(current)
    return fields


def _split_unquoted(
    text: str, fields: list[list[Piece]], current: list[Piece] | None
) -> tuple[list[list[Piece]], list[Piece] | None]:
    for index, chunk in enumerate(re.split(r"[ \t\n]+", text)):
        if index and current is not None:
            fields.append(current)
            current = None
        if chunk:
            current = [*(current or []), (chunk, False)]
    return fields, current


def _glob(field: list[Piece], scope: Scope) -> list[str]:
    plain = "".join(text for text, _quoted in field)
    if not any(not quoted and _GLOB.search(text) for text, quoted in field):
        return [plain]
    pattern = "".join(_escape(text) if quoted else text for text, quoted in field)
    return match_paths(pattern, scope.files, scope.cwd) or [plain]


def match_paths(pattern: str, files: FileTree, cwd: str) -> list[str]:
    """The paths of the tree that a pattern fits, sorted; hidden ones only where the pattern says the dot."""
    found = ["/"] if pattern.startswith("/") else [""]
    for part in pattern.strip("/").split("/"):
        step: list[str] = []
        for base in found:
            node = files.find(normalise(base or ".", cwd))
            if not _GLOB.search(part):
                if node is not None and files.find(normalise(base + _unescape(part), cwd)) is not None:
                    step.append(f"{base}{_unescape(part)}/")
                continue
            fits = compile_pattern(part)
            names = sorted((node.children or {}) if node is not None else ())
            step += [f"{base}{name}/" for name in names if fits.fullmatch(name) and (name[0] != "." or part[0] == ".")]
        found = step[:GLOB_MATCHES_MAX]
    return [path.rstrip("/") or "/" for path in found]


def _escape(text: str) -> str:
    return _GLOB.sub(lambda match: f"[{match[0]}]", text)


def _unescape(text: str) -> str:
    return re.sub(r"\[([*?\[])\]", r"\1", text)


@lru_cache(maxsize=512)
def compile_pattern(pattern: str) -> "re.Pattern[str]":
    """A shell pattern as a regular expression for `fullmatch`."""
    return re.compile(fnmatch.translate(pattern))
