"""`dumpsys`: the parts of it that scripts read."""

from typing import Final

from muster.sim.shell.call import Call, Command

_POWER_LINES: Final = "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  Settings power_manager_constants:"
_BOOLEAN_FIELDS: Final = {"ac": "ac_powered", "usb": "usb_powered"}
_NUMBER_FIELDS: Final = {"level": "level", "temp": "temperature_tenths", "temperature": "temperature_tenths"}


async def dumpsys(call: Call) -> int:
    """`dumpsys SERVICE …`, `dumpsys -l`; an unknown service is told and ends with 0, as on a phone."""
    args = [arg for arg in call.args if not arg.startswith("-t")]
    if args[:1] == ["-l"]:
        call.line("Currently running services:")
        for name in sorted(_SERVICES):
            call.line(f"  {name}")
        return 0
    if not args:
        for name in sorted(_SERVICES):
            call.line("-" * 79 + f"\nDUMP OF SERVICE {name}:")
            call.args = []
            await _SERVICES[name](call)
        return 0
    service = _SERVICES.get(args[0])
    if service is None:
        return call.error(f"Can't find service: {args[0]}", 0)
    call.args = args[1:]
    return await service(call)


async def _battery(call: Call) -> int:
    battery = call.phone.battery
    match call.args:
        case ["set", *rest]:
            return _set_battery(call, [arg for arg in rest if arg != "-f"])
        case ["unplug", *_]:
            battery.usb_powered = battery.ac_powered = False
            battery.frozen = True
        case ["reset", *_]:
            call.phone.reset_battery()
        case _:
            call.text(battery.report())
    return 0


def _set_battery(call: Call, args: list[str]) -> int:
    battery = call.phone.battery
    if len(args) != 2 or not args[1].lstrip("-").isdigit() or len(args[1]) > 6:
        return call.error("Bad value: " + " ".join(args))
    key, value = args[0], int(args[1])
    if key in _BOOLEAN_FIELDS:
        setattr(battery, _BOOLEAN_FIELDS[key], value != 0)
    elif key in _NUMBER_FIELDS:
        setattr(battery, _NUMBER_FIELDS[key], value)
    elif key not in ("status", "present", "wireless", "invalid"):
        return call.error(f"Unknown set option: {key}")
    battery.frozen = True
    return 0


async def _window(call: Call) -> int:
    screen, display = call.phone.display.screen, call.phone.display
    focus = screen.current_focus()
    width, height = display.size
    physical = "{}x{}".format(*display.physical)
    call.line("WINDOW MANAGER LAST ANR (dumpsys window lastanr)\n  <no ANR has occurred since boot>\n")
    call.line("WINDOW MANAGER DISPLAY CONTENTS (dumpsys window displays)\n  Display: mDisplayId=0")
    call.line(
        f"    init={physical} {display.physical_density}dpi cur={width}x{height} app={width}x{height}"
        f" {display.density}dpi"
    )
    call.line(f"  mCurrentFocus=Window{{{_token(focus)} u0 {_full(focus)}}}")
    call.line(f"  mFocusedApp=ActivityRecord{{{_token(focus + '#')} u0 {focus} t12}}")
    call.line(f"  mAwake={str(screen.is_awake).lower()}")
    locked = str(call.phone.keyguard_shown()).lower()
    call.line(
        f"    KeyguardServiceDelegate\n      showing={locked}\n      isKeyguardShowing={locked}\n"
        f"    mDreamingLockscreen={locked}"
    )
    return 0


def _token(text: str) -> str:
    return f"{sum(ord(char) * (at + 7) for at, char in enumerate(text)) & 0xFFFFFFF:x}"


def _full(focus: str) -> str:
    """`package/package.Activity`, as a window's title is written; names without a slash stay."""
    package, slash, name = focus.partition("/")
    return f"{package}/{package}{name}" if slash and name.startswith(".") else focus


async def _power(call: Call) -> int:
    awake = call.phone.display.screen.is_awake
    call.line(_POWER_LINES)
    call.line(f"  mWakefulness={'Awake' if awake else 'Asleep'}\n  mWakefulnessChanging=false")
    call.line(f"  mIsPowered={str(call.phone.battery.powered).lower()}")
    call.line(
        f"  mStayOn={str(call.phone.settings.get('global', 'stay_on_while_plugged_in') not in (None, '0')).lower()}"
    )
    call.line(
        f"  mBatteryLevel={call.phone.battery.level}\n"
        f"  mScreenOffTimeoutSetting={call.phone.settings.get('system', 'screen_off_timeout')}"
    )
    call.line(f"Display Power: state={'ON' if awake else 'OFF'}")
    return 0


async def _display(call: Call) -> int:
    display = call.phone.display
    width, height = display.size
    state = "ON" if display.screen.is_awake else "OFF"
    call.line("DISPLAY MANAGER (dumpsys display)")
    call.line(
        f"  mGlobalDisplayState={state}\n  mStableDisplaySize=Point({display.physical[0]}, {display.physical[1]})"
    )
    call.line(
        f'    mBaseDisplayInfo=DisplayInfo{{"Built-in Screen", displayId 0, state {state}, '
        f"real {width} x {height}, density {display.density}}}"
    )
    call.line(f"    mScreenState={state}")
    return 0


async def _activity(call: Call) -> int:
    focus = call.phone.display.screen.current_focus()
    call.line("ACTIVITY MANAGER ACTIVITIES (dumpsys activity activities)\nDisplay #0 (activities from top to bottom):")
    record = f"ActivityRecord{{{_token(focus + '#')} u0 {focus} t12}}"
    call.line(f"    mResumedActivity: {record}\n  topResumedActivity={record}\n  ResumedActivity: {record}")
    return 0


async def _package(call: Call) -> int:
    names = [arg for arg in call.args if not arg.startswith("-")]
    packages = (
        [found for name in names if (found := call.phone.packages.get(name))] if names else call.phone.packages.all()
    )
    if names and not packages:
        call.line(f"Unable to find package: {names[0]}")
        return 0
    call.line("Packages:")
    for package in packages:
        call.line(
            f"  Package [{package.name}] ({_token(package.name)}):\n    codePath={package.path.rsplit('/', 1)[0]}"
        )
        call.line(
            f"    versionCode={package.version_code} minSdk=24 targetSdk=33\n    versionName={package.version_name}"
        )
        call.line(
            "    User 0: ceDataInode=1 installed=true hidden=false suspended=false stopped=false "
            f"enabled={int(not package.enabled) * 3}"
        )
        call.line("      runtime permissions:")
        for permission in sorted(package.granted):
            call.line(f"        {permission}: granted=true, flags=[ USER_SENSITIVE_WHEN_GRANTED]")
    return 0


async def _input_method(call: Call) -> int:
    call.line("Current Input Method Manager state:")
    call.line(f"  mCurMethodId={call.phone.settings.get('secure', 'default_input_method')}\n  mInputShown=false")
    return 0


async def _wifi(call: Call) -> int:
    on = call.phone.settings.get("global", "wifi_on") == "1"
    call.line(f"Wi-Fi is {'enabled' if on else 'disabled'}")
    return 0


_SERVICES: Final[dict[str, Command]] = {
    "activity": _activity,
    "battery": _battery,
    "display": _display,
    "input_method": _input_method,
    "package": _package,
    "power": _power,
    "wifi": _wifi,
    "window": _window,
}
COMMANDS: Final[dict[str, Command]] = {"dumpsys": dumpsys}
