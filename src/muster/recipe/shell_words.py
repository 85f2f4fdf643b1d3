"""Commands that read an argument as program text: there a value must not stand, however well it is quoted.

This catches the slips of honest authors (`su -c 'input text {{KEY}}'`), not the tricks of dishonest ones: who may
write recipes may run commands.
"""

import re
from dataclasses import dataclass
from typing import Final

from muster.recipe.template import TemplateError

# Builtins that read their arguments as program text or as arithmetic (`a[$(reboot)]` runs in mksh's arithmetic).
# fmt: off
_EVALUATORS: Final = frozenset((
    "eval", "let", "trap", "alias", "source", ".", "typeset", "declare", "integer", "local", "readonly", "export",
    "unset", "read", "exit", "return", "shift", "set", "getopts", "global",
))
_SHELLS: Final = frozenset(("sh", "su", "bash", "dash", "ash", "mksh", "ksh", "zsh", "awk"))
# Words after which the name of a command still follows.
_PREFIXES: Final = frozenset((
    "command", "builtin", "exec", "time", "nohup", "env", "timeout", "nice", "busybox", "toybox", "xargs", "!", "{",
    "then", "do", "else", "elif", "if", "while", "until",
))
# fmt: on
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_SUBSCRIPT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\[")
_OPTION_OR_NUMBER = re.compile(r"-|[0-9.]+[smhd]?$")
_NUMERIC_TEST = re.compile(r"\s-(?:eq|ne|lt|le|gt|ge)\s")


@dataclass(slots=True)
class Simple:
    """One simple command of a line: its bare text, what ended it, and the next one. Quoted blanks are `_` in it."""

    text: str = ""
    ended_by: str = ""
    followed_by: "Simple | None" = None


def refuse_reinterpretation(name: str, command: Simple, offset: int, *, is_quoted: bool) -> None:
    """Raises TemplateError if the placeholder `name` at `offset` of `command` would be read as program text."""
    before = command.text[:offset]
    words = _command_words(before)
    program = _base(words[0]) if words else ""
    adjacent = "" if before[-1:].isspace() else (before.split() or [""])[-1]
    _refuse_command_name(name, words, adjacent)
    if program in _EVALUATORS or _SUBSCRIPT.match(adjacent):
        raise TemplateError(f"{name}: `{program or adjacent}` would read its value as program text")
    if program in ("[", "[[", "test") and _NUMERIC_TEST.search(command.text + " "):
        raise TemplateError(f"{name}: a numeric test would read its value as arithmetic")
    if _is_inner_script(words, is_quoted=is_quoted) or _is_piped_to_shell(command):
        raise TemplateError(
            f"{name} stands in the text of an inner shell; hand its value over as an argument:"
            """ sh -c 'input text "$1"' sh {{KEY}}"""
        )


def _refuse_command_name(name: str, words: list[str], adjacent: str) -> None:
    is_value_of_assignment = not words and _ASSIGNMENT.match(adjacent)
    is_redirection = adjacent.lstrip("0123456789").startswith((">", "<"))
    if is_value_of_assignment or is_redirection:
        return
    if not words or (len(words) == 1 and adjacent):
        raise TemplateError(f"{name} stands where a command's name stands: its value would choose what runs")


def _command_words(text: str) -> list[str]:
    """The words from the command's name on: without assignments, and without words like `timeout 5`."""
    words = text.split()
    at = 0
    may_take_options = False
    while at < len(words):
        word = words[at]
        if word in _PREFIXES:
            may_take_options = True
        elif not (_ASSIGNMENT.match(word) or (may_take_options and _OPTION_OR_NUMBER.match(word))):
            break
        at += 1
    return words[at:]


def _is_inner_script(words: list[str], *, is_quoted: bool) -> bool:
    shell = next((index for index, word in enumerate(words) if _base(word) in _SHELLS), None)
    if shell is None:
        return False
    inside = words[shell + 1 :]
    if _base(words[shell]) == "su":
        # `su -c` joins all that follows into one script; `su 0 PROGRAM` has its program's name second.
        return is_quoted or "-c" in inside or len(inside) < 2
    return is_quoted or not inside or inside[-1].startswith("-")


def _is_piped_to_shell(command: Simple) -> bool:
    following: Simple | None = command
    while following is not None and following.ended_by == "|":
        following = following.followed_by
        words = _command_words(following.text) if following else []
        if words and _base(words[0]) in _SHELLS - {"awk"}:
            return True
    return False


def _base(word: str) -> str:
    return word.rsplit("/", 1)[-1]
