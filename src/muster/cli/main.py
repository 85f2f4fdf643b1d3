"""The `muster` command. A command's own module is imported when that command is called, so that each starts quickly."""

import importlib
import io
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from muster.cli.failing import COULD_NOT, DONE, CommandFailed
from muster.cli.output import say
from muster.runtime.masking import hide_passwords
from muster.runtime.settings import SettingsError

# Command → where its Typer application is, and its line in `muster --help`.
COMMANDS: Final = {
    "demo": ("muster.cli.demo:app", "All of Muster without a phone: virtual rack, backend, agent, console, one run."),
    "up": ("muster.cli.up:app", "Backend, console and agent for the phones of this PC."),
    "run": ("muster.cli.run:app", "Runs: start one, list them, look at one, watch it, stop it."),
    "devices": ("muster.cli.device:app", "Lists the phones that the backend knows."),
    "device": (
        "muster.cli.device:device_app",
        "One phone: look at it, reboot, reconnect, quarantine, reserve, release it.",
    ),
    "nodes": ("muster.cli.node:app", "Lists the nodes (PCs) that have reported to the backend."),
    "workflow": ("muster.cli.workflow:app", "Recipes: list, read, check, and add versions."),
    "doctor": ("muster.cli.doctor:app", "Checks adb, phones, backend, clocks, disk and more, and says what to do."),
    "settings": ("muster.cli.setting:app", "Shows every setting in force and where it comes from."),
    "backend": ("muster.cli.serve:backend_app", "Runs the backend: API and console."),
    "agent": ("muster.cli.serve:agent_app", "Runs the node agent of this PC."),
    "sim": ("muster.cli.rack:app", "Runs a virtual rack of phones, or changes a running one."),
}


class MusterGroup(TyperGroup):
    """Lists commands from `COMMANDS`, loads the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (_, summary) in COMMANDS.items():
            self.add_command(TyperCommand(name=name, help=summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The called command itself in place of its line in the list."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else command, rest


def load_command(name: str) -> Any:
    """The click command of one of `COMMANDS`, its log lines kept off stdout, which is its answer's alone."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    application = getattr(importlib.import_module(module), attribute)
    # Most commands have no part that logs, and start without what logging takes. Those that serve set it anew.
    if logs := sys.modules.get("muster.runtime.logs"):
        logs.configure_logs(level="warning")
    return typer.main.get_command(application)


app = typer.Typer(
    cls=MusterGroup,
    name="muster",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _muster() -> None:
    """Calls a rack of Android phones to order: one recipe, hundreds of phones, one honest answer for each.

    Try it without a phone: muster demo
    """


def main(arguments: Sequence[str]) -> int:
    """Runs one command; the exit status is 0 done, 1 done but not all succeeded, 2 could not be done."""
    try:
        status = app(args=list(arguments), prog_name="muster", standalone_mode=False)
    except typer.Abort:
        return COULD_NOT
    except CommandFailed as error:
        return _fail(str(error), error.exit_status)
    except SettingsError as error:
        return _fail(str(error), COULD_NOT)
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}; give a place where this user may write", COULD_NOT)
    except typer.TyperException as error:
        # Empty: the help has been printed instead.
        message = error.format_message().replace("Value error, ", "")
        path = getattr(getattr(error, "ctx", None), "command_path", "muster")
        return _fail(f"{message.rstrip('.')}; try `{path} --help`", COULD_NOT) if message else COULD_NOT
    return status if isinstance(status, int) else DONE


def run() -> None:
    """Entry of the console script and of `python -m muster`."""
    for stream in (sys.stdout, sys.stderr):
        # A pipe on Windows has the code page of another century; a character must never end a command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=stream.encoding if stream.isatty() else "utf-8", errors="replace")
    try:
        sys.exit(main(sys.argv[1:]))
    except Exception:  # noqa: BLE001 - the last resort of the process: told in full, and the exit status is ours
        sys.stderr.write(hide_passwords(traceback.format_exc()))
        say("muster: this is a fault in Muster itself; please report the lines above")
        sys.exit(COULD_NOT)


def _fail(message: str, status: int) -> int:
    first, *rest = message.splitlines() or [""]
    say(f"muster: {first}")
    for line in rest:
        say(line)
    return status
