"""Rectangles in pixels and the scale from density-independent units (dp) to pixels."""

from dataclasses import dataclass
from typing import NamedTuple

SIDE_PX_MIN = 200  # WindowManagerService.MIN_WIDTH, MIN_HEIGHT: what `wm size` is clamped to
SIDE_SCALE_MAX = 3  # WindowManagerService.MAX_SCALE: at most three times the panel's own size
DENSITY_MIN = 72  # `wm density` refuses less
DENSITY_MAX = 1000
_CONTENT_DP_MIN = (280, 480)


class Rect(NamedTuple):
    """Pixels; right and bottom are exclusive, as in Android's bounds."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.bottom - self.top

    @property
    def centre(self) -> tuple[int, int]:
        """Where a client taps."""
        return (self.left + self.right) // 2, (self.top + self.bottom) // 2

    @property
    def is_empty(self) -> bool:
        """Nothing of it can be seen."""
        return self.right <= self.left or self.bottom <= self.top

    def has(self, x: float, y: float) -> bool:
        """Is this point inside?"""
        return self.left <= x < self.right and self.top <= y < self.bottom

    def cut(self, other: "Rect") -> "Rect":
        """The part of it that lies inside `other`; may be empty."""
        return Rect(
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        )

    def inset(self, dx: int, dy: int | None = None) -> "Rect":
        """Smaller by dx on both sides and dy above and below."""
        down = dx if dy is None else dy
        return Rect(self.left + dx, self.top + down, self.right - dx, self.bottom - down)

    def moved(self, dx: int, dy: int) -> "Rect":
        """The same size, elsewhere."""
        return Rect(self.left + dx, self.top + dy, self.right + dx, self.bottom + dy)


@dataclass(frozen=True, slots=True)
class Display:
    """The panel as it is set at this moment: pixels and dots per inch."""

    width: int
    height: int
    density: int

    @property
    def scale(self) -> float:
        """Pixels per dp; smaller than density/160 where a page would not have room for its widgets."""
        return min(self.density / 160, self.width / _CONTENT_DP_MIN[0], self.height / _CONTENT_DP_MIN[1])

    def px(self, dp: float) -> int:
        """Pixels for so many dp, at least one for anything that is there."""
        return max(1, round(dp * self.scale)) if dp > 0 else 0

    @property
    def whole(self) -> Rect:
        """All of the panel."""
        return Rect(0, 0, self.width, self.height)

    @property
    def status_bar(self) -> Rect:
        """The strip at the top."""
        return Rect(0, 0, self.width, self.px(28))

    @property
    def nav_bar(self) -> Rect:
        """The strip at the bottom with the gesture pill."""
        return Rect(0, self.height - self.px(20), self.width, self.height)

    @property
    def content(self) -> Rect:
        """Between the bars."""
        return Rect(0, self.status_bar.bottom, self.width, self.nav_bar.top)


def clamped(width: int, height: int, density: int, panel: Display) -> Display:
    """What Android makes of `wm size` and `wm density` on this panel."""
    return Display(
        min(max(width, SIDE_PX_MIN), panel.width * SIDE_SCALE_MAX),
        min(max(height, SIDE_PX_MIN), panel.height * SIDE_SCALE_MAX),
        min(max(density, DENSITY_MIN), DENSITY_MAX),
    )
