"""A virtual phone without a rack, and what its shell says."""

from dataclasses import dataclass

from tests.support.manual_clock import ManualClock

from muster.sim.display import make_screen
from muster.sim.latency import NoPace, Pace
from muster.sim.models import MODELS, Identity
from muster.sim.phone import Phone
from muster.sim.shell.streams import Capture, Source, Streams

DEVICE_ID = "R3CW0TEST01"


def make_phone(*, number: int = 1, seed: int = 7, pace: Pace | None = None, clock: ManualClock | None = None) -> Phone:
    """A booted phone on a clock that stands still; 1080x2340, 480 dpi."""
    identity = Identity(DEVICE_ID if number == 1 else f"{DEVICE_ID}-{number}", number, MODELS[0], seed)
    return Phone(identity, clock=clock or ManualClock(), pace=pace or NoPace(), make_screen=make_screen)


@dataclass(frozen=True)
class Said:
    """How a script ended and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


async def say(phone: Phone, script: str, stdin: bytes = b"", *, terminal: bool = False) -> Said:
    """Runs a script on the phone as `shell,v2` does (or, with a terminal, as `exec:` does)."""
    status, out, err = await say_bytes(phone, script, stdin, terminal=terminal)
    return Said(status, out.decode(), err.decode())


async def say_bytes(
    phone: Phone, script: str, stdin: bytes = b"", *, terminal: bool = False
) -> tuple[int, bytes, bytes]:
    """The same with output as bytes."""
    out, err = Capture(64 * 1024 * 1024), Capture()
    streams = Streams(Source(buffered=stdin), out, err, out if terminal else None)
    status = await phone.run_command(script, streams)
    return status, out.value(), err.value()
