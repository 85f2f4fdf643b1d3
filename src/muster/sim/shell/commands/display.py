"""What touches the display: wm, input, screencap, uiautomator."""

import re
from operator import methodcaller
from typing import Final

from muster.sim.files import FileError
from muster.sim.shell.call import Call, Command, to_bytes
from muster.sim.shell.interpreter import ShellProblem, open_device
from muster.sim.shell.keycodes import key_code

DUMP_PATH: Final = "/sdcard/window_dump.xml"
_SOURCES: Final = frozenset({"touchscreen", "keyboard", "mouse", "touchpad", "stylus", "gamepad", "dpad", "trackball"})
_INPUT_USAGE: Final = (
    "Usage: input [<source>] [-d DISPLAY_ID] <command> [<arg>...]\n"
    "The commands and default sources are:\n"
    "      text <string> (Default: keyboard)\n"
    "      keyevent [--longpress|--doubletap] <key code number or name> ... (Default: keyboard)\n"
    "      tap <x> <y> (Default: touchscreen)\n"
    "      swipe <x1> <y1> <x2> <y2> [duration(ms)] (Default: touchscreen)"
)
_SWIPE_MS_DEFAULT: Final = 300
_SWIPE_MS_MAX: Final = 60_000


async def wm(call: Call) -> int:
    """`wm size [WxH|reset]`, `wm density [N|reset]`, `wm dismiss-keyguard`, `wm user-rotation`."""
    match call.args:
        case ["size"]:
            call.line("Physical size: {}x{}".format(*call.phone.display.physical))
            if call.phone.display.override:
                call.line("Override size: {}x{}".format(*call.phone.display.override))
        case ["density"]:
            call.line(f"Physical density: {call.phone.display.physical_density}")
            if call.phone.display.override_density:
                call.line(f"Override density: {call.phone.display.override_density}")
        case ["size", value]:
            return await _set_size(call, value)
        case ["density", value]:
            return await _set_density(call, value)
        case ["dismiss-keyguard"]:
            await call.phone.display.act(lambda screen: screen.unlock())
        case [
            "user-rotation" | "set-user-rotation" | "fixed-to-user-rotation" | "overscan" | "set-fix-to-user-rotation",
            *_,
        ]:
            return 0
        case [verb, *_]:
            return call.error(f"Unknown command: {verb}", 255)
        case _:
            return call.error("Window manager (window) commands:", 255)
    return 0


async def _set_size(call: Call, value: str) -> int:
    display = call.phone.display
    if value == "reset":
        await display.set_size(None, display.override_density)
        return 0
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", value)
    if found is None:
        return call.error(f"Error: bad size {value}", 255)
    wanted = (int(found[1]), int(found[2]))
    await display.set_size(None if wanted == display.physical else wanted, display.override_density)
    return 0


async def _set_density(call: Call, value: str) -> int:
    display = call.phone.display
    if value == "reset":
        await display.set_size(display.override, None)
        return 0
    if not re.fullmatch(r"\d{1,5}", value):
        return call.error(f"Error: bad number {value}", 255)
    if int(value) < 72:
        return call.error("Error: density must be >= 72", 255)
    await display.set_size(display.override, None if int(value) == display.physical_density else int(value))
    return 0


async def send_input(call: Call) -> int:  # noqa: PLR0911 - one answer per case
    """`input [source] tap|swipe|text|keyevent …`."""
    args = list(call.args)
    if args and args[0] in _SOURCES:
        args.pop(0)
    if args[:1] == ["-d"]:
        del args[:2]
    verb = args.pop(0) if args else ""
    match verb:
        case "tap":
            return await _touch(call, args, 2)
        case "swipe" | "draganddrop":
            return await _swipe(call, args)
        case "text":
            if len(args) != 1:
                return _bad_input(call, verb)
            await call.phone.display.act(lambda screen: screen.text(decode_input(args[0])))
            return 0
        case "keyevent":
            return await _keys(call, [arg for arg in args if not arg.startswith("--")])
        case "":
            return call.error(_INPUT_USAGE, 255)
    return call.error(f"Error: Unknown command: {verb}\n{_INPUT_USAGE}", 255)


def decode_input(text: str) -> str:
    """`%s` is a space to `input text`; everything else is typed as it stands."""
    return text.replace("%s", " ")


def _bad_input(call: Call, verb: str) -> int:
    return call.error(f"Error: Invalid arguments for command: {verb}\n{_INPUT_USAGE}", 255)


async def _touch(call: Call, args: list[str], count: int) -> int:
    points = _numbers(args, count)
    if points is None:
        return _bad_input(call, "tap")
    await call.phone.display.act(lambda screen: screen.tap(round(points[0]), round(points[1])))
    return 0


async def _swipe(call: Call, args: list[str]) -> int:
    points = _numbers(args[:4], 4)
    duration_ms = int(args[4]) if len(args) == 5 and args[4].isdigit() and len(args[4]) < 8 else _SWIPE_MS_DEFAULT
    if points is None or len(args) > 5:
        return _bad_input(call, "swipe")
    x1, y1, x2, y2 = (round(point) for point in points)
    if call.phone.pace.delay_sec("input", call.phone.rng) > 0:
        await call.wait(min(duration_ms, _SWIPE_MS_MAX) / 1000)
    await call.phone.display.act(lambda screen: screen.swipe(x1, y1, x2, y2))
    return 0


def _numbers(args: list[str], count: int) -> list[float] | None:
    if len(args) != count or not all(re.fullmatch(r"-?\d{1,6}(\.\d{1,6})?", arg) for arg in args):
        return None
    return [float(arg) for arg in args]


async def _keys(call: Call, names: list[str]) -> int:
    if not names:
        return _bad_input(call, "keyevent")
    codes = [key_code(name) for name in names]
    for name, code in zip(names, codes, strict=True):
        if code is None:
            return call.error(f"Error: Unknown keycode: {name}", 255)
        await call.phone.display.act(methodcaller("key", code))
    return 0


async def screencap(call: Call) -> int:
    """`screencap [-p] [FILE]`: a PNG; without -p and without a file ending in .png, raw pixels are not drawn here."""
    paths = [arg for arg in call.args if not arg.startswith("-")]
    flags = [arg for arg in call.args if arg.startswith("-")]
    if any(flag not in ("-p", "-d", "-a") for flag in flags):
        return call.error("usage: screencap [-ahp] [-d display-id] [FILENAME]")
    if not paths or paths[0] == "-":
        if "-p" not in flags:
            return call.error("screencap: raw pixels are not drawn by a virtual phone, use -p")
        call.streams.stdout.write(await call.phone.display.picture())
        return 0
    picture = await call.phone.display.picture()
    try:
        call.phone.files.write(call.path(paths[-1]), picture, mtime=call.phone.now_sec())
    except FileError as problem:
        return call.error(f"Error opening file: {paths[-1]} ({problem})")
    return 0


async def uiautomator(call: Call) -> int:
    """`uiautomator dump [--compressed] [FILE]`; /dev/tty is written only where there is a terminal (`exec:`)."""
    if call.args[:1] != ["dump"]:
        return call.error("Usage: uiautomator <subcommand> [options]\n\nAvailable subcommands:\n\nhelp\ndump")
    paths = [arg for arg in call.args[1:] if not arg.startswith("-")]
    path = paths[0] if paths else DUMP_PATH
    if not call.phone.display.screen.is_awake:
        call.line("ERROR: null root node returned by UiTestAutomationBridge.")
        return 0  # uiautomator ends with 0 here too; only the words tell
    xml = to_bytes(await call.phone.display.dump())
    try:
        device = open_device(call.path(path), call.streams)
        if device is not None:
            device.write(xml)
        else:
            call.phone.files.write(call.path(path), xml, mtime=call.phone.now_sec())
    except (FileError, ShellProblem):
        # The tool logs the exception, says that it has dumped, and ends with 0. Whoever reads the file finds out.
        call.phone.note("AccessibilityNodeInfoDumper", "failed to dump window to file")
    call.line(f"UI hierchary dumped to: {path}")
    return 0


COMMANDS: Final[dict[str, Command]] = {
    "input": send_input,
    "screencap": screencap,
    "uiautomator": uiautomator,
    "wm": wm,
}
