"""A rack's phones as the vendor's casting tool sees them (`vendor.VendorPhone`, `vendor.VendorRack`)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from muster.sim.files import FileError, normalise
from muster.sim.phone import Link, Phone
from muster.sim.shell.streams import Capture, Source, Streams
from muster.sim.states import PhoneState, state_of

OUTPUT_BYTES_MAX: Final = 16 * 1024 * 1024
_MODES: Final = {Link.USB: 0, Link.WIFI: 1, Link.ACCESSIBILITY: 3}
_SEEN_ONLINE: Final = frozenset({PhoneState.DEVICE, PhoneState.HUNG})


class CastPhone:
    """One phone in the tool's window. What is done to a phone that hangs waits until it goes on."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone

    @property
    def only_serial(self) -> str:
        """The phone for ever."""
        return self._phone.device_id

    @property
    def serial(self) -> str | None:
        """Where adb has it; None for a phone without adb."""
        return None if self._phone.link is Link.ACCESSIBILITY else self._phone.serial

    @property
    def name(self) -> str:
        """Its number on the rack."""
        return f"{self._phone.identity.number:03d}"

    @property
    def model(self) -> str:
        """E.g. `SM-S911N`."""
        return self._phone.identity.model.model

    @property
    def mode(self) -> int:
        """0 USB, 1 Wi-Fi, 3 accessibility."""
        return _MODES[self._phone.link]

    @property
    def status(self) -> str:
        """`online` or `offline`."""
        if self._phone.link is Link.ACCESSIBILITY:
            return "online"
        return "online" if state_of(self._phone) in _SEEN_ONLINE else "offline"

    @property
    def width(self) -> int:
        """Pixels."""
        return self._phone.display.size[0]

    @property
    def height(self) -> int:
        """Pixels."""
        return self._phone.display.size[1]

    async def png(self) -> bytes:
        """The screen."""
        await self._phone.meet_hazard("screencap")
        return await self._phone.display.picture()

    async def shell(self, command: str) -> tuple[int, bytes, bytes]:
        """Runs a line in the phone's shell."""
        out, err = Capture(OUTPUT_BYTES_MAX), Capture(OUTPUT_BYTES_MAX)
        status = await self._phone.run_command(command, Streams(Source(), out, err))
        return status, out.value(), err.value()

    async def tap(self, x: float, y: float) -> None:
        """A finger at a point (px)."""
        await self._phone.meet_hazard("input", ["tap"])
        await self._phone.display.act(lambda screen: screen.tap(x, y))

    async def swipe(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A finger from one point to another (px)."""
        await self._phone.meet_hazard("input", ["swipe"])
        await self._phone.display.act(lambda screen: screen.swipe(x1, y1, x2, y2))

    async def key(self, code: int) -> None:
        """A key."""
        await self._phone.meet_hazard("input", ["key"])
        await self._phone.display.act(lambda screen: screen.key(code))

    async def text(self, value: str) -> None:
        """Text into the focused field."""
        await self._phone.meet_hazard("input", ["text"])
        await self._phone.display.act(lambda screen: screen.text(value))

    async def push(self, path: str, data: bytes) -> bool:
        """Writes a file; False when it cannot."""
        await self._phone.gate()
        place, now = normalise(path), self._phone.now_sec()
        try:
            self._phone.files.make_dir(place.rsplit("/", 1)[0] or "/", mtime=now, parents=True)
            self._phone.files.write(place, data, mtime=now)
        except FileError:
            return False
        return True

    async def pull(self, path: str) -> bytes | None:
        """Reads a file; None when there is none."""
        await self._phone.gate()
        try:
            return self._phone.files.read(normalise(path))
        except FileError:
            return None


class CastRack:
    """All phones, in the order of their numbers."""

    def __init__(self, phones: Iterable[Phone], data_dir: Path) -> None:
        self._phones = [CastPhone(phone) for phone in phones]
        self._data_dir = data_dir

    @property
    def data_dir(self) -> Path:
        """Where `D:\\Pictures` lies on a machine without drive letters."""
        return self._data_dir

    def phones(self) -> Sequence[CastPhone]:
        """All phones."""
        return self._phones
