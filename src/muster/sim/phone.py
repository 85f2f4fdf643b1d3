"""One virtual phone: its state, its clock, its adbd, and what happens to it as a whole (boot, hang, loss)."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final, Protocol

from muster.runtime.clock import Clock
from muster.sim.adbd.auth import KeyRing
from muster.sim.adbd.daemon import AdbDaemon
from muster.sim.adbd.services import banner, find_service
from muster.sim.battery import Battery
from muster.sim.commandlog import CommandLog, Gauge
from muster.sim.display import Display, Screen
from muster.sim.files import fresh_tree
from muster.sim.latency import BOOT, SHELL, Pace
from muster.sim.models import Identity
from muster.sim.packages import PackageTable
from muster.sim.properties import fresh_properties
from muster.sim.settingstore import SettingsStore
from muster.sim.shell.call import Call
from muster.sim.shell.commands import BUILTINS, TOOLS
from muster.sim.shell.interpreter import Shell
from muster.sim.shell.streams import Streams

BACKGROUND_JOBS_MAX: Final = 64
LOG_LINES_MAX: Final = 200
CLOCK_OFFSET_SEC_MAX: Final = 90
"""Phones without a SIM keep time badly; each is off by up to this much, and nothing may rely on the host's clock."""
BOOTED_AGO_SEC_MAX: Final = 20 * 86_400
_KEY_HOME: Final = 3
_FRAMEWORK: Final = {
    "am": "activity",
    "cmd": "",
    "content": "",
    "dumpsys": "",
    "input": "input",
    "locksettings": "lock_settings",
    "monkey": "activity",
    "pm": "package",
    "settings": "settings",
    "svc": "power",
    "uiautomator": "activity",
    "wm": "window",
}
"""Programs that need the system server, and the service that is missing while the phone boots."""


class Link(StrEnum):
    """How the phone is connected to its PC. To adb it is a TCP address either way: a virtual phone has no USB."""

    USB = "usb"
    WIFI = "wifi"
    ACCESSIBILITY = "accessibility"
    """Through the vendor's own app, without adb."""


class Hazard(Protocol):
    """What may befall a phone in the middle of a command."""

    async def meet(self, line: str) -> None:
        """A program starts, given as its whole line. May change the phone; a wait without end is ended by a hang-up."""
        ...


class Phone:
    """Made of parts that can be looked at and set: `properties`, `settings`, `files`, `battery`, `display`."""

    def __init__(
        self,
        identity: Identity,
        *,
        clock: Clock,
        pace: Pace,
        make_screen: Callable[[Identity], Screen],
        painter: Executor | None = None,
        keys: KeyRing | None = None,
        gauge: Gauge | None = None,
        speed: float = 1.0,
    ) -> None:
        self.identity = identity
        self.clock = clock
        self.pace = pace
        self.speed = speed
        self.hazard: Hazard | None = None
        self.rng = random.Random(identity.seed)
        self.clock_offset_sec = self.rng.randint(-CLOCK_OFFSET_SEC_MAX, CLOCK_OFFSET_SEC_MAX)
        self._booted_at = clock.monotonic() - self.rng.randint(60, BOOTED_AGO_SEC_MAX)
        screen = make_screen(identity)
        self.properties = fresh_properties(identity)
        self.settings = SettingsStore(f"{self.rng.getrandbits(64):016x}")
        self.packages = PackageTable([name for name in screen.packages() if not _is_system(name)], self.now_sec())
        self.files = fresh_tree(self.now_sec())
        self.battery = Battery(level=self.rng.randint(55, 100), temperature_tenths=self.rng.randint(240, 340))
        self.display = Display(screen, identity.model, monotonic=clock.monotonic, painter=painter)
        self._true_battery = replace(self.battery)
        self._logs: deque[tuple[int, str, str]] = deque(maxlen=LOG_LINES_MAX)
        self.log = CommandLog(gauge)
        self.environment = _environment(identity)
        self._keys = keys
        self.booted = True
        self.link = Link.USB
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._background: set[asyncio.Task[Any]] = set()
        self.adbd = AdbDaemon(
            rng=random.Random(identity.seed ^ 0xADBD),
            keys=keys,
            banner=lambda: banner(self),
            find_service=lambda name: find_service(self, name),
        )

    @property
    def device_id(self) -> str:
        """The phone for ever: its `onlySerial`."""
        return self.identity.device_id

    @property
    def serial(self) -> str:
        """Where it is attached: the adb server's serial, `127.0.0.1:PORT`."""
        return self.adbd.address

    # ---- time

    def now_sec(self) -> int:
        """Epoch seconds of the phone's own clock."""
        return self.now_ms() // 1000

    def now_ms(self) -> int:
        """Epoch ms of the phone's own clock, which differs from this machine's."""
        return self.clock.now_ms() + self.clock_offset_sec * 1000

    def uptime_sec(self) -> float:
        """Seconds since it booted."""
        return self.clock.monotonic() - self._booted_at

    async def wait(self, seconds: float) -> None:
        """Lets time pass; longer when the phone hangs meanwhile."""
        await self.clock.sleep(seconds)
        await self.gate()

    async def gate(self) -> None:
        """Waits while the phone hangs."""
        if not self._thawed.is_set():
            await self._thawed.wait()

    # ---- commands

    def new_shell(self) -> Shell:
        """A shell process of its own."""
        return Shell(self, TOOLS, BUILTINS)

    async def run_command(self, command: str, streams: Streams) -> int:
        """Runs a script from the host and notes it in the log; returns its exit status."""
        record = self.log.begin(command, self.clock.monotonic())
        status: int | None = None
        try:
            await self._take_time(SHELL)
            status = await self.new_shell().run(command, streams)
        finally:
            self.log.end(record, self.clock.monotonic(), status)
        return status

    async def before_program(self, call: Call) -> None:
        """What every program costs before it has any effect; one that is ended here has had none."""
        delay = self.pace.delay_sec(call.name, self.rng)
        if delay > 0:
            await call.wait(delay)
        if self.hazard is not None:
            await call.streams.drain()
        await self.meet_hazard(call.name, call.args)

    async def meet_hazard(self, program: str, args: Sequence[str] = ()) -> None:
        """Whatever this phone's character has in store for a program; waits while the phone hangs."""
        if self.hazard is not None:
            await self.hazard.meet(" ".join((program, *args)))
        await self.gate()

    def missing_service(self, program: str) -> str | None:
        """What `program` says while the system server is not up yet; None: it can run."""
        service = _FRAMEWORK.get(program) if not self.booted else None
        return None if service is None else f"cmd: Can't find service: {service}"

    def note(self, tag: str, text: str) -> None:
        """A line for `logcat`."""
        self._logs.append((self.now_ms(), tag, text))

    def logs(self) -> list[str]:
        """What `logcat -d` prints, oldest first."""
        return [_log_line(*entry) for entry in self._logs]

    def forget_logs(self) -> None:
        """`logcat -c`."""
        self._logs.clear()

    def setting_changed(self, namespace: str, key: str, value: str) -> None:
        """What else changes with a setting: the locale is a property too."""
        if (namespace, key) == ("system", "system_locales"):
            self.properties.put("persist.sys.locale", value.split(",", maxsplit=1)[0])

    def set_battery(self, *, level: int | None, temperature: float | None, powered: bool | None) -> None:
        """The battery's true values (percent, degrees); None leaves one as it is. What a script had set is gone."""
        if level is not None:
            self._true_battery.level = level
        if temperature is not None:
            self._true_battery.temperature_tenths = round(temperature * 10)
        if powered is not None:
            self._true_battery.usb_powered = powered
        self.reset_battery()

    def reset_battery(self) -> None:
        """`dumpsys battery reset`: the true values again."""
        self.battery = replace(self._true_battery)

    def keyguard_shown(self) -> bool:
        """Whether the lock screen is in front."""
        return self.display.screen.is_locked

    def start_background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Runs something that outlives the command that started it, until the phone is off."""
        if len(self._background) >= BACKGROUND_JOBS_MAX:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _take_time(self, name: str) -> None:
        delay = self.pace.delay_sec(name, self.rng)
        if delay > 0:
            await self.clock.sleep(delay)
        await self.gate()

    # ---- the phone as a whole

    def hang(self) -> None:
        """Stops answering; adb goes on showing it as `device`."""
        self._thawed.clear()
        self.adbd.freeze()

    def thaw(self) -> None:
        """Goes on where it was; what had been sent meanwhile runs now."""
        self._thawed.set()
        self.adbd.thaw()

    def trust_again(self) -> None:
        """Uses the keys that it was given at first."""
        self.adbd.keys = self._keys

    @property
    def hanging(self) -> bool:
        """Whether it hangs."""
        return not self._thawed.is_set()

    def kick_soon(self) -> None:
        """Drops its transports once what has been written is on its way."""
        self.start_background(self._kick())

    async def _kick(self) -> None:
        await asyncio.sleep(0)  # what has been written is sent at the end of the turn
        self.adbd.kick()

    async def reboot_by_host(self, _mode: str) -> None:
        """`adb reboot`: begins, and the transport drops."""
        self.start_background(self.reboot())

    async def reboot(self) -> None:
        """Goes down, comes back after the time a boot takes: first adbd, a while later the system."""
        self.go_down()
        delay = self.pace.delay_sec(BOOT, self.rng)
        await self.clock.sleep(delay * 0.6)
        await self.adbd.start()
        await self.clock.sleep(delay * 0.4)
        self.finish_boot()

    def go_down(self) -> None:
        """Power off: nothing runs, nothing listens, what was not stored is gone."""
        self.thaw()
        self.adbd.stop()
        self.booted = False
        for name in ("sys.boot_completed", "dev.bootcomplete"):
            self.properties.put(name, "")
        self.properties.put("init.svc.bootanim", "running")

    def finish_boot(self) -> None:
        """The system server is up: the launcher shows, `sys.boot_completed` is 1."""
        self._booted_at = self.clock.monotonic()
        self._show_desktop()
        self.reset_battery()
        for name in ("sys.boot_completed", "dev.bootcomplete"):
            self.properties.put(name, "1")
        self.properties.put("init.svc.bootanim", "stopped")
        self.booted = True

    def _show_desktop(self) -> None:
        """After a boot: no app runs, the launcher shows. What apps have stored is still there."""
        screen = self.display.screen
        for package in list(screen.packages()):
            screen.force_stop(package)
        screen.close_dialogs()
        screen.wake()
        screen.unlock()
        screen.key(_KEY_HOME)

    async def close(self) -> None:
        """Ends everything that runs on it."""
        self._thawed.set()
        await self.adbd.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)


def _is_system(package: str) -> bool:
    return package.startswith(("com.android.", "android"))


def _log_line(epoch_ms: int, tag: str, text: str) -> str:
    when = time.strftime("%m-%d %H:%M:%S", time.gmtime(epoch_ms // 1000))
    return f"{when}.{epoch_ms % 1000:03d}  1210  1322 I {tag}: {text}"


def _environment(identity: Identity) -> dict[str, str]:
    return {
        "ANDROID_DATA": "/data",
        "ANDROID_ROOT": "/system",
        "EXTERNAL_STORAGE": "/sdcard",
        "HOME": "/",
        "HOSTNAME": identity.model.device,
        "LOGNAME": "shell",
        "PATH": "/product/bin:/system/bin:/system/xbin:/vendor/bin",
        "PWD": "/",
        "SHELL": "/bin/sh",
        "TERM": "dumb",
        "TMPDIR": "/data/local/tmp",
        "USER": "shell",
    }
