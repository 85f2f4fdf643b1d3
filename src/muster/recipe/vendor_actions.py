"""Which actions of the vendor tool a recipe may ask for (spec/05): a closed list, each on the task's own phone alone.

Left out is what takes a path of the *PC*: with it, whoever writes recipes could read and write any file there.
"""

import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

COMMAND_PARAM: Final = "command"
_PLAIN: Final = (
    "list", "pointerEvent", "pushEvent", "startApk", "stopApk", "uninstallApk", "apkList", "writeClipBoard",
    "inputText", "imeList", "selectIme", "installInputIme", "getTags", "addTag", "updateTag", "removeTag",
    "addTagDevice", "removeTagDevice", "updateDevices", "autojsTasks", "autojsRemove", "actionTasks", "actionRemove",
)  # fmt: skip
_RAW: Final = ("adb", "adb_shell")
_INSTEAD: Final = MappingProxyType(
    {
        "screen": "use a screenshot step",
        "installapk": "use an install step",
        "uploadfile": "use a push step",
        "pullfile": "use a pull step",
        "autojscreate": "it takes a path of the node's PC, which a recipe may not name",
        "actioncreate": "its data is a list, which a step's params are not",
    }
)


@dataclass(frozen=True, slots=True)
class VendorAction:
    """`name` as the vendor's manual spells it. `is_raw`: a command line, only where the node allows raw shell."""

    name: str
    is_raw: bool


_BY_NAME: Final = MappingProxyType({name.lower(): VendorAction(name, name in _RAW) for name in (*_PLAIN, *_RAW)})


def find_action(name: str) -> VendorAction | None:
    """The action, however its letters are cased; None when a recipe may not ask for it."""
    return _BY_NAME.get(name.lower())


def why_not(name: str) -> str:
    """What to say of a name that `find_action` does not know."""
    if name.lower() in _INSTEAD:
        return f"{name} is no action for a vendor step; {_INSTEAD[name.lower()]}"
    close = difflib.get_close_matches(name.lower(), _BY_NAME, n=1, cutoff=0.6)
    hint = f"did you mean {_BY_NAME[close[0]].name}?" if close else f"the actions are {', '.join((*_PLAIN, *_RAW))}"
    return f"{name!r} is no action of the vendor tool; {hint}"
