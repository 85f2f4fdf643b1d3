"""Runs a long-lived part until it is told to stop: by SIGTERM, by Ctrl-C, or by the end of its standard input.

The last is how `muster up` and `muster demo` stop their children, and why none outlives its parent: whatever ends the
parent closes the pipe. It works alike on Windows, where a process cannot be asked to end.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Annotated, Any, Final

import typer

StopOnEofOption = Annotated[
    bool, typer.Option("--stop-on-eof", hidden=True, help="Stop when standard input ends (set by a supervisor).")
]

# A child whose event loop hangs must still end when its parent has: later than any drain takes.
ORPHAN_SEC_MAX: Final = 60.0

if sys.platform == "win32":
    _STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGBREAK)
else:
    _STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run_service(work: Callable[[], Coroutine[Any, Any, None]], *, stop_on_eof: bool = False) -> None:
    """Runs `work` to its end; a stop cancels it and waits for its clean-up; a second signal ends all at once."""
    run_loop(lambda: _until_stopped(work, stop_on_eof=stop_on_eof))


def run_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs `main` in the fastest event loop that this machine has."""
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(main())


async def _until_stopped(work: Callable[[], Coroutine[Any, Any, None]], *, stop_on_eof: bool) -> None:
    task = asyncio.ensure_future(work())
    stopper = Stopper(asyncio.get_running_loop(), task.cancel)
    stopper.listen_to_signals()
    if stop_on_eof:
        stopper.listen_to_standard_input()
    try:
        await task
    except asyncio.CancelledError:
        if not stopper.asked:
            raise


class Stopper:
    """Turns the first request to stop into `stop()`; a second signal ends the process as `kill -9` would.

    That one is left to the system: a loop that is blocked, or a thread that never ends, would keep it from Python.
    The exit status is the signal's own: 143 to a shell for SIGTERM, 130 for Ctrl-C.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stop: Callable[[], object]) -> None:
        self._loop = loop
        self._stop = stop
        self.asked = False

    def listen_to_signals(self) -> None:
        """Takes over SIGINT and SIGTERM (Ctrl-C and Ctrl-Break on Windows) for the life of the process."""
        for number in _STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def listen_to_standard_input(self) -> None:
        """Asks to stop when standard input ends."""
        threading.Thread(target=self._read_to_end, name="parent-watch", daemon=True).start()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._ask_from_outside()

    def _ask_from_outside(self) -> None:
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._ask)

    def _ask(self) -> None:
        if not self.asked:
            self.asked = True
            self._stop()

    def _read_to_end(self) -> None:
        descriptor = sys.stdin.fileno()
        while _read_some(descriptor):
            pass
        self._ask_from_outside()
        time.sleep(ORPHAN_SEC_MAX)
        os._exit(1)


def _read_some(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1024)
    except OSError:
        return b""


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
