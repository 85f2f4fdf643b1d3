"""An adb server process of our own: how it is spawned so that it cannot outlive us, watched and ended."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

STOP_TIMEOUT_SEC: Final = 5.0
POLL_SEC: Final = 0.01
TAKEN_PORT_ABORT_SEC: Final = 1.0
"""adb gives up a port that somebody else holds after 0.5 s; one that lives longer has the port."""
_LOG_TAIL_BYTES: Final = 1_000
_PR_SET_PDEATHSIG: Final = 1


class ServerProcess:
    """`adb -P PORT nodaemon server`: keys, log and temporary files under `home`; no USB, mDNS or emulators."""

    def __init__(self, binary: Path, port: int, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._log = home / f"adb-server-{port}.log"
        self._listening = False
        self._started_at = time.monotonic()
        ready_read, ready_write = _ready_pipe()
        command = [str(binary), "-P", str(port), "nodaemon", "server"]
        command += [] if ready_write is None else ["--reply-fd", str(ready_write)]
        self._ready = ready_read
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own argument vector, no shell
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=private_environment(os.environ, home),
                    pass_fds=[] if ready_write is None else [ready_write],
                    # Ctrl-C in a terminal is for the owner, who ends the server when its own work is done.
                    start_new_session=sys.platform != "win32",
                    creationflags=_windows_flags(),
                    preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one prctl call on names looked up beforehand
                )
        except BaseException:
            self._close_ready()
            raise
        finally:
            if ready_write is not None:
                os.close(ready_write)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def has_ended(self) -> bool:
        """It is gone, and reaped."""
        return self._process.poll() is not None

    def is_listening(self) -> bool:
        """This very process holds the port; an answer there could also come from somebody else's server."""
        if self._ready is None:
            return not self.has_ended() and time.monotonic() - self._started_at > TAKEN_PORT_ABORT_SEC
        if not self._listening:
            with contextlib.suppress(BlockingIOError):
                self._listening = os.read(self._ready, 3) == b"OK\n"
        return self._listening

    def last_words(self) -> str:
        """The end of its log, for a message."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").strip()

    async def stop(self) -> None:
        """Ends and reaps it: asks first, then insists."""
        self._close_ready()
        if self.has_ended():
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_TIMEOUT_SEC)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def kill(self) -> None:
        """Ends it at once, without waiting politely: for an owner that is itself being cancelled."""
        self._close_ready()
        self._process.kill()
        self._process.wait()

    def _close_ready(self) -> None:
        if self._ready is not None:
            os.close(self._ready)
            self._ready = None


def private_environment(environment: "os._Environ[str] | dict[str, str]", home: Path) -> dict[str, str]:
    """The environment of a private server: nothing of the user's adb settings, no keys of theirs, no hardware."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("ADB_", "ANDROID_"))}
    places = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), str(home))
    return kept | places | {"ADB_USB": "0", "ADB_MDNS": "0", "ADB_EMU": "0"}


def _ready_pipe() -> tuple[int | None, int | None]:
    """Where adb writes `OK` once it holds its port. Windows wants a handle there, so it has to do without."""
    if sys.platform == "win32":
        return None, None
    ready_read, ready_write = os.pipe()
    os.set_blocking(ready_read, False)
    return ready_read, ready_write


def _windows_flags() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux: the kernel ends the server when the thread that started it ends, even by SIGKILL."""
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel
