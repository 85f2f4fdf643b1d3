"""A stand-in for Android's `emulator` program: starts, boots slowly, shows up as `emulator-PORT`, dies.

    python -m muster.sim.emulator -avd NAME [-port 5554] [-no-window] …
    python -m muster.sim.emulator -list-avds

What an AVD is like stands in `<avd home>/NAME.avd/muster.yaml`; the home is `$ANDROID_AVD_HOME`, else `~/.android/avd`,
and the adb server is the one at `$ANDROID_ADB_SERVER_PORT` (5037), all of it as the real program has it. `install`
writes an executable named `emulator` for whoever starts it by name.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml
from pydantic import Field, ValidationError

from muster.runtime.clock import SystemClock
from muster.runtime.connections import Connections
from muster.sim.adbd.daemon import LOOPBACK
from muster.sim.characters import DURATION_SEC_MAX, Part
from muster.sim.display import make_screen
from muster.sim.latency import MEASURED, SpreadPace
from muster.sim.models import Identity, Model
from muster.sim.phone import Phone

PORT_DEFAULT: Final = 5554
ADB_SERVER_PORT_DEFAULT: Final = 5037
CONSOLE_LINE_BYTES_MAX: Final = 1_024
REGISTER_TIMEOUT_SEC: Final = 10.0
AVD_BYTES_MAX: Final = 64 * 1024
_MODEL: Final = Model("google", "sdk_gphone64_x86_64", "emu64x", "14", 34, 1080, 2400, 420, "EMULATOR", 20, "x86_64")
_VALUED: Final = frozenset(
    {"-avd", "-port", "-ports", "-gpu", "-memory", "-cores", "-skin", "-accel", "-netdelay", "-netspeed", "-timezone",
     "-prop", "-dns-server", "-http-proxy", "-feature", "-snapshot", "-camera-back", "-camera-front", "-partition-size"}
)  # fmt: skip


class Avd(Part):
    """How one virtual device behaves; seconds. Nothing said: it boots in 2 s and stays."""

    adb_after: float = Field(default=0.5, ge=0, le=DURATION_SEC_MAX)
    boot_after: float = Field(default=2.0, ge=0, le=DURATION_SEC_MAX)
    never_boots: bool = False
    dies_after: float | None = Field(default=None, ge=0, le=DURATION_SEC_MAX)
    exit_status: int = Field(default=1, ge=0, le=255)
    refuses: str | None = Field(default=None, max_length=500, description="said on stderr instead of starting")


class EmulatorFailure(Exception):
    """The emulator does not start; the words are for stderr."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line asks for."""

    avd: str | None
    port: int
    list_avds: bool = False


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """What callers of the real program pass; options without meaning here are let through. Raises EmulatorFailure."""
    avd: str | None = None
    port = PORT_DEFAULT
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if option == "-list-avds":
            return Arguments(None, port, list_avds=True)
        if option.startswith("@"):
            avd = option[1:]
        elif option in _VALUED:
            if not rest:
                raise EmulatorFailure(f"emulator: ERROR: missing argument of {option}")
            value = rest.pop(0)
            avd = value if option == "-avd" else avd
            port = _port(value) if option == "-port" else port
        elif not option.startswith("-"):
            raise EmulatorFailure(f"emulator: ERROR: unknown option: {option}")
    return Arguments(avd, port)


def _port(text: str) -> int:
    if not text.isdigit() or not 1024 <= int(text) <= 65_534 or int(text) % 2:
        raise EmulatorFailure(f"emulator: ERROR: {text} is no even port")
    return int(text)


def avd_home(environment: Mapping[str, str]) -> Path:
    """Where the AVDs are."""
    named = environment.get("ANDROID_AVD_HOME")
    return Path(named) if named else Path(environment.get("HOME", str(Path.home()))) / ".android" / "avd"


def list_avds(home: Path) -> list[str]:
    """The names of all AVDs."""
    return sorted(path.name.removesuffix(".avd") for path in home.glob("*.avd") if path.is_dir())


def load_avd(home: Path, name: str) -> Avd:
    """How an AVD behaves. Raises EmulatorFailure when there is none such or its file is wrong."""
    if name not in list_avds(home):
        raise EmulatorFailure(f"emulator: ERROR: Unknown AVD name [{name}], use -list-avds to see valid list.")
    path = home / f"{name}.avd" / "muster.yaml"
    if not path.exists():
        return Avd()
    try:
        return Avd.model_validate(yaml.safe_load(path.read_bytes()[:AVD_BYTES_MAX]) or {})
    except (ValidationError, yaml.YAMLError, ValueError) as error:
        raise EmulatorFailure(f"emulator: ERROR: {path}: {' '.join(str(error).split())[:500]}") from error


def install(folder: Path) -> Path:
    """Writes an executable `emulator` (`emulator.bat` on Windows) that runs this module; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        script = folder / "emulator.bat"
        script.write_text(f'@"{sys.executable}" -m muster.sim.emulator %*\r\n')
    else:
        script = folder / "emulator"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m muster.sim.emulator "$@"\n')
        script.chmod(0o755)
    return script


class Emulator:
    """One running virtual device: a phone without RSA, at the console's port + 1, and the console itself."""

    def __init__(self, name: str, avd: Avd, port: int, adb_server_port: int, *, say: Callable[[str], None]) -> None:
        self._name, self._avd, self._adb_server_port, self._say = name, avd, adb_server_port, say
        self._console_port = port
        identity = Identity(f"EMULATOR34X2X6X{port - PORT_DEFAULT}", 1, _MODEL, random.Random(name).getrandbits(32))
        self._phone = Phone(identity, clock=SystemClock(), pace=SpreadPace(MEASURED, 0.2), make_screen=make_screen)
        for key, value in (("ro.kernel.qemu", "1"), ("ro.boot.qemu", "1"), ("ro.boot.qemu.avd_name", name)):
            self._phone.properties.put(key, value)
        self._phone.go_down()
        self._ended = asyncio.Event()

    def stop(self) -> None:
        """Ends as on SIGTERM, or `kill` at the console."""
        self._ended.set()

    async def run(self) -> int:
        """Runs until it is stopped or dies; returns the exit status. Raises EmulatorFailure when a port is taken."""
        talks = Connections(self._serve_console)
        try:
            console = await asyncio.start_server(
                talks.accept, LOOPBACK, self._console_port, limit=CONSOLE_LINE_BYTES_MAX
            )
        except OSError as error:
            raise EmulatorFailure(f"emulator: ERROR: port {self._console_port} is in use") from error
        boot = asyncio.create_task(self._boot())
        try:
            async with console:
                await self._live(boot)
        finally:
            boot.cancel()
            await asyncio.wait([boot])
            await talks.close()
            await self._phone.close()
        if not self._ended.is_set():
            self._say("emulator: ERROR: the virtual device has died")
            return self._avd.exit_status
        return 0

    async def _live(self, boot: asyncio.Task[None]) -> None:
        """Until it is stopped, its time is up, or booting fails."""
        ended = asyncio.create_task(self._ended.wait())
        death = asyncio.create_task(asyncio.sleep(self._avd.dies_after)) if self._avd.dies_after is not None else None
        try:
            watched = {ended, *([death] if death else [])}
            done, _ = await asyncio.wait({*watched, boot}, return_when=asyncio.FIRST_COMPLETED)
            if boot in done:
                boot.result()
                await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, death):
                if task is not None:
                    task.cancel()

    async def _boot(self) -> None:
        await asyncio.sleep(self._avd.adb_after)
        await self._phone.adbd.start_at(self._console_port + 1)
        await register(self._adb_server_port, self._console_port + 1)
        if self._avd.never_boots:
            return
        await asyncio.sleep(max(0.0, self._avd.boot_after - self._avd.adb_after))
        self._phone.finish_boot()
        self._say("INFO    | Boot completed")

    async def _serve_console(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Android Console: type 'help' for a list of commands\r\nOK\r\n")
        try:
            while line := await reader.readline():
                answer = self._console_answer(line.decode("utf-8", "replace").split())
                if answer is None:
                    break
                writer.write(answer.encode())
        except (ValueError, ConnectionError):
            pass  # a line without an end, or nobody there any more: both end this console only

    def _console_answer(self, words: list[str]) -> str | None:  # noqa: PLR0911 - one answer per command
        match words:
            case ["kill"]:
                self.stop()
                return "OK: killing emulator, bye bye\r\n"
            case ["quit" | "exit"]:
                return None
            case ["avd", "name"]:
                return f"{self._name}\r\nOK\r\n"
            case ["avd", "status"]:
                return "virtual device is running\r\nOK\r\n"
            case ["ping"]:
                return "I am alive!\r\nOK\r\n"
            case ["auth", *_]:
                return "OK\r\n"
            case ["help"]:
                return "    help|ping|avd name|avd status|kill|quit\r\nOK\r\n"
            case []:
                return "\r\n"
        return "KO: unknown command, try 'help'\r\n"


async def register(adb_server_port: int, adb_port: int) -> None:
    """Tells the adb server of an emulator, as the real one does; without a server it stays alone. No answer comes."""
    request = f"host:emulator:{adb_port}"
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(REGISTER_TIMEOUT_SEC):
            reader, writer = await asyncio.open_connection(LOOPBACK, adb_server_port)
            try:
                writer.write(f"{len(request):04x}{request}".encode())
                await reader.read(1)
            finally:
                writer.close()


async def run(arguments: Sequence[str], environment: Mapping[str, str], *, say: Callable[[str], None]) -> int:
    """The whole program; returns its exit status. `say` writes a line on stderr."""
    try:
        wanted = parse_arguments(arguments)
        home = avd_home(environment)
        if wanted.list_avds:
            sys.stdout.writelines(f"{name}\n" for name in list_avds(home))
            return 0
        if wanted.avd is None:
            raise EmulatorFailure("emulator: ERROR: No AVD specified. Use '-avd foo' to launch one named 'foo'")
        avd = load_avd(home, wanted.avd)
        if avd.refuses is not None:
            raise EmulatorFailure(avd.refuses)
        server = environment.get("ANDROID_ADB_SERVER_PORT", "")
        server_port = int(server) if server.isdigit() else ADB_SERVER_PORT_DEFAULT
        emulator = Emulator(wanted.avd, avd, wanted.port, server_port, say=say)
        stop_on_signals(emulator.stop)
        return await emulator.run()
    except EmulatorFailure as failure:
        say(str(failure))
        return 1


def stop_on_signals(stop: Callable[[], None]) -> None:
    """SIGTERM and Ctrl-C end the emulator; where the loop cannot catch them (Windows), Python's own handler does."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop))


def main() -> int:
    """Runs the program with this process's arguments and environment."""
    return asyncio.run(run(sys.argv[1:], os.environ, say=lambda line: print(line, file=sys.stderr, flush=True)))  # noqa: T201 - as the real one does


if __name__ == "__main__":
    sys.exit(main())
