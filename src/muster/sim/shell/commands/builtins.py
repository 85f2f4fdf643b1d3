"""What mksh does itself, without starting a program."""

import re
from typing import Final

from muster.sim.files import FileError
from muster.sim.shell.arithmetic import wrap32
from muster.sim.shell.call import Call, Command, to_text
from muster.sim.shell.interpreter import ExitShell, LeaveLoop
from muster.sim.shell.scanner import is_name

_ECHO_ESCAPES: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "e": "\x1b",
}
_FORMAT: Final = re.compile(r"%([-+ 0#]*)(\d*)(?:\.(\d+))?([%a-zA-Z])|\\(.)|([^%\\]+)|(.)", re.DOTALL)
_WIDTH_MAX: Final = 10_000


async def echo(call: Call) -> int:
    """Mksh's echo: -n, -e, -E; escapes are interpreted unless -E."""
    args, newline, escapes = call.args, True, True
    while args and re.fullmatch(r"-[neE]+", args[0]):
        newline = newline and "n" not in args[0]
        escapes = "E" not in args[0]
        args = args[1:]
    line = " ".join(args)
    if escapes and "\\" in line:
        line, stop = unescape(line)
        newline = newline and not stop
    call.text(line + ("\n" if newline else ""))
    return 0


def unescape(text: str) -> tuple[str, bool]:
    r"""Backslash escapes of echo and printf's %b; True when `\c` ended the output."""
    out: list[str] = []
    parts = re.split(r"\\(0[0-7]{0,3}|x[0-9a-fA-F]{1,2}|.)", text, flags=re.DOTALL)
    for index, part in enumerate(parts):
        if index % 2 == 0:
            out.append(part)
        elif part == "c":
            return "".join(out), True
        elif part[0] == "0":
            out.append(chr(int(part, 8) & 0xFF))
        elif part[0] == "x" and len(part) > 1:
            out.append(chr(int(part[1:], 16)))
        else:
            out.append(_ECHO_ESCAPES.get(part, "\\" + part))
    return "".join(out), False


async def printf(call: Call) -> int:
    """`printf FORMAT ARGUMENT…`: the format is used again while arguments are left."""
    if not call.args:
        return call.error("usage: printf FORMAT [ARGUMENT...]")
    form, arguments = call.args[0], call.args[1:]
    status = 0
    while True:
        used, failed = _print_once(call, form, arguments)
        status = status or failed
        arguments = arguments[used:]
        if not arguments or not used:
            return status


def _print_once(call: Call, form: str, arguments: list[str]) -> tuple[int, int]:
    used = status = 0
    for found in _FORMAT.finditer(form):
        flags, width, precision, kind, escape, plain, other = found.groups()
        if escape is not None:
            call.text(unescape("\\" + escape)[0])
        elif kind == "%":
            call.text("%")
        elif kind is not None:
            argument = arguments[used] if used < len(arguments) else None
            used += 1
            shown, failed = _convert(kind, flags, width, precision, argument)
            status = status or failed
            if failed:
                call.error(f"printf: {argument}: not completely converted")
            call.text(shown)
        else:
            call.text(plain or other)
    return used, status


def _convert(kind: str, flags: str, width: str, precision: str | None, argument: str | None) -> tuple[str, int]:
    spec = f"%{flags}{min(int(width or 0), _WIDTH_MAX) or ''}" + (f".{precision}" if precision is not None else "")
    text = argument or ""
    if kind in ("s", "q"):
        return (spec + "s") % text, 0
    if kind == "b":
        return (spec + "s") % unescape(text)[0], 0
    if kind == "c":
        return (spec + "s") % text[:1], 0
    try:
        number = int(text or "0", 0) if kind in "diuoxX" else float(text or "0")
    except ValueError:
        number, failed = 0, 1
    else:
        failed = 0
    return (spec + {"i": "d", "u": "d"}.get(kind, kind if kind in "doxXeEfgG" else "d")) % number, failed


async def true(_call: Call) -> int:
    """Status 0."""
    return 0


async def false(_call: Call) -> int:
    """Status 1."""
    return 1


async def cd(call: Call) -> int:
    """Changes the folder; without an argument to $HOME."""
    target = call.args[0] if call.args else call.shell.get("HOME") or "/"
    if target == "-":
        target = call.shell.get("OLDPWD") or "/"
    path = call.path(target)
    node = call.phone.files.find(path)
    if node is None or not node.is_dir:
        reason = "No such file or directory" if node is None else "Not a directory"
        return call.error(f"/system/bin/sh: cd: {target}: {reason}", 2)
    call.shell.assign("OLDPWD", call.shell.cwd)
    call.shell.cwd = path
    return 0


async def pwd(call: Call) -> int:
    """The current folder."""
    call.line(call.shell.cwd)
    return 0


async def exit_shell(call: Call) -> int:
    """Ends the shell with a status, by default the last command's."""
    value = call.args[0] if call.args else str(call.shell.status)
    raise ExitShell(int(value) & 0xFF if re.fullmatch(r"-?\d{1,9}", value) else 1)


async def leave_loop(call: Call) -> int:
    """`break` and `continue`."""
    raise LeaveLoop(again=call.name == "continue")


async def export(call: Call) -> int:
    """Sets variables; every variable of this shell is handed on to its children anyway."""
    for argument in call.args:
        name, equals, value = argument.partition("=")
        if not is_name(name):
            return call.error(f"/system/bin/sh: {call.name}: {argument}: is not an identifier")
        if equals:
            call.shell.assign(name, value)
    return 0


async def unset(call: Call) -> int:
    """Removes variables."""
    for name in call.args:
        call.shell.variables.pop(name, None)
    return 0


async def set_options(call: Call) -> int:
    """`set -e`, `set +e`, `set -- arguments`, or the list of variables; other options change nothing here."""
    if not call.args:
        for name, value in sorted(call.shell.variables.items()):
            call.line(f"{name}={quote(value)}")
        return 0
    rest = list(call.args)
    while rest and rest[0][:1] in ("-", "+") and rest[0] != "--":
        option = rest.pop(0)
        if "e" in option[1:]:
            call.shell.errexit = option[0] == "-"
    if rest:
        call.shell.positional = rest[1:] if rest[0] == "--" else rest
    return 0


def quote(value: str) -> str:
    """A value as the shell writes it when it has to be quoted."""
    return value if re.fullmatch(r"[\w@%+=:,./-]*", value, re.ASCII) else "'" + value.replace("'", "'\\''") + "'"


async def shift(call: Call) -> int:
    """Drops positional parameters."""
    count = int(call.args[0]) if call.args and call.args[0].isdigit() else 1
    if count > len(call.shell.positional):
        return call.error("/system/bin/sh: shift: nothing to shift")
    call.shell.positional = call.shell.positional[count:]
    return 0


async def evaluate(call: Call) -> int:
    """`eval`: the arguments as a script, in this shell."""
    return await call.shell.run_nested(" ".join(call.args), call.streams)


async def read(call: Call) -> int:
    """`read [-r] NAME…`: a line of the input, split at blanks, the rest into the last name."""
    names = [argument for argument in call.args if not argument.startswith("-")] or ["REPLY"]
    line = to_text(await call.streams.stdin.line())
    values = line.rstrip("\n").split(None, len(names) - 1)
    for index, name in enumerate(names):
        call.shell.assign(name, values[index].strip() if index < len(values) else "")
    return 0 if line.endswith("\n") else 1


async def type_of(call: Call) -> int:
    """`type` and `command -v`: what a name is; status 1 when it is nothing."""
    wanted = [argument for argument in call.args if not argument.startswith("-")]
    if call.name == "command" and not any(argument in ("-v", "-V") for argument in call.args):
        return await call.shell.call(wanted, call.streams) if wanted else 0
    status = 0
    for name in wanted:
        if name in call.shell.builtins:
            call.line(name if call.name == "command" else f"{name} is a shell builtin")
        elif name in call.shell.commands:
            call.line(
                f"/system/bin/{name}" if call.name == "command" else f"{name} is a tracked alias for /system/bin/{name}"
            )
        else:
            status = 1 if call.name == "command" else call.error(f"/system/bin/sh: type: {name}: not found")
    return status


class _BadTest(Exception):
    """An expression that `[` cannot judge; status 2."""


async def test(call: Call) -> int:
    """`[ … ]` and `test …`."""
    args = list(call.args)
    if call.name == "[" and (not args or args.pop() != "]"):
        return call.error("/system/bin/sh: [: missing ]", 2)
    try:
        judge = _Test(call, args)
        result = judge.either() if args else False
        if judge.args:
            raise _BadTest(f"{judge.args[0]}: unexpected operator/operand")
    except _BadTest as problem:
        return call.error(f"/system/bin/sh: {call.name}: {problem}", 2)
    return 0 if result else 1


class _Test:
    """Reads the expression left to right; with three arguments a binary operator comes first, as POSIX says."""

    def __init__(self, call: Call, args: list[str]) -> None:
        self._call = call
        self.args = args

    def either(self) -> bool:
        result = self._both()
        while self.args[:1] == ["-o"]:
            self.args.pop(0)
            result = self._both() or result
        return result

    def _both(self) -> bool:
        result = self._one()
        while self.args[:1] == ["-a"]:
            self.args.pop(0)
            result = self._one() and result
        return result

    def _one(self) -> bool:
        if not self.args:
            raise _BadTest("unexpected end of expression")
        if len(self.args) >= 3 and self.args[1] in _BINARY:
            left, operator, right, *self.args = self.args
            return _binary(operator, left, right)
        first = self.args.pop(0)
        if first == "!" and self.args:
            return not self._one()
        if first == "(" and ")" in self.args:
            result = self.either()
            if self.args[:1] != [")"]:
                raise _BadTest("missing )")
            self.args.pop(0)
            return result
        if re.fullmatch(r"-[bcdefghkLnoprstuwxzS]", first) and self.args and self.args[0] not in ("-a", "-o"):
            return self._unary(first, self.args.pop(0))
        return first != ""

    def _unary(self, operator: str, value: str) -> bool:  # noqa: PLR0911 - one answer per operator
        if operator in ("-n", "-z"):
            return (value == "") == (operator == "-z")
        if operator == "-t":
            return self._call.streams.terminal is not None
        try:
            node = self._call.phone.files.get(self._call.path(value))
        except FileError:
            return False
        match operator:
            case "-d":
                return node.is_dir
            case "-f":
                return not node.is_dir
            case "-s":
                return node.size > 0
            case "-x":
                return node.is_dir or bool(node.mode & 0o111)
            case "-e" | "-r" | "-w" | "-o":
                return True
        return False


_BINARY: Final = frozenset({"=", "==", "!=", "<", ">", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"})


def _binary(operator: str, left: str, right: str) -> bool:
    match operator:
        case "=" | "==":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case ">":
            return left > right
    first, second = _number(left), _number(right)
    return {
        "-eq": first == second,
        "-ne": first != second,
        "-lt": first < second,
        "-le": first <= second,
        "-gt": first > second,
        "-ge": first >= second,
    }[operator]


def _number(text: str) -> int:
    """mksh compares 32-bit numbers, in `[` as well."""
    if not re.fullmatch(r"\s*[-+]?\d+\s*", text):
        raise _BadTest(f"{text}: bad number" if text else "'': bad number")
    return wrap32(int(text))


COMMANDS: Final[dict[str, Command]] = {
    ":": true,
    "[": test,
    "break": leave_loop,
    "cd": cd,
    "command": type_of,
    "continue": leave_loop,
    "echo": echo,
    "eval": evaluate,
    "exit": exit_shell,
    "export": export,
    "false": false,
    "local": export,
    "printf": printf,
    "pwd": pwd,
    "read": read,
    "return": exit_shell,
    "set": set_options,
    "shift": shift,
    "test": test,
    "true": true,
    "type": type_of,
    "typeset": export,
    "unset": unset,
}
ALSO_PROGRAMS: Final[dict[str, Command]] = {
    "[": test,
    "echo": echo,
    "false": false,
    "printf": printf,
    "pwd": pwd,
    "test": test,
    "true": true,
}
"""toybox has these as programs too: `/system/bin/echo`, `timeout 5 true`."""
