"""Reads a script into `syntax`. Raises ShellSyntaxError before anything has run, as mksh does for `sh -c`."""

from functools import lru_cache
from typing import Final

from muster.sim.shell.scanner import BREAK, NESTING_MAX, Scanner, is_name
from muster.sim.shell.syntax import (
    AndOr,
    Case,
    Command,
    For,
    Group,
    If,
    Loop,
    Pipeline,
    Redirect,
    Sequence,
    ShellSyntaxError,
    Simple,
    Text,
    Word,
)

SCRIPT_CHARS_MAX: Final = 65_535
_REDIRECTS: Final = frozenset({">", ">>", "<", ">&", "<&", "&>", ">|", "<<<"})
_RESERVED_ENDS: Final = frozenset({"then", "else", "elif", "fi", "do", "done", "esac", "}"})


@lru_cache(maxsize=1024)
def parse(script: str) -> Sequence:
    """The whole script. The same scripts come again and again, from every phone; the result is immutable."""
    if len(script) > SCRIPT_CHARS_MAX:
        raise ShellSyntaxError("argument list too long")
    parser = _Parser(script)
    sequence = parser.sequence(frozenset())
    parser.expect_end()
    return sequence


class _Parser(Scanner):
    """Recursive descent over the commands."""

    def inner(self, text: str, at: int) -> "_Parser":
        """A parser of a part of this one's text."""
        return _Parser(text, at, self.depth + 1)

    # ---- lists

    def sequence(self, ends: frozenset[str]) -> Sequence:
        """Commands up to one of the reserved words in `ends`, a `)`, a `;;` or the end."""
        self.depth += 1
        if self.depth > NESTING_MAX:
            raise ShellSyntaxError("syntax error: nested too deeply")
        items: list[AndOr] = []
        while True:
            self.skip_lines()
            if not self.peek() or self.operator() in (")", ";;") or self.reserved() in ends:
                break
            items.append(self._and_or())
            if self.operator() not in (";", "&", "\n"):
                break
            background = self.operator() == "&"
            self.at += 1
            if background:
                items[-1] = AndOr(items[-1].first, items[-1].rest, background=True)
        self.depth -= 1
        return Sequence(tuple(items))

    def _body(self, *ends: str) -> Sequence:
        sequence = self.sequence(frozenset(ends))
        if not sequence.items:
            raise self.unexpected()
        return sequence

    def _and_or(self) -> AndOr:
        first = self._pipeline()
        rest: list[tuple[str, Pipeline]] = []
        while (operator := self.operator()) in ("&&", "||"):
            self.at += 2
            self.skip_lines()
            rest.append((operator, self._pipeline()))
        return AndOr(first, tuple(rest))

    def _pipeline(self) -> Pipeline:
        negated = False
        while self.accept_reserved("!"):
            negated = not negated
        commands = [self._command()]
        while self.operator() == "|":
            self.at += 1
            self.skip_lines()
            commands.append(self._command())
        return Pipeline(negated, tuple(commands))

    # ---- commands

    def _command(self) -> Command:  # noqa: PLR0911 - one answer per case
        if self.accept("("):
            body = self._body()
            if not self.accept(")"):
                raise self.unexpected()
            return Group(body, True, self._redirects())
        match self.reserved():
            case "{":
                self.at += 1
                body = self._body("}")
                self.expect_reserved("}")
                return Group(body, False, self._redirects())
            case "if":
                return self._if()
            case "while" | "until" as word:
                self.at += 5
                condition, body = self._body("do"), self._do_group()
                return Loop(condition, body, word == "until", self._redirects())
            case "for":
                return self._for()
            case "case":
                return self._case()
            case word if word in _RESERVED_ENDS:
                raise self.unexpected()
        return self._simple()

    def _do_group(self) -> Sequence:
        self.expect_reserved("do")
        body = self._body("done")
        self.expect_reserved("done")
        return body

    def _if(self) -> If:
        branches: list[tuple[Sequence, Sequence]] = []
        otherwise: Sequence | None = None
        self.expect_reserved("if")
        while True:
            condition = self._body("then")
            self.expect_reserved("then")
            branches.append((condition, self._body("elif", "else", "fi")))
            if not self.accept_reserved("elif"):
                break
        if self.accept_reserved("else"):
            otherwise = self._body("fi")
        self.expect_reserved("fi")
        return If(tuple(branches), otherwise, self._redirects())

    def _for(self) -> For:
        self.expect_reserved("for")
        name = self.reserved()
        if not is_name(name):
            raise self.unexpected()
        self.at += len(name)
        self.skip_lines()
        words: tuple[Word, ...] | None = None
        if self.accept_reserved("in"):
            found: list[Word] = []
            while not self.operator() and self.peek():
                found.append(self.word())
            words = tuple(found)
        if not (self.accept(";") or self.operator() == "\n" or self.reserved() == "do"):
            raise self.unexpected()
        return For(name, words, self._do_group(), self._redirects())

    def _case(self) -> Case:
        self.expect_reserved("case")
        self.skip_blanks()
        subject = self.word()
        self.expect_reserved("in")
        branches: list[tuple[tuple[Word, ...], Sequence]] = []
        self.skip_lines()
        while self.reserved() != "esac":
            self.accept("(")
            self.skip_blanks()
            patterns = [self.word()]
            while self.accept("|"):
                self.skip_blanks()
                patterns.append(self.word())
            if not self.accept(")"):
                raise self.unexpected()
            branches.append((tuple(patterns), self.sequence(frozenset({"esac"}))))
            if not self.accept(";;"):
                break
            self.skip_lines()
        self.expect_reserved("esac")
        return Case(subject, tuple(branches), self._redirects())

    def _simple(self) -> Simple:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            if redirect := self._redirect():
                redirects += redirect
                continue
            if self.operator() or not self.peek():
                break
            assignment = None if words else self._assignment()
            if assignment is not None:
                assignments.append(assignment)
            else:
                words.append(self.word())
        if not (assignments or words or redirects):
            raise self.unexpected()
        return Simple(tuple(assignments), tuple(words), tuple(redirects))

    def _assignment(self) -> tuple[str, Word] | None:
        end = self.at
        while end < len(self.source) and (
            self.source[end] == "_" or (self.source[end].isascii() and self.source[end].isalnum())
        ):
            end += 1
        name = self.source[self.at : end]
        if not is_name(name) or not self.source.startswith("=", end):
            return None
        self.at = end + 1
        at_break = not self.peek() or self.peek() in BREAK
        return name, () if at_break else self.word()

    def _redirects(self) -> tuple[Redirect, ...]:
        found: list[Redirect] = []
        while redirect := self._redirect():
            found += redirect
        return tuple(found)

    def _redirect(self) -> list[Redirect]:
        self.skip_blanks()
        start = self.at
        digit = self.peek()
        fd = -1
        if digit.isdigit() and self.at + 1 < len(self.source) and self.source[self.at + 1] in "<>":
            fd = int(digit)
            self.at += 1
        operator = self.operator()
        if operator == "<<":
            raise ShellSyntaxError("syntax error: here-documents are not known to this shell")
        if operator not in _REDIRECTS:
            self.at = start
            return []
        self.at += len(operator)
        self.skip_blanks()
        if not self.peek() or self.operator():
            raise self.unexpected()
        target = self.word()
        if operator == "&>":
            return [Redirect(1, ">", target), Redirect(2, ">&", (Text("1", False),))]
        default = 0 if operator.startswith("<") else 1
        plain = {">|": ">", "<&": ">&"}.get(operator, operator)
        return [Redirect(default if fd < 0 else fd, plain, target)]
