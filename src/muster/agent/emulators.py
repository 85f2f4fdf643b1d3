"""The node's emulators as processes: started without a shell, in a session of their own, their words bounded.

An emulator outlives the agent: booting takes a minute, and the next agent finds it at its port.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from muster.agent.preflight.emulator import EmulatorNotStarted
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.runtime.supervision import Background

log = get_logger()
LOG_BYTES_MAX: Final = 256 * 1024
LOG_LOOK_SEC: Final = 5.0
STOP_TIMEOUT_SEC: Final = 5.0
CONSOLE_TIMEOUT_SEC: Final = 5.0
# One that cannot run (no such AVD, port taken) says so within a moment.
START_LOOK_SEC: Final = 0.5
_LAST_WORDS_BYTES: Final = 500
_OPTIONS: Final = ("-no-window", "-no-audio", "-no-boot-anim")


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """`avd`: EMULATOR_AVD. `program`: a path, or a name to be found on PATH. `folder`: for what they say.

    `console_sec`: so long one that somebody else started may take to end.
    """

    avd: str
    program: str
    adb_port: int
    folder: Path
    console_sec: float = CONSOLE_TIMEOUT_SEC


class EmulatorProcesses:
    """Use as `async with`. Implements `preflight.emulator.Emulators`."""

    def __init__(self, settings: EmulatorSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        # One a port: an emulator that hangs must not cost the others their time.
        self._starting: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._background = Background()

    async def __aenter__(self) -> "EmulatorProcesses":
        await self._background.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._background.__aexit__(kind, error, trace)

    def is_ours(self, port: int) -> bool:
        """See `Emulators`."""
        process = self._running.get(port)
        return process is not None and process.poll() is None

    async def start(self, port: int) -> None:
        """See `Emulators`."""
        async with self._starting[port]:
            await self.stop(port)
            await kill_by_console(port, self._settings.console_sec)
            process = await asyncio.to_thread(self._spawn, port)
            self._running[port] = process
            await self._clock.sleep(START_LOOK_SEC)
            if (end := self.end_of(port)) is not None:
                raise EmulatorNotStarted(end)
            _ = self._background.start(f"emulator {port}", self._attend(port, process))

    def end_of(self, port: int) -> str | None:
        """See `Emulators`."""
        process = self._running.get(port)
        if process is None or process.poll() is None:
            return None
        return f"{self._settings.program} ended with status {process.returncode}: {self._last_words(port)}"

    async def stop(self, port: int) -> None:
        """Ends the one that was started here, with everything that it started; asks first, then insists."""
        process = self._running.pop(port, None)
        if process is None or process.poll() is not None:
            return
        _signal(process, insist=False)
        try:
            await asyncio.to_thread(process.wait, STOP_TIMEOUT_SEC)
        except subprocess.TimeoutExpired:
            _signal(process, insist=True)
            await asyncio.to_thread(process.wait)

    def _spawn(self, port: int) -> "subprocess.Popen[bytes]":
        settings = self._settings
        program = shutil.which(settings.program)
        if program is None:
            raise EmulatorNotStarted(f"there is no program {settings.program}: set EMULATOR_PROGRAM to its path")
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._log(port).write_bytes(b"")
        # Appending: what is cut off while it writes stays cut off.
        with self._log(port).open("ab") as words:
            return subprocess.Popen(  # noqa: S603 - an argument vector of our own, no shell
                [program, "-avd", settings.avd, "-port", str(port), *_OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env=os.environ | {"ANDROID_ADB_SERVER_PORT": str(settings.adb_port)},
                start_new_session=sys.platform != "win32",
                creationflags=_windows_flags(),
            )

    async def _attend(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        """Until it ends: keeps what it says within bounds."""
        while process.poll() is None:
            await self._clock.sleep(LOG_LOOK_SEC)
            with contextlib.suppress(OSError):
                if self._log(port).stat().st_size > LOG_BYTES_MAX:
                    os.truncate(self._log(port), 0)
        log.warning("Emulator ended", port=port, exit_status=process.returncode, words=self._last_words(port))

    def _log(self, port: int) -> Path:
        return self._settings.folder / f"emulator-{port}.log"

    def _last_words(self, port: int) -> str:
        try:
            return self._log(port).read_bytes()[-_LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()
        except OSError as error:
            return f"(its words cannot be read: {error.strerror})"


async def kill_by_console(port: int, timeout_sec: float = CONSOLE_TIMEOUT_SEC) -> None:
    """Ends an emulator that somebody else started, as `adb emu kill` does; nothing happens where none is."""
    try:
        async with asyncio.timeout(timeout_sec):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(f"auth {_console_token()}\nkill\n".encode())
                while await reader.read(4096):
                    pass
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError) as error:
        log.debug("No emulator ended by its console", port=port, error=str(error))


def _console_token() -> str:
    try:
        return (Path.home() / ".emulator_console_auth_token").read_text(encoding="ascii")[:100].strip()
    except (OSError, ValueError):
        return ""


def _signal(process: "subprocess.Popen[bytes]", *, insist: bool) -> None:
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL if insist else signal.SIGTERM)


def _windows_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0
