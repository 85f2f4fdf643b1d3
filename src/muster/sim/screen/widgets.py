"""The tree that is both drawn and dumped. A widget's text is written once: the picture and the dump cannot disagree."""

from collections.abc import Iterator
from dataclasses import dataclass

from muster.sim.screen.geometry import Rect
from muster.sim.screen.theme import Colour

PASSWORD_DOT = "•"  # noqa: S105 - what a password field shows


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle, its corners rounded by `radius` px; with an outline where `outline` is given."""

    frame: Rect
    fill: Colour
    radius: int = 0
    outline: Colour | None = None
    outline_px: int = 0


@dataclass(frozen=True, slots=True)
class Shade:
    """A vertical gradient in `bands` flat steps: cheap to draw, cheap to compress."""

    frame: Rect
    top: Colour
    bottom: Colour
    bands: int


@dataclass(frozen=True, slots=True)
class Polygon:
    """A filled polygon, points in pixels."""

    points: tuple[tuple[int, int], ...]
    fill: Colour


@dataclass(frozen=True, slots=True)
class Glyph:
    """A letter that is part of an icon: a picture, not a text that a phone would tell anybody."""

    frame: Rect
    letter: str
    size: int
    ink: Colour


Shape = Box | Shade | Polygon | Glyph


@dataclass(frozen=True, slots=True)
class Label:
    """How a widget's text is written: where, how large (px), in which colour."""

    box: Rect
    size: int
    ink: Colour
    centred: bool = False
    lines: int = 1
    bold: bool = False
    fit: bool = False  # shrinks the letters until one line fits
    keep_end: bool = False  # cuts the start instead of the end, as a field being typed into does


@dataclass(frozen=True, slots=True)
class Widget:
    """A node of the accessibility tree and its looks. `frame` is drawn, `bounds` is what can be seen of it."""

    kind: str  # the Android class, e.g. android.widget.Button
    frame: Rect
    bounds: Rect
    text: str = ""
    resource_id: str = ""
    description: str = ""
    key: str = ""  # what a tap on it means to its app; empty: not clickable
    enter: str = ""  # in a field: the key that ENTER presses
    editable: bool = False
    password: bool = False
    enabled: bool = True
    checkable: bool = False
    checked: bool = False
    focused: bool = False
    scrollable: bool = False
    label: Label | None = None
    shapes: tuple[Shape, ...] = ()
    children: "tuple[Widget, ...]" = ()

    @property
    def clickable(self) -> bool:
        """Reacts to a tap."""
        return bool(self.key) and self.enabled

    def walk(self) -> "Iterator[Widget]":
        """This widget and all below it, in drawing order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def at(self, x: float, y: float) -> "Widget | None":
        """The topmost clickable widget under a point."""
        return next((w for w in reversed(list(self.walk())) if w.clickable and w.bounds.has(x, y)), None)


@dataclass(frozen=True, slots=True)
class Window:
    """One window: the package it belongs to, its tree, and how far its content can scroll (px)."""

    package: str
    root: Widget
    scroll: int = 0
    scroll_max: int = 0

    def pressable(self) -> list[Widget]:
        """What the focus can stand on, in reading order."""
        return [widget for widget in self.root.walk() if widget.clickable]


@dataclass(frozen=True, slots=True)
class Scene:
    """All that the panel shows: windows from the lowest up, then the bars. Equal scenes are equal pictures."""

    frame: Rect
    backdrop: Colour
    windows: tuple[Window, ...]
    bars: tuple[Widget, ...]

    @property
    def front(self) -> Window:
        """The window that has the focus: what is dumped and what is tapped."""
        return self.windows[-1]
