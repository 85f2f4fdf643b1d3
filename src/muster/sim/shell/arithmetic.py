"""`$((…))` as mksh computes it: 32-bit signed integers that wrap. An epoch in ms does not fit, there as here."""

import re
from collections.abc import Callable
from typing import Final

EXPRESSION_CHARS_MAX: Final = 4_096
_TOKEN: Final = re.compile(r"\s*(0[xX][0-9a-fA-F]+|\d+|[A-Za-z_]\w*|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%<>()!~&^|?:])")
_LEVELS: Final = (
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<=", ">=", "<", ">"), ("<<", ">>"), ("+", "-"),
    ("*", "/", "%"),
)  # fmt: skip
_NESTING_MAX: Final = 100


class ArithmeticProblem(Exception):
    """An expression without a value; the words are the shell's."""


def wrap32(number: int) -> int:
    """The number as a 32-bit signed one."""
    return (number + 2**31) % 2**32 - 2**31


def evaluate(expression: str, lookup: Callable[[str], str]) -> int:
    """The value of an expression; names are looked up, unset ones count 0. Raises ArithmeticProblem."""
    if len(expression) > EXPRESSION_CHARS_MAX:
        raise ArithmeticProblem("expression is too long")
    reader = _Reader(_tokens(expression), lookup)
    if not reader.tokens:
        return 0
    value = reader.ternary()
    if reader.tokens:
        raise ArithmeticProblem(f"{expression}: unexpected '{reader.tokens[0]}'")
    return value


def _tokens(expression: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    text = expression.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ArithmeticProblem(f"{expression}: unexpected '{text[at:].strip()[:1]}'")
        tokens.append(found[1])
        at = found.end()
    return tokens


class _Reader:
    def __init__(self, tokens: list[str], lookup: Callable[[str], str]) -> None:
        self.tokens = tokens
        self._lookup = lookup
        self._depth = 0

    def _accept(self, *operators: str) -> str:
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in operators else ""

    def ternary(self) -> int:
        condition = self._level(0)
        if not self._accept("?"):
            return condition
        first = self.ternary()
        if not self._accept(":"):
            raise ArithmeticProblem("missing ':'")
        second = self.ternary()
        return first if condition else second

    def _level(self, level: int) -> int:
        if level == len(_LEVELS):
            return self._unary()
        value = self._level(level + 1)
        while operator := self._accept(*_LEVELS[level]):
            value = wrap32(_apply(operator, value, self._level(level + 1)))
        return value

    def _unary(self) -> int:
        self._depth += 1
        if self._depth > _NESTING_MAX:
            raise ArithmeticProblem("expression is nested too deeply")
        try:
            match self._accept("-", "+", "!", "~"):
                case "-":
                    return wrap32(-self._unary())
                case "+":
                    return self._unary()
                case "!":
                    return int(not self._unary())
                case "~":
                    return wrap32(~self._unary())
            return self._atom()
        finally:
            self._depth -= 1

    def _atom(self) -> int:
        if self._accept("("):
            value = self.ternary()
            if not self._accept(")"):
                raise ArithmeticProblem("missing ')'")
            return value
        token = self.tokens.pop(0) if self.tokens else ""
        if token[:1].isdigit():
            return wrap32(int(token, 16 if token[:2] in ("0x", "0X") else 10))
        if token.isidentifier():
            return self._variable(token)
        raise ArithmeticProblem(f"unexpected '{token}'" if token else "unexpected end of expression")

    def _variable(self, name: str) -> int:
        text = self._lookup(name).strip() or "0"
        try:
            return wrap32(int(text, 10))
        except ValueError as error:
            raise ArithmeticProblem(f"{text}: bad number") from error


def _apply(operator: str, left: int, right: int) -> int:
    if operator in ("/", "%"):
        if right == 0:
            raise ArithmeticProblem("divide by zero")
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)  # towards zero, as C does
        return quotient if operator == "/" else left - quotient * right
    return _OPERATIONS[operator](left, right)


_OPERATIONS: Final[dict[str, Callable[[int, int], int]]] = {
    "||": lambda a, b: int(bool(a or b)),
    "&&": lambda a, b: int(bool(a and b)),
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "&": lambda a, b: a & b,
    "==": lambda a, b: int(a == b),
    "!=": lambda a, b: int(a != b),
    "<=": lambda a, b: int(a <= b),
    ">=": lambda a, b: int(a >= b),
    "<": lambda a, b: int(a < b),
    ">": lambda a, b: int(a > b),
    "<<": lambda a, b: a << (b & 31),
    ">>": lambda a, b: a >> (b & 31),
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}
