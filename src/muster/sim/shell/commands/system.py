"""Programs about the phone itself: properties, time, users, waiting, logs."""

import asyncio
import re
import time
from typing import Final

from muster.sim.properties import PropertyError
from muster.sim.shell.call import Call, Command
from muster.sim.shell.commands.files import zone_offset_sec
from muster.sim.shell.commands.options import UsageError, read_options

SLEEP_SEC_MAX: Final = 86_400.0
_TIMED_OUT_STATUS: Final = 124


async def getprop(call: Call) -> int:
    """All properties, or one; an unknown one is an empty line."""
    names = [arg for arg in call.args if not arg.startswith("-")]
    if names:
        call.line(call.phone.properties.get(names[0]) or (names[1] if len(names) > 1 else ""))
        return 0
    for name, value in call.phone.properties.all():
        call.line(f"[{name}]: [{value}]")
    return 0


async def setprop(call: Call) -> int:
    """`setprop NAME VALUE`."""
    if len(call.args) != 2:
        return call.fail("Need 2 arguments")
    name, value = call.args
    try:
        call.phone.properties.set_by_user(name, value)
    except PropertyError as problem:
        return call.fail(f"failed to set property '{name}' to '{value}': {problem}")
    return 0


async def sleep(call: Call) -> int:
    """Waits; `sleep 0.5`, `sleep 2m`."""
    seconds = duration_sec(call.args[0]) if call.args else None
    if seconds is None:
        return call.fail("Needs 1 argument" if not call.args else f"bad number '{call.args[0]}'")
    await call.wait(min(seconds, SLEEP_SEC_MAX))
    return 0


def duration_sec(text: str) -> float | None:
    """`1.5`, `10s`, `2m`, `1h`, `1d` in seconds; None when it is no duration."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?|\.\d{1,9})([smhd]?)", text)
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]] if found else None


async def timeout(call: Call) -> int:
    """`timeout [-k …] [-s …] DURATION COMMAND`: ends the command, then status 124."""
    rest = list(call.args)
    while rest and rest[0] in ("-k", "-s", "-i", "-v", "-f"):
        rest = rest[2:] if rest[0] in ("-k", "-s") else rest[1:]
    if len(rest) < 2:
        return call.fail("Needs 2 arguments")
    seconds = duration_sec(rest[0])
    if seconds is None:
        return call.fail(f"bad number '{rest[0]}'")
    work = asyncio.ensure_future(call.shell.call(rest[1:], call.streams))
    watch = asyncio.ensure_future(call.phone.clock.sleep(seconds)) if seconds else None
    try:
        await asyncio.wait([work, *([watch] if watch else [])], return_when=asyncio.FIRST_COMPLETED)
        # A phone that hangs runs no timers either: it ends the command when it goes on.
        await call.phone.gate()
        return work.result() if work.done() else _TIMED_OUT_STATUS
    finally:
        for task in (work, watch):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task])


async def date(call: Call) -> int:
    """The phone's own clock; `+FORMAT` with %N and %3N, -u for UTC, -d @SECONDS."""
    try:
        options, operands = read_options(call.args, "u", "d")
    except UsageError as problem:
        return call.fail(str(problem))
    now_ms = call.phone.now_ms()
    if "d" in options:
        if not re.fullmatch(r"@-?\d{1,11}", options["d"]):
            return call.fail(f"bad date '{options['d']}'")
        now_ms = int(options["d"][1:]) * 1000
    if operands and not operands[0].startswith("+"):
        return call.fail("cannot set date: Operation not permitted")
    zone = "UTC" if "u" in options else _zone_name(call)
    shift = 0 if "u" in options else zone_offset_sec(call)
    form = operands[0][1:] if operands else "%a %b %e %H:%M:%S %Z %Y"
    call.line(_format_time(form, now_ms, shift, zone))
    return 0


def _zone_name(call: Call) -> str:
    return {9 * 3600: "KST", 8 * 3600: "CST", 3600: "CET"}.get(zone_offset_sec(call), "GMT")


def _format_time(form: str, now_ms: int, shift_sec: int, zone: str) -> str:
    own = {
        "%s": str(now_ms // 1000),
        "%N": f"{now_ms % 1000:03d}000000",
        "%3N": f"{now_ms % 1000:03d}",
        "%Z": zone,
        "%z": f"{'-' if shift_sec < 0 else '+'}{abs(shift_sec) // 3600:02d}00",
        "%%": "%%",
    }
    form = re.sub(r"%(?:3N|.)", lambda found: own.get(found[0], found[0]), form)
    return time.strftime(form, time.gmtime(now_ms // 1000 + shift_sec)) if form else ""


async def identity(call: Call) -> int:
    """`id` and `whoami`: adb's shell is the user 2000."""
    if call.name == "whoami":
        call.line("shell")
    elif call.args[:1] == ["-u"]:
        call.line("2000")
    else:
        groups = "1004(input),1007(log),1011(adb),1015(sdcard_rw),1028(sdcard_r),3001(net_bt_admin),3003(inet)"
        call.line(f"uid=2000(shell) gid=2000(shell) groups=2000(shell),{groups} context=u:r:shell:s0")
    return 0


async def uptime(call: Call) -> int:
    """How long the phone has been up."""
    total = int(call.phone.uptime_sec())
    days, rest = divmod(total, 86_400)
    clock = time.strftime("%H:%M:%S", time.gmtime(call.phone.now_sec() + zone_offset_sec(call)))
    ago = f"{days} days, " if days else ""
    call.line(f" {clock} up {ago}{rest // 3600:2d}:{rest % 3600 // 60:02d},  0 users,  load average: 1.20, 1.10, 1.05")
    return 0


async def uname(call: Call) -> int:
    """The kernel."""
    call.line("Linux" if not call.args else "Linux localhost 5.10.177-android12-9 #1 SMP PREEMPT aarch64 Toybox")
    return 0


async def logcat(call: Call) -> int:
    """`logcat -d`: what the phone has logged; without -d it goes on until the host hangs up. -c forgets."""
    try:
        options, _filters = read_options(call.args, "dcgSv", "tTsbefnrv")
    except UsageError as problem:
        return call.error(f"logcat: {problem}")
    if "c" in options:
        call.phone.forget_logs()
        return 0
    lines = call.phone.logs()
    wanted = options.get("t", "")
    call.line("--------- beginning of main")
    for line in lines[-int(wanted) :] if wanted.isdigit() and int(wanted) else lines:
        call.line(line)
    if "d" not in options and "t" not in options:
        await call.wait(SLEEP_SEC_MAX)
    return 0


async def reboot(call: Call) -> int:
    """Reboots; the transport drops before anything can be answered."""
    call.phone.start_background(call.phone.reboot())
    await call.wait(SLEEP_SEC_MAX)
    return 0


async def shell(call: Call) -> int:
    """`sh -c SCRIPT ARGUMENTS`, `sh FILE`, or a script on its input."""
    args = list(call.args)
    inner = call.phone.new_shell()
    inner.variables, inner.cwd = dict(call.shell.variables), call.shell.cwd
    if args[:1] == ["-c"]:
        if len(args) < 2:
            return call.error("/system/bin/sh: -c requires an argument")
        inner.positional = args[3:]
        return await inner.run(args[1], call.streams)
    if args:
        inner.positional = args[1:]
        script = call.phone.files.read(call.path(args[0]))
    else:
        script = await call.streams.stdin.all()
    return await inner.run(script.decode("utf-8", "surrogateescape"), call.streams)


async def nohup(call: Call) -> int:
    """Runs a command; a hang-up of this one ends it here too."""
    return await call.shell.call(call.args, call.streams) if call.args else call.fail("Needs 1 argument")


async def processes(call: Call) -> int:
    """`ps`: a few of the processes that every phone has, and those of the app in front."""
    call.line("USER           PID  PPID     VSZ    RSS WCHAN            ADDR S NAME")
    front = call.phone.display.screen.current_focus().split("/")[0]
    rows = [("root", 1, "init"), ("system", 1210, "system_server"), ("shell", 402, "adbd"), ("u0_a120", 5120, front)]
    for user, pid, name in rows:
        call.line(f"{user:<12}{pid:>6}     1 1000000  80000 0                   0 S {name}")
    return 0


async def pidof(call: Call) -> int:
    """The process of the app in front, of adbd and the system server; status 1 for anything else."""
    front = call.phone.display.screen.current_focus().split("/")[0]
    known = {"adbd": 402, "system_server": 1210, "zygote": 640, front: 5120}
    found = [str(known[name]) for name in call.args if name in known]
    if found:
        call.line(" ".join(found))
    return 0 if found else 1


async def kill(call: Call) -> int:
    """adb's shell may not end processes of others."""
    pids = [arg for arg in call.args if not arg.startswith("-")]
    return call.error(f"/system/bin/sh: kill: {pids[0]}: Operation not permitted") if pids else 1


async def ping(call: Call) -> int:
    """A virtual phone reaches nothing: every address is unreachable."""
    return call.error("connect: Network is unreachable", 2)


async def which(call: Call) -> int:
    """Where a program lies."""
    found = [name for name in call.args if name in call.shell.commands]
    for name in found:
        call.line(f"/system/bin/{name}")
    return 0 if found and len(found) == len(call.args) else 1


COMMANDS: Final[dict[str, Command]] = {
    "date": date,
    "getprop": getprop,
    "id": identity,
    "kill": kill,
    "logcat": logcat,
    "nohup": nohup,
    "pidof": pidof,
    "ping": ping,
    "ps": processes,
    "reboot": reboot,
    "setprop": setprop,
    "sh": shell,
    "sleep": sleep,
    "timeout": timeout,
    "uname": uname,
    "uptime": uptime,
    "which": which,
    "whoami": identity,
}
