"""`settings`, `locksettings`, `svc`, `ime`: switches of the system."""

from typing import Final

from muster.sim.settingstore import NAMESPACES
from muster.sim.shell.call import Call, Command

_NEEDED: Final = {"get": 2, "put": 3, "delete": 2, "list": 1, "reset": 2}
_SVC: Final = {
    "wifi": ("global", "wifi_on"),
    "data": ("global", "mobile_data"),
    "bluetooth": ("global", "bluetooth_on"),
}
_STAY_ON: Final = {"true": "7", "false": "0", "usb": "2", "ac": "1", "wireless": "4"}
_USAGE: Final = (
    "Settings provider (settings) commands:\n  get|put|delete|list|reset [--user USER] NAMESPACE [KEY] [VALUE]"
)


async def settings(call: Call) -> int:
    """`settings get|put|delete|list NAMESPACE KEY VALUE`."""
    args = _without_user(call.args)
    verb = args.pop(0) if args else ""
    if verb not in _NEEDED:
        return call.error(f"Unknown command: {verb}" if verb else _USAGE, 255)
    if len(args) < _NEEDED[verb]:
        return call.error("Bad arguments", 255)
    namespace = args[0].lower()
    if namespace not in NAMESPACES:
        return call.error(f"Invalid namespace '{args[0]}'", 255)
    store = call.phone.settings
    match verb:
        case "get":
            value = store.get(namespace, args[1])
            call.line("null" if value is None else value)
        case "put":
            if not store.put(namespace, args[1], args[2]):
                return call.error("java.lang.IllegalStateException: too many settings", 255)
            call.phone.setting_changed(namespace, args[1], args[2])
        case "delete":
            call.line(f"Deleted {int(store.delete(namespace, args[1]))} rows")
        case "list":
            for key, value in store.items(namespace):
                call.line(f"{key}={value}")
    return 0


def _without_user(args: list[str]) -> list[str]:
    rest = list(args)
    while "--user" in rest[:3]:
        at = rest.index("--user")
        del rest[at : at + 2]
    return rest


async def locksettings(call: Call) -> int:
    """`locksettings get-disabled`, `set-disabled true|false`; a virtual phone has no code."""
    match call.args:
        case ["get-disabled", *_]:
            call.line("true" if call.phone.settings.get("secure", "lockscreen.disabled") == "1" else "false")
        case ["set-disabled", value, *_]:
            call.phone.settings.put("secure", "lockscreen.disabled", "1" if value == "true" else "0")
            call.line(f"Lock screen disabled set to {value}")
        case ["clear" | "verify", *_]:
            call.line(
                "Lock credential verified successfully" if call.args[0] == "verify" else "Lock credential cleared"
            )
        case [verb, *_]:
            return call.error(f"Unknown command: {verb}", 255)
        case _:
            return call.error("lockSettings service commands:", 255)
    return 0


async def svc(call: Call) -> int:
    """`svc power stayon VALUE`, `svc wifi|data|bluetooth enable|disable`, `svc power reboot`."""
    match call.args:
        case ["power", "stayon", value] if value in _STAY_ON:
            call.phone.settings.put("global", "stay_on_while_plugged_in", _STAY_ON[value])
            return 0
        case ["power", "reboot", *_]:
            call.phone.start_background(call.phone.reboot())
            return 0
        case ["power", "shutdown"]:
            call.phone.go_down()
            return 0
        case [("wifi" | "data" | "bluetooth") as service, ("enable" | "disable") as verb]:
            namespace, key = _SVC[service]
            call.phone.settings.put(namespace, key, "1" if verb == "enable" else "0")
            return 0
    call.error(
        "Available commands:\n    help     Show information about the subcommands\n"
        "    power    Control the power manager"
    )
    return 0  # svc ends with 0 whatever it was told


async def ime(call: Call) -> int:
    """`ime list [-s]`, `ime set ID`, `ime enable ID`, `ime reset`."""
    store = call.phone.settings
    enabled = (store.get("secure", "enabled_input_methods") or "").split(":")
    match call.args:
        case ["list", *_]:
            for name in filter(None, enabled):
                call.line(name if "-s" in call.args else f"{name}:\n  mId={name}")
        case ["set", name]:
            if name not in enabled:
                return call.error(f"Error: Unknown input method {name} cannot be selected for user #0", 255)
            store.put("secure", "default_input_method", name)
            call.line(f"Input method {name} selected for user #0")
        case ["enable", name]:
            if call.phone.packages.get(name.split("/")[0]) is None:
                return call.error(f"Error: Unknown input method {name} cannot be enabled for user #0", 255)
            if name not in enabled:
                store.put("secure", "enabled_input_methods", ":".join([*filter(None, enabled), name]))
            call.line(f"Input method {name}: now enabled for user #0")
        case _:
            return call.error("ime <command>:", 255)
    return 0


COMMANDS: Final[dict[str, Command]] = {"ime": ime, "locksettings": locksettings, "settings": settings, "svc": svc}
