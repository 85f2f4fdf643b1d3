"""What a shell script consists of, as data."""

from dataclasses import dataclass


class ShellSyntaxError(Exception):
    """A script that the shell refuses to begin; the words are mksh's."""


@dataclass(frozen=True, slots=True)
class Text:
    """Characters as they stand. `quoted` ones are neither split nor globbed."""

    value: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Variable:
    """`$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME%pattern}`, …; `operator` is what stands behind the name."""

    name: str
    quoted: bool
    operator: str = ""
    operand: "Word | None" = None


@dataclass(frozen=True, slots=True)
class Substitution:
    """`$(…)` and backticks."""

    body: "Sequence"
    quoted: bool


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`$((…))`; the expression is expanded first."""

    expression: "Word"


Part = Text | Variable | Substitution | Arithmetic
Word = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Redirect:
    """`fd op target`: op is one of `<`, `>`, `>>`, `>&`, `<<<` (target is the text of a here-document)."""

    fd: int
    operator: str
    target: Word


@dataclass(frozen=True, slots=True)
class Simple:
    """`NAME=value … command argument … redirections`."""

    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """`{ …; }`, or `( … )` when `subshell`."""

    body: "Sequence"
    subshell: bool
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class If:
    """`if c; then b; elif c; then b; else b; fi`."""

    branches: tuple[tuple["Sequence", "Sequence"], ...]
    otherwise: "Sequence | None"
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """`while c; do b; done`, or `until`."""

    condition: "Sequence"
    body: "Sequence"
    until: bool
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class For:
    """`for NAME in words; do b; done`; no words: over the positional parameters."""

    name: str
    words: tuple[Word, ...] | None
    body: "Sequence"
    redirects: tuple[Redirect, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """`case word in pattern|pattern) b;; esac`."""

    subject: Word
    branches: tuple[tuple[tuple[Word, ...], "Sequence"], ...]
    redirects: tuple[Redirect, ...]


Command = Simple | Group | If | Loop | For | Case


@dataclass(frozen=True, slots=True)
class Pipeline:
    """`! a | b | c`."""

    negated: bool
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class AndOr:
    """`first && second || third`, left to right; `background` when it ends in `&`."""

    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...]
    background: bool = False


@dataclass(frozen=True, slots=True)
class Sequence:
    """Commands one after the other."""

    items: tuple[AndOr, ...]
