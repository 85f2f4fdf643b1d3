"""What the tool needs of a rack. The rack's phones are adapted to this; the tool never looks behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class VendorPhone(Protocol):
    """One phone as the tool knows it. Touch works without adb; `shell`, `push` and `pull` run on the phone itself."""

    @property
    def only_serial(self) -> str:
        """The phone for ever."""
        ...

    @property
    def serial(self) -> str | None:
        """Where adb has it now, e.g. `127.0.0.1:41001`; None for a phone without adb (mode 3)."""
        ...

    @property
    def name(self) -> str:
        """Its name in the tool's window until somebody changes it there."""
        ...

    @property
    def model(self) -> str:
        """E.g. `SM-S911N`."""
        ...

    @property
    def mode(self) -> int:
        """0 USB, 1 Wi-Fi, 2 OTG, 3 accessibility (no adb), 10-12 cloud."""
        ...

    @property
    def status(self) -> str:
        """`online` or `offline`."""
        ...

    @property
    def width(self) -> int:
        """Pixels of the panel, as set now."""
        ...

    @property
    def height(self) -> int:
        """Pixels of the panel, as set now."""
        ...

    async def png(self) -> bytes:
        """The screen."""
        ...

    async def shell(self, command: str) -> tuple[int, bytes, bytes]:
        """Runs a line in the phone's shell: exit status, stdout, stderr."""
        ...

    async def tap(self, x: float, y: float) -> None:
        """A finger at a point (px)."""
        ...

    async def swipe(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A finger from one point to another (px)."""
        ...

    async def key(self, code: int) -> None:
        """A key, by Android's number."""
        ...

    async def text(self, value: str) -> None:
        """Text into the focused field."""
        ...

    async def push(self, path: str, data: bytes) -> bool:
        """Writes a file on the phone; False when it cannot."""
        ...

    async def pull(self, path: str) -> bytes | None:
        """Reads a file from the phone; None when there is none."""
        ...


class VendorRack(Protocol):
    """The phones that the tool sees, and where its default folders lie."""

    @property
    def data_dir(self) -> Path:
        """Stands for the PC's drives: `D:\\Pictures` is `<data_dir>/D/Pictures` where there are no drive letters."""
        ...

    def phones(self) -> Sequence[VendorPhone]:
        """All phones, in the order of the tool's window."""
        ...
