"""All commands of a phone: what the shell does itself (`BUILTINS`) and the programs under /system/bin (`TOOLS`)."""

from collections.abc import Mapping
from typing import Final

from muster.sim.shell.call import Command
from muster.sim.shell.commands import activity, builtins, display, dump, files, package, settings, system, text

BUILTINS: Final[Mapping[str, Command]] = builtins.COMMANDS
TOOLS: Final[Mapping[str, Command]] = {
    **builtins.ALSO_PROGRAMS,
    **text.COMMANDS,
    **files.COMMANDS,
    **system.COMMANDS,
    **settings.COMMANDS,
    **display.COMMANDS,
    **activity.COMMANDS,
    **package.COMMANDS,
    **dump.COMMANDS,
}
