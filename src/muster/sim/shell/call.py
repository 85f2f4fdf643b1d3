"""What a command of the phone is given: its arguments, its streams, the phone and the shell it was called from."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from muster.sim.files import normalise
from muster.sim.shell.streams import Streams

if TYPE_CHECKING:
    from muster.sim.phone import Phone
    from muster.sim.shell.interpreter import Shell


@dataclass(slots=True)
class Call:
    """One call of a command. Text on its streams is UTF-8; bytes that are none survive (surrogateescape)."""

    phone: "Phone"
    shell: "Shell"
    name: str
    args: list[str]
    streams: Streams

    def line(self, text: str = "") -> None:
        """A line on stdout."""
        self.streams.stdout.write(to_bytes(text) + b"\n")

    def text(self, text: str) -> None:
        """Text on stdout as it stands."""
        self.streams.stdout.write(to_bytes(text))

    def error(self, text: str, status: int = 1) -> int:
        """A line on stderr; returns the status to end with."""
        self.streams.stderr.write(to_bytes(text) + b"\n")
        return status

    def fail(self, text: str, status: int = 1) -> int:
        """`name: text` on stderr, as toybox words its errors; returns the status to end with."""
        return self.error(f"{self.name}: {text}", status)

    def path(self, path: str) -> str:
        """A path argument, absolute and normalised."""
        return normalise(path, self.shell.cwd)

    async def wait(self, seconds: float) -> None:
        """Lets time pass on the phone; what has been written is sent before."""
        await self.streams.drain()
        await self.phone.wait(seconds)


Command = Callable[[Call], Awaitable[int]]


def to_bytes(text: str) -> bytes:
    """The bytes behind text that came from the host or a file."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """Bytes as text; those that are no UTF-8 are kept as surrogates."""
    return data.decode("utf-8", "surrogateescape")
