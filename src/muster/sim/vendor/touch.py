"""Fingers and keys: `pointerEvent` in percent of the panel, `pushEvent` by its three numbers."""

from typing import Final

from muster.sim.vendor.messages import BAD_PARAMETER, Refusal, Request
from muster.sim.vendor.ports import VendorPhone

_PUSH_KEYS: Final = {"1": 187, "2": 3, "3": 4}  # recents, home, back
_DOWN, _UP, _MOVE, _CLICK = "0", "1", "2", "10"
_WHEELS: Final = {"4": 20, "5": -20}  # wheel up shows what is above: the content moves down by so many percent
_SWIPES: Final = {"6": (50, 75, 50, 25), "7": (50, 25, 50, 75), "8": (85, 50, 15, 50), "9": (15, 50, 85, 50)}


class Fingers:
    """Where a finger went down on each phone, by onlySerial, until it is lifted."""

    def __init__(self) -> None:
        self._down: dict[str, tuple[float, float]] = {}

    async def point(self, phone: VendorPhone, request: Request) -> None:
        """One `pointerEvent`."""
        kind = request.text("type")
        if kind in _SWIPES:
            x1, y1, x2, y2 = _SWIPES[kind]
            await phone.swipe(*_pixels(phone, x1, y1), *_pixels(phone, x2, y2))
            return
        at = (request.number("x", 0, 100), request.number("y", 0, 100))
        if kind in _WHEELS:
            await phone.swipe(*_pixels(phone, *at), *_pixels(phone, at[0], at[1] + _WHEELS[kind]))
        elif kind == _DOWN:
            self._down[phone.only_serial] = at
        elif kind == _UP:
            await self._lift(phone, at)
        elif kind == _CLICK:
            await phone.tap(*_pixels(phone, *at))
        elif kind != _MOVE:
            raise Refusal(BAD_PARAMETER)

    async def _lift(self, phone: VendorPhone, at: tuple[float, float]) -> None:
        start = self._down.pop(phone.only_serial, None)
        if start is not None:
            # A finger that did not move is a tap; the phone itself tells a short way from a long one.
            await phone.swipe(*_pixels(phone, *start), *_pixels(phone, *at))


async def push(phone: VendorPhone, request: Request) -> None:
    """One `pushEvent`."""
    code = _PUSH_KEYS.get(request.text("type"))
    if code is None:
        raise Refusal(BAD_PARAMETER)
    await phone.key(code)


def _pixels(phone: VendorPhone, x: float, y: float) -> tuple[float, float]:
    return phone.width * x / 100, phone.height * y / 100
