"""`am` and `monkey`: starting and stopping apps."""

from dataclasses import dataclass
from operator import methodcaller
from typing import Final

from muster.sim.shell.call import Call, Command

_MONKEY_ABORTED_STATUS: Final = 252
EVENTS_MAX: Final = 1_000_000


@dataclass(slots=True)
class Intent:
    """What `am start` was told."""

    action: str | None = None
    data: str | None = None
    component: str | None = None
    package: str | None = None
    categories: tuple[str, ...] = ()
    wait: bool = False
    stop_first: bool = False

    def shown(self) -> str:
        """As `Intent.toString` writes it."""
        parts = [f"act={self.action}"] if self.action else []
        parts += [f"cat=[{','.join(self.categories)}]"] if self.categories else []
        parts += [f"dat={self.data}"] if self.data else []
        parts += ["flg=0x10000000"]
        parts += [f"pkg={self.package}"] if self.package else []
        parts += [f"cmp={self.component}"] if self.component else []
        return "Intent { " + " ".join(parts) + " }"


_VALUED: Final = {"-a": "action", "-d": "data", "-n": "component", "-p": "package"}
_TWO_VALUES: Final = frozenset({"--es", "--ei", "--ez", "--el", "--ef", "--eu", "--ecn", "-e", "--esa", "--eia"})
_ONE_VALUE: Final = frozenset(
    {"-t", "-f", "--user", "--display", "--windowingMode", "-R", "--esn", "-i", "--activity-brought-to-front"}
)


class _BadOption(Exception):
    """An option that am does not know."""


def parse_intent(args: list[str]) -> Intent:
    """Reads `am start`'s arguments. Raises _BadOption."""
    intent = Intent()
    rest = list(args)
    while rest:
        option = rest.pop(0)
        if option in _VALUED and rest:
            setattr(intent, _VALUED[option], rest.pop(0))
        elif option == "-c" and rest:
            intent.categories = (*intent.categories, rest.pop(0))
        elif option == "-W":
            intent.wait = True
        elif option == "-S":
            intent.stop_first = True
        elif option in _TWO_VALUES:
            del rest[:2]
        elif option in _ONE_VALUE:
            del rest[:1]
        elif option.startswith("--") or (option.startswith("-") and len(option) == 2 and option not in ("-D", "-N")):
            if not option.startswith(("--activity", "--grant", "--receiver", "--include", "--exclude")):
                raise _BadOption(option)
        else:
            _positional(intent, option)
    return intent


def _positional(intent: Intent, value: str) -> None:
    """A bare word is a URI, a component or a package."""
    if ":" in value:
        intent.data = value
    elif "/" in value:
        intent.component = value
    else:
        intent.package = value


async def am(call: Call) -> int:
    """`am start`, `force-stop`, `kill`, `broadcast`, `startservice`, `switch-user`."""
    try:
        return await _do(call)
    except _BadOption as option:
        return call.error(f"Error: Unknown option: {option}", 255)


async def _do(call: Call) -> int:  # noqa: PLR0911 - one answer per case
    match call.args:
        case ["start" | "start-activity", *rest]:
            return await _start(call, rest)
        case ["force-stop" | "kill" | "stop-app", *rest] if names := _packages(rest):
            for name in names:
                await call.phone.display.act(methodcaller("force_stop", name))
            return 0
        case ["broadcast", *rest]:
            return _broadcast(call, rest)
        case ["startservice" | "start-service" | "start-foreground-service", *rest]:
            call.line(f"Starting service: {parse_intent(rest).shown()}")
            return 0
        case ["get-current-user"]:
            call.line("0")
            return 0
        case ["kill-all" | "wait-for-broadcast-idle" | "idle-maintenance", *_]:
            return 0
        case [verb, *_]:
            return call.error(f"Unknown command: {verb}", 255)
    return call.error("Activity manager (activity) commands:", 255)


def _packages(args: list[str]) -> list[str]:
    rest = list(args)
    while "--user" in rest:
        at = rest.index("--user")
        del rest[at : at + 2]
    return [arg for arg in rest if not arg.startswith("-")]


async def _start(call: Call, args: list[str]) -> int:
    intent = parse_intent(args)
    package = intent.package or (intent.component.split("/")[0] if intent.component else None)
    if intent.stop_first and package:
        await call.phone.display.act(lambda screen: screen.force_stop(package))
    call.line(f"Starting: {intent.shown()}")
    started = await _start_on_screen(call, intent)
    if not started:
        return _not_started(call, intent)
    call.phone.note("ActivityTaskManager", f"START u0 {intent.shown()} from uid 2000")
    if intent.wait:
        call.line("Status: ok")
        call.line("LaunchState: COLD")
        call.line(f"Activity: {call.phone.display.screen.current_focus()}")
        call.line("TotalTime: 412\nWaitTime: 431\nComplete")
    return 0


async def _start_on_screen(call: Call, intent: Intent) -> bool:
    results: list[bool] = []
    await call.phone.display.act(
        lambda screen: results.append(screen.start(intent.action, intent.package, intent.component, intent.data))
    )
    return results[0]


def _not_started(call: Call, intent: Intent) -> int:
    """`am start` tells it on stderr (with -W on stdout) and ends with 0 all the same."""
    say = call.line if intent.wait else call.error
    if intent.component:
        package, _, name = intent.component.partition("/")
        full = package + name if name.startswith(".") else name
        say("Error type 3")
        say(f"Error: Activity class {{{package}/{full}}} does not exist.")
    else:
        say(f"Error: Activity not started, unable to resolve {intent.shown()}")
    return 0


def _broadcast(call: Call, args: list[str]) -> int:
    intent = parse_intent(args)
    if intent.action == "android.intent.action.MASTER_CLEAR":
        return call.error("java.lang.SecurityException: Permission Denial", 255)
    call.line(f"Broadcasting: {intent.shown()}")
    call.line("Broadcast completed: result=0")
    return 0


async def monkey(call: Call) -> int:
    """`monkey -p PACKAGE [-c CATEGORY] N`: with one event, the way scripts start an app. More events touch nothing."""
    packages: list[str] = []
    rest = list(call.args)
    count = ""
    while rest:
        option = rest.pop(0)
        if option == "-p" and rest:
            packages.append(rest.pop(0))
        elif option in ("-c", "-s", "--throttle", "-f", "--port") and rest:
            rest.pop(0)
        elif option.startswith("--pct-"):
            del rest[:1]
        elif not option.startswith("-"):
            count = option
    if not count.isdigit() or int(count) > EVENTS_MAX:
        return call.error("** Error: Count not specified" if not count else f"** Error: {count} is no count", 255)
    call.line(f"  bash arg: -p\n  bash arg: {packages[0]}" if packages else "")
    for package in packages:
        if await _start_on_screen(call, Intent(package=package)):
            call.phone.note("ActivityTaskManager", f"START u0 {{pkg={package}}} from uid 2000")
            call.line(f"Events injected: {count}")
            call.line("## Network stats: elapsed time=32ms (0ms mobile, 0ms wifi, 32ms not connected)")
            return 0
    call.line("** No activities found to run, monkey aborted.")
    return _MONKEY_ABORTED_STATUS


COMMANDS: Final[dict[str, Command]] = {"am": am, "monkey": monkey}
