"""Reads characters, operators and words of a script; what is inside `$(…)` it leaves to the parser above it."""

from abc import ABC, abstractmethod
from typing import Final

from muster.sim.shell.syntax import Arithmetic, Part, Sequence, ShellSyntaxError, Substitution, Text, Variable, Word

NESTING_MAX: Final = 60
_OPERATORS: Final = (
    "&&",
    "||",
    ";;",
    "<<<",
    ">>",
    ">&",
    "<&",
    "&>",
    "<<",
    ">|",
    ";",
    "&",
    "|",
    "(",
    ")",
    "<",
    ">",
    "\n",
)
BREAK: Final = frozenset(" \t\n;&|()<>")
_SPECIAL_NAMES: Final = frozenset("?$#@*!-0123456789")


class Scanner(ABC):
    """A place in a text. The grammar decides what a `#` or a `}` means where it stands."""

    def __init__(self, text: str, at: int = 0, depth: int = 0) -> None:
        if depth > NESTING_MAX:
            raise ShellSyntaxError("syntax error: nested too deeply")
        self.source, self.at, self.depth = text, at, depth

    @abstractmethod
    def inner(self, text: str, at: int) -> "Scanner":
        """A parser of the same kind, one level deeper."""

    @abstractmethod
    def sequence(self, ends: frozenset[str]) -> Sequence:
        """Commands up to a reserved word in `ends`, a `)`, a `;;` or the end."""

    def expect_end(self) -> None:
        """Raises ShellSyntaxError unless the text is used up."""
        self.skip_lines()
        if self.at < len(self.source):
            raise self.unexpected()

    # ---- characters and operators

    def peek(self) -> str:
        """The character here, "" at the end."""
        return self.source[self.at] if self.at < len(self.source) else ""

    def skip_blanks(self) -> None:
        """Passes blanks, comments and continued lines."""
        while self.at < len(self.source):
            if self.source.startswith("\\\n", self.at):
                self.at += 2
            elif self.source[self.at] in " \t\r":
                self.at += 1
            elif self.source[self.at] == "#":
                end = self.source.find("\n", self.at)
                self.at = len(self.source) if end < 0 else end
            else:
                return

    def skip_lines(self) -> None:
        """Passes newlines too."""
        self.skip_blanks()
        while self.peek() == "\n":
            self.at += 1
            self.skip_blanks()

    def operator(self) -> str:
        """The operator that begins here, "" for none; it is not taken."""
        self.skip_blanks()
        for operator in _OPERATORS:
            if self.source.startswith(operator, self.at):
                return operator
        return ""

    def accept(self, operator: str) -> bool:
        """Takes an operator if it is here."""
        if self.operator() != operator:
            return False
        self.at += len(operator)
        return True

    def unexpected(self) -> ShellSyntaxError:
        """The error for whatever stands here."""
        self.skip_blanks()
        operator = self.operator()
        found = operator.replace("\n", "newline") or self.reserved() or self.peek()
        return ShellSyntaxError(f"syntax error: unexpected '{found}'" if found else "syntax error: unexpected EOF")

    def reserved(self) -> str:
        """The plain word that begins here, without taking it; quoting makes it no reserved word."""
        self.skip_blanks()
        end = self.at
        while end < len(self.source) and self.source[end] not in BREAK:
            if self.source[end] in "\\'\"$`":
                return ""
            end += 1
        return self.source[self.at : end]

    def accept_reserved(self, word: str) -> bool:
        """Takes a reserved word if it is here."""
        if self.reserved() != word:
            return False
        self.at += len(word)
        return True

    def expect_reserved(self, word: str) -> None:
        """Takes a reserved word. Raises ShellSyntaxError when it is not here."""
        self.skip_lines()
        if not self.accept_reserved(word):
            raise self.unexpected()

    # ---- words

    def word(self, stops: frozenset[str] = BREAK) -> Word:
        """The word that begins here; it ends before one of `stops`."""
        parts: list[Part] = []
        plain: list[str] = []

        def flush() -> None:
            if plain:
                parts.append(Text("".join(plain), False))
                plain.clear()

        while (char := self.peek()) and char not in stops:
            if char == "'":
                flush()
                parts.append(Text(self._single_quoted(), True))
            elif char == '"':
                flush()
                parts += self.double_quoted()
            elif char == "\\":
                flush()
                parts.append(Text(self._escaped(), True))
            elif char in "$`" and (part := self._dollar(quoted=False)) is not None:
                flush()
                parts.append(part)
            else:
                plain.append(char)
                self.at += 1
        flush()
        return tuple(parts)

    def _single_quoted(self) -> str:
        end = self.source.find("'", self.at + 1)
        if end < 0:
            raise ShellSyntaxError("no closing quote")
        value = self.source[self.at + 1 : end]
        self.at = end + 1
        return value

    def _escaped(self) -> str:
        value = self.source[self.at + 1 : self.at + 2]
        self.at += 2
        return "" if value == "\n" else value or "\\"

    def double_quoted(self) -> list[Part]:
        """The parts inside the double quotes that begin here."""
        self.at += 1
        parts: list[Part] = []
        plain: list[str] = []
        while (char := self.peek()) != '"':
            if not char:
                raise ShellSyntaxError("no closing quote")
            if char == "\\" and self.source[self.at + 1 : self.at + 2] in tuple('$`"\\\n'):
                plain.append(self._escaped())
            elif char in "$`" and (part := self._dollar(quoted=True)) is not None:
                parts.append(Text("".join(plain), True))
                plain.clear()
                parts.append(part)
            else:
                plain.append(char)
                self.at += 1
        self.at += 1
        parts.append(Text("".join(plain), True))
        return parts

    def _dollar(self, *, quoted: bool) -> Part | None:  # noqa: PLR0911 - one answer per case
        """What `$` or a backtick begins; None: it is an ordinary character."""
        if self.peek() == "`":
            return self._backticks(quoted=quoted)
        rest = self.source[self.at + 1 : self.at + 3]
        if rest == "((" and (part := self._arithmetic()) is not None:
            return part
        if rest.startswith("("):
            return self._substitution(quoted=quoted)
        if rest.startswith("{"):
            return self._braced(quoted=quoted)
        if rest[:1] and rest[0] in _SPECIAL_NAMES:
            self.at += 2
            return Variable(rest[0], quoted)
        name = self._name_at(self.at + 1)
        if not name:
            return None
        self.at += 1 + len(name)
        return Variable(name, quoted)

    def _name_at(self, start: int) -> str:
        end = start
        while end < len(self.source) and (
            self.source[end] == "_" or (self.source[end].isascii() and self.source[end].isalnum())
        ):
            end += 1
        name = self.source[start:end]
        return name if is_name(name) else ""

    def _substitution(self, *, quoted: bool) -> Substitution:
        inner = self.inner(self.source, self.at + 2)
        body = inner.sequence(frozenset())
        if not inner.accept(")"):
            raise ShellSyntaxError("no closing quote")
        self.at = inner.at
        return Substitution(body, quoted)

    def _backticks(self, *, quoted: bool) -> Substitution:
        end = self.at + 1
        while end < len(self.source) and self.source[end] != "`":
            end += 2 if self.source[end] == "\\" else 1
        if end >= len(self.source):
            raise ShellSyntaxError("no closing quote")
        script = self.source[self.at + 1 : end]
        for char in "`$\\":
            script = script.replace("\\" + char, char)
        inner = self.inner(script, 0)
        body = inner.sequence(frozenset())
        inner.expect_end()
        self.at = end + 1
        return Substitution(body, quoted)

    def _arithmetic(self) -> Arithmetic | None:
        depth, end = 2, self.at + 3
        while end < len(self.source) and depth:
            depth += {"(": 1, ")": -1}.get(self.source[end], 0)
            end += 1
        if depth or self.source[end - 2 : end] != "))":
            return None
        expression = self._quoted_word(self.source[self.at + 3 : end - 2])
        self.at = end
        return Arithmetic(expression)

    def _quoted_word(self, text: str) -> Word:
        """`text` expanded as inside double quotes."""
        inner = self.inner('"' + text.replace('"', '\\"') + '"', 0)
        return tuple(inner.double_quoted())

    def _braced(self, *, quoted: bool) -> Variable:
        end = self._closing_brace(self.at + 2)
        inside = self.source[self.at + 2 : end]
        self.at = end + 1
        if inside.startswith("#") and (is_name(inside[1:]) or (inside[1:] in _SPECIAL_NAMES and inside[1:])):
            return Variable(inside[1:], quoted, "#len")
        name = _leading_name(inside)
        rest = inside[len(name) :]
        for operator in (":-", ":=", ":+", ":?", "-", "=", "+", "?", "##", "#", "%%", "%"):
            if name and rest.startswith(operator):
                operand = rest[len(operator) :]
                literal = quoted and operator[0] not in "#%"
                word = self._quoted_word(operand) if literal else self.inner(operand, 0).word(frozenset())
                return Variable(name, quoted, operator, word)
        if not name or rest:
            raise ShellSyntaxError(f"${{{inside}}}: bad substitution")
        return Variable(name, quoted)

    def _closing_brace(self, start: int) -> int:
        depth, end = 1, start
        while end < len(self.source):
            if self.source[end] == "\\":
                end += 1
            elif self.source.startswith("${", end):
                depth += 1
            elif self.source[end] == "}":
                depth -= 1
                if not depth:
                    return end
            end += 1
        raise ShellSyntaxError("no closing quote")


def _leading_name(text: str) -> str:
    if text[:1] and text[0] in _SPECIAL_NAMES:
        return text[0]
    end = 0
    while end < len(text) and (text[end] == "_" or (text[end].isascii() and text[end].isalnum())):
        end += 1
    return text[:end] if is_name(text[:end]) else ""


def is_name(text: str) -> bool:
    """Whether `text` may name a variable."""
    return text.isascii() and text.isidentifier()
