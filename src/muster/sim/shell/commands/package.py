"""`pm`, and `cmd`, which leads to the same services."""

import hashlib
import re
import struct
import zipfile
from io import BytesIO
from typing import Final

from muster.sim.files import FileError
from muster.sim.packages import Package
from muster.sim.shell.call import Call, Command
from muster.sim.shell.commands import activity, display, settings

APK_BYTES_MAX: Final = 512 * 1024**2
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")
_VALUED: Final = frozenset(
    {"--user", "-i", "-S", "--abi", "--install-location", "--originating-uri", "--referrer", "-p"}
)


async def pm(call: Call) -> int:
    """`pm list packages`, `path`, `install`, `uninstall`, `clear`, `grant`, `revoke`, `enable`, `disable-user`."""
    verb, rest = (call.args[0], call.args[1:]) if call.args else ("", [])
    action = _VERBS.get(verb)
    if action is None:
        return call.error(
            f"Unknown command: {verb}" if verb else "Package manager (package) commands:", 255 if verb else 1
        )
    call.args = rest
    return await action(call)


def _operands(args: list[str]) -> tuple[dict[str, str], list[str]]:
    options: dict[str, str] = {}
    operands: list[str] = []
    rest = list(args)
    while rest:
        argument = rest.pop(0)
        if argument in _VALUED and rest:
            options[argument] = rest.pop(0)
        elif argument.startswith("-"):
            options[argument] = ""
        else:
            operands.append(argument)
    return options, operands


async def _list(call: Call) -> int:
    options, operands = _operands(call.args)
    if not operands or operands[0] not in ("packages", "package"):
        known = operands[:1] and operands[0] in ("features", "libraries", "users", "permissions", "instrumentation")
        if known:
            call.line("Users:\n\tUserInfo{0:Owner:c13} running" if operands[0] == "users" else "")
            return 0
        return call.error(
            "Error: didn't specify type of data to list"
            if not operands
            else f"Error: unknown list type '{operands[0]}'",
            255,
        )
    wanted = operands[1] if len(operands) > 1 else ""
    for package in call.phone.packages.all():
        if (
            ("-3" in options and not package.third_party)
            or ("-s" in options and package.third_party)
            or wanted not in package.name
        ):
            continue
        if ("-d" in options and package.enabled) or ("-e" in options and not package.enabled):
            continue
        path = f"{package.path}=" if "-f" in options else ""
        version = f" versionCode:{package.version_code}" if "--show-versioncode" in options else ""
        installer = f"  installer={package.installer}" if "-i" in options else ""
        call.line(f"package:{path}{package.name}{version}{installer}")
    return 0


async def _path(call: Call) -> int:
    _options, operands = _operands(call.args)
    package = call.phone.packages.get(operands[0]) if operands else None
    if package is None:
        return 1
    call.line(f"package:{package.path}")
    return 0


async def _install(call: Call) -> int:  # noqa: PLR0911 - one answer per case
    options, operands = _operands(call.args)
    try:
        if "-S" in options and (not operands or operands[0] == "-"):
            data = await _streamed(call, options["-S"])
        elif operands:
            data = call.phone.files.read(call.path(operands[0]))
        else:
            return call.error("Error: no package specified")
    except FileError:
        return call.error(f"Error: Unable to open file: {operands[0]}\nError: Can't open file: {operands[0]}", 255)
    if data is None:
        return _failure(call, "INSTALL_FAILED_INVALID_APK", "the APK ended early")
    if len(data) > call.phone.files.free_bytes:
        return _failure(call, "INSTALL_FAILED_INSUFFICIENT_STORAGE", "Failed to override installation location")
    name = apk_package(data)
    if name is None:
        return _failure(call, "INSTALL_PARSE_FAILED_NOT_APK", "Failed to parse base.apk")
    if (
        call.phone.packages.get(name) is not None
        and "-r" not in options
        and "-t" not in options
        and not call.args.count("-S")
    ):
        return _failure(
            call, "INSTALL_FAILED_ALREADY_EXISTS", f"Attempt to re-install {name} without first uninstalling."
        )
    await _add(call, name, options)
    call.line("Success")
    return 0


async def _streamed(call: Call, size: str) -> bytes | None:
    """An APK of `size` bytes from the input, as `adb install` streams it; None when it ends early."""
    wanted = int(size) if size.isdigit() else APK_BYTES_MAX + 1
    if wanted > APK_BYTES_MAX:
        return None
    chunks: list[bytes] = []
    while wanted > 0 and (data := await call.streams.stdin.read()):
        chunks.append(data)
        wanted -= len(data)
    return b"".join(chunks) if wanted <= 0 else None


def _failure(call: Call, code: str, message: str) -> int:
    call.line(f"Failure [{code}: {message}]")
    return 1


async def _add(call: Call, name: str, options: dict[str, str]) -> None:
    package = Package(name, True, installer=options.get("-i", "null"), first_install_sec=call.phone.now_sec())
    call.phone.packages.add(package)
    await call.phone.display.act(lambda screen: screen.install(name))
    call.phone.note("PackageManager", f"Package {name} installed")


def apk_package(data: bytes) -> str | None:
    """The package of an APK: of its binary manifest, else of a text manifest as test APKs have it; None: no APK."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            if archive.getinfo("AndroidManifest.xml").file_size > 4 * 1024**2:
                return None
            manifest = archive.read("AndroidManifest.xml")
    except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, OSError, struct.error, ValueError):
        return None
    if found := re.search(rb'package="([\w.]+)"', manifest):
        return found[1].decode()
    names = [text.replace(b"\0", b"").decode() for text in re.findall(rb"(?:[A-Za-z0-9_.]\0){3,200}", manifest)]
    names = [name for name in names if _NAME.fullmatch(name) and not name.startswith(("android.", "java."))]
    return names[0] if names else f"app.x{hashlib.sha256(manifest).hexdigest()[:12]}"


async def _uninstall(call: Call) -> int:
    _options, operands = _operands(call.args)
    package = call.phone.packages.get(operands[0]) if operands else None
    if package is None:
        return (
            _failure(call, "DELETE_FAILED_INTERNAL_ERROR", "not installed")
            if operands
            else call.error("Error: package name not specified")
        )
    if not package.third_party:
        return _failure(call, "DELETE_FAILED_INTERNAL_ERROR", "a system package")
    call.phone.packages.remove(package.name)
    await call.phone.display.act(lambda screen: screen.uninstall(package.name))
    call.line("Success")
    return 0


async def _clear(call: Call) -> int:
    _options, operands = _operands(call.args)
    package = call.phone.packages.get(operands[0]) if operands else None
    if package is None:
        call.line("Failed")
        return 1
    await call.phone.display.act(lambda screen: screen.clear_data(operands[0]))
    package.granted.clear()
    call.line("Success")
    return 0


async def _grant(call: Call) -> int:
    _options, operands = _operands(call.args)
    if len(operands) < 2:
        return call.error("Error: no permission specified", 255)
    package = call.phone.packages.get(operands[0])
    if package is None:
        return call.error(_exception("grant", f"Unknown package: {operands[0]}"), 255)
    if not operands[1].startswith(("android.permission.", "com.")):
        return call.error(_exception("grant", f"Unknown permission: {operands[1]}"), 255)
    package.granted.add(operands[1])
    return 0


def _exception(verb: str, message: str) -> str:
    return f"\nException occurred while executing '{verb}':\njava.lang.IllegalArgumentException: {message}"


async def _revoke(call: Call) -> int:
    _options, operands = _operands(call.args)
    package = call.phone.packages.get(operands[0]) if operands else None
    if package is None or len(operands) < 2:
        return call.error(_exception("revoke", "Unknown package"), 255)
    package.granted.discard(operands[1])
    return 0


async def _enable(call: Call) -> int:
    return _set_enabled(call, enabled=True)


async def _disable(call: Call) -> int:
    return _set_enabled(call, enabled=False)


def _set_enabled(call: Call, *, enabled: bool) -> int:
    _options, operands = _operands(call.args)
    package = call.phone.packages.get(operands[0].split("/")[0]) if operands else None
    if package is None:
        return call.error(_exception(call.name, f"Unknown package: {operands[0] if operands else ''}"), 255)
    package.enabled = enabled
    call.line(f"Package {package.name} new state: {'enabled' if enabled else 'disabled-user'}")
    return 0


async def _resolve(call: Call) -> int:
    _options, operands = _operands([arg for arg in call.args if arg != "--brief"])
    known = call.phone.display.screen.packages()
    name = operands[-1] if operands else ""
    if name not in known:
        call.line("No activity found")
        return 0
    call.line("priority=0 preferredOrder=0 match=0x108000 specificIndex=-1 isDefault=true")
    call.line(known[name])
    return 0


_VERBS: Final[dict[str, Command]] = {
    "clear": _clear,
    "disable": _disable,
    "disable-user": _disable,
    "enable": _enable,
    "grant": _grant,
    "install": _install,
    "list": _list,
    "path": _path,
    "resolve-activity": _resolve,
    "revoke": _revoke,
    "uninstall": _uninstall,
}
_SERVICES: Final[dict[str, Command]] = {
    "activity": activity.am,
    "input": display.send_input,
    "input_method": settings.ime,
    "lock_settings": settings.locksettings,
    "package": pm,
    "settings": settings.settings,
    "window": display.wm,
}


async def cmd(call: Call) -> int:
    """`cmd SERVICE …`: the same services under their own names; -l lists them."""
    match call.args:
        case ["-l"]:
            call.line("Currently running services:")
            for name in _SERVICES:
                call.line(f"  {name}")
            return 0
        case ["statusbar" | "notification" | "wifi" | "power" | "uimode" | "appops" | "deviceidle" | "locale", *_]:
            return 0
        case [name, *rest] if name in _SERVICES:
            call.args = rest
            return await _SERVICES[name](call)
        case [name, *_]:
            return call.error(f"cmd: Can't find service: {name}", 20)
    return call.error(
        "cmd: No service specified; use -l to list all running services. -w to wait for service to become available.",
        20,
    )


COMMANDS: Final[dict[str, Command]] = {"cmd": cmd, "pm": pm}
