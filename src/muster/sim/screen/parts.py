"""How each element looks: the shapes, labels and accessibility facts of one widget in its frame."""

from dataclasses import dataclass, replace

from muster.sim.screen.elements import (
    Banner,
    Button,
    Fact,
    Field,
    Heading,
    Icon,
    Icons,
    Player,
    Row,
    Text,
    Toggle,
    Tone,
)
from muster.sim.screen.geometry import Display, Rect
from muster.sim.screen.theme import WHITE, Colour, Theme, between, shade, theme_of
from muster.sim.screen.widgets import PASSWORD_DOT, Box, Glyph, Label, Polygon, Shape, Widget

_ICONS_ACROSS = 4
_ICON_CELL_DP = 104
_TEXT_VIEW = "android.widget.TextView"


@dataclass(frozen=True, slots=True)
class Kit:
    """What every part needs: the display, the colours, and the package that resource ids belong to."""

    package: str
    display: Display
    hue: float
    theme: Theme

    @classmethod
    def of(cls, package: str, display: Display, hue: float, *, dark: bool) -> "Kit":
        """The kit of one page."""
        return cls(package, display, hue, theme_of(hue, dark=dark))

    def px(self, dp: float) -> int:
        """Pixels for so many dp."""
        return self.display.px(dp)

    def name(self, key: str) -> str:
        """A resource id of this package."""
        return f"{self.package}:id/{key}"

    @property
    def wallpaper(self) -> tuple[Colour, Colour]:
        """The launcher's gradient, top and bottom."""
        return shade(self.hue, 0.2, 0.5), shade(self.hue + 0.08, 0.52, 0.42)


def moved(shape: Shape, dy: int) -> Shape:
    """The same shape further down."""
    if isinstance(shape, Polygon):
        return replace(shape, points=tuple((x, y + dy) for x, y in shape.points))
    return replace(shape, frame=shape.frame.moved(0, dy))


def with_focus(widget: Widget, kit: Kit) -> Widget:
    """The widget with the focus ring in place of its own outline."""
    if not widget.shapes or not isinstance(widget.shapes[0], Box):
        return replace(widget, focused=True)
    box = widget.shapes[0]
    strong = kit.theme.ink if box.fill == kit.theme.primary else kit.theme.primary
    ring = replace(box, outline=strong, outline_px=kit.px(2))
    return replace(widget, focused=True, shapes=(ring, *widget.shapes[1:]))


def writing(element: Heading | Text | Banner, kit: Kit, frame: Rect) -> Widget:
    """Text that nobody taps."""
    if isinstance(element, Banner):
        return _banner(element, kit, frame)
    if isinstance(element, Heading):
        label = Label(frame, kit.px(27), kit.theme.ink, bold=True)
    else:
        inks = {Tone.NORMAL: kit.theme.ink, Tone.MUTED: kit.theme.muted}
        ink = inks.get(element.tone, kit.theme.error if element.tone is Tone.ERROR else kit.theme.primary)
        label = Label(frame, kit.px(element.size_dp), ink, lines=element.lines)
    name = kit.name(element.resource_id) if element.resource_id else ""
    return Widget(_TEXT_VIEW, frame, frame, element.text, resource_id=name, label=label)


def _banner(element: Banner, kit: Kit, frame: Rect) -> Widget:
    inner = frame.inset(kit.px(20), kit.px(14))
    middle = inner.top + kit.px(46)
    top, bottom = Rect(inner.left, inner.top, inner.right, middle), Rect(inner.left, middle, inner.right, inner.bottom)
    name = kit.name(element.resource_id) if element.resource_id else ""
    big = Label(top, kit.px(36), kit.theme.on_container, bold=True, fit=True)
    small = Label(bottom, kit.px(14), kit.theme.on_container)
    return Widget(
        "android.view.ViewGroup",
        frame,
        frame,
        shapes=(Box(frame, kit.theme.container, kit.px(20)),),
        children=(
            Widget(_TEXT_VIEW, top, top, element.text, resource_id=name, label=big),
            Widget(_TEXT_VIEW, bottom, bottom, element.caption, label=small),
        ),
    )


def field(element: Field, kit: Kit, frame: Rect) -> Widget:
    """An outlined text field; its text is the hint while it is empty, as Android tells accessibility services."""
    shown = PASSWORD_DOT * len(element.value) if element.password else element.value
    ink = kit.theme.ink if element.value and element.enabled else kit.theme.muted
    return Widget(
        "android.widget.EditText",
        frame,
        frame,
        shown or element.hint,
        resource_id=kit.name(element.key),
        description=element.hint,
        key=element.key,
        enter=element.enter,
        editable=True,
        password=element.password,
        enabled=element.enabled,
        label=Label(frame.inset(kit.px(16), 0), kit.px(17), ink, keep_end=bool(element.value)),
        shapes=(Box(frame, kit.theme.surface, kit.px(10), kit.theme.line, kit.px(1)),),
    )


def button(element: Button, kit: Kit, frame: Rect) -> Widget:
    """A pill across the column."""
    theme = kit.theme
    fill, ink = (theme.primary, theme.on_primary) if element.strong else (theme.container, theme.on_container)
    if not element.enabled:
        fill, ink = theme.panel, theme.muted
    return Widget(
        "android.widget.Button",
        frame,
        frame,
        element.text,
        resource_id=kit.name(element.resource_id or element.key),
        key=element.key,
        enabled=element.enabled,
        label=Label(frame.inset(kit.px(16), 0), kit.px(16), ink, centred=True),
        shapes=(Box(frame, fill, frame.height // 2),),
    )


def row(element: Row | Fact | Toggle, kit: Kit, frame: Rect) -> Widget:
    """A line of a list: title, what is below it, and what stands at its ends."""
    left, right = frame.left + kit.px(16), frame.right - kit.px(16)
    shapes: list[Shape] = [Box(frame, kit.theme.panel, kit.px(14))]
    children: list[Widget] = []
    if isinstance(element, Row) and element.letter:
        shapes.extend(_row_letter(element, kit, frame))
        left += kit.px(52)
    if isinstance(element, Row):
        shapes.extend(_chevron(kit, right, frame))
        right -= kit.px(20)
    if isinstance(element, Toggle):
        children.append(_switch(element, kit, Rect(right - kit.px(50), frame.top, right, frame.bottom)))
        right -= kit.px(62)
    below = element.value if isinstance(element, Fact) else element.subtitle
    children[:0] = _two_lines(element.title, below, kit, Rect(left, frame.top, right, frame.bottom), _below_id(element))
    key = "" if isinstance(element, Fact) else element.key
    name = kit.name(key) if key else ""
    return Widget(
        "android.widget.LinearLayout",
        frame,
        frame,
        resource_id=name,
        key=key,
        shapes=tuple(shapes),
        children=tuple(children),
    )


def _below_id(element: Row | Fact | Toggle) -> str:
    return element.resource_id if isinstance(element, Fact) and element.resource_id else "android:id/summary"


def _two_lines(title: str, below: str, kit: Kit, frame: Rect, below_id: str) -> list[Widget]:
    if not below:
        label = Label(frame, kit.px(17), kit.theme.ink)
        return [Widget(_TEXT_VIEW, frame, frame, title, resource_id="android:id/title", label=label)]
    middle = frame.top + frame.height * 11 // 20
    upper = Rect(frame.left, frame.top + kit.px(9), frame.right, middle)
    lower = Rect(frame.left, middle, frame.right, frame.bottom - kit.px(9))
    name = below_id if ":" in below_id else kit.name(below_id)
    return [
        Widget(
            _TEXT_VIEW,
            upper,
            upper,
            title,
            resource_id="android:id/title",
            label=Label(upper, kit.px(17), kit.theme.ink),
        ),
        Widget(_TEXT_VIEW, lower, lower, below, resource_id=name, label=Label(lower, kit.px(13), kit.theme.muted)),
    ]


def _row_letter(element: Row, kit: Kit, frame: Rect) -> list[Shape]:
    side = kit.px(38)
    top = frame.top + (frame.height - side) // 2
    tile = Rect(frame.left + kit.px(14), top, frame.left + kit.px(14) + side, top + side)
    ink = kit.theme.on_container
    return [Box(tile, kit.theme.container, side // 2), Glyph(tile, element.letter, kit.px(17), ink)]


def _chevron(kit: Kit, right: int, frame: Rect) -> list[Shape]:
    x, y, arm, pen = right - kit.px(9), frame.centre[1], kit.px(5), kit.px(2)
    return [
        Polygon(
            ((x, y - arm), (x + pen, y - arm), (x + arm + pen, y), (x + pen, y + arm), (x, y + arm), (x + arm, y)),
            kit.theme.muted,
        )
    ]


def _switch(element: Toggle, kit: Kit, area: Rect) -> Widget:
    top = area.top + (area.height - kit.px(30)) // 2
    track = Rect(area.left, top, area.right, top + kit.px(30))
    thumb = kit.px(22)
    x = track.right - thumb - kit.px(4) if element.on else track.left + kit.px(4)
    y = track.top + (track.height - thumb) // 2
    fill = kit.theme.primary if element.on else kit.theme.line
    knob = kit.theme.on_primary if element.on else kit.theme.surface
    return Widget(
        "android.widget.Switch",
        track,
        track,
        resource_id="android:id/switch_widget",
        description=element.title,
        checkable=True,
        checked=element.on,
        shapes=(
            Box(track, fill, track.height // 2),
            Box(Rect(x, y, x + thumb, y + thumb), knob, thumb // 2),
        ),
    )


def up_button(kit: Kit, frame: Rect, key: str) -> Widget:
    """The back arrow of the app bar."""
    x, y = frame.centre
    arm, pen = kit.px(7), kit.px(2)
    head = ((x + arm, y - arm), (x + arm, y - arm + pen * 2), (x - arm + pen * 2, y), (x + arm, y + arm - pen * 2))
    arrow = Polygon((*head, (x + arm, y + arm), (x - arm, y)), kit.theme.ink)
    return Widget(
        "android.widget.ImageButton",
        frame,
        frame,
        description="Navigate up",
        key=key,
        shapes=(Box(frame, kit.theme.surface, frame.height // 2), arrow),
    )


def player(element: Player, kit: Kit, frame: Rect) -> Widget:
    """A dark picture area, its caption, and the button in its middle."""
    dusk, night = shade(kit.hue, 0.16, 0.35), shade(kit.hue, 0.24, 0.4)
    side = kit.px(64)
    x, y = frame.centre
    disc = Rect(x - side // 2, y - side // 2, x - side // 2 + side, y - side // 2 + side)
    press = Widget(
        "android.widget.ImageButton",
        disc,
        disc,
        resource_id=kit.name(element.key),
        description="Pause" if element.playing else "Play",
        key=element.key,
        shapes=(Box(disc, WHITE, side // 2), *_play_sign(element, kit, disc, dusk)),
    )
    line = Rect(frame.left + kit.px(16), frame.bottom - kit.px(34), frame.right - kit.px(16), frame.bottom - kit.px(14))
    caption = Widget(_TEXT_VIEW, line, line, element.caption, label=Label(line, kit.px(13), WHITE))
    hills = Polygon(
        (
            (frame.left + frame.width // 8, frame.bottom - kit.px(40)),
            (frame.left + frame.width * 3 // 8, frame.top + frame.height // 3),
            (frame.left + frame.width * 5 // 8, frame.bottom - kit.px(40)),
        ),
        between(dusk, night, 0.9),
    )
    return Widget(
        "android.view.ViewGroup",
        frame,
        frame,
        resource_id=kit.name("player_view"),
        description="Video player",
        shapes=(Box(frame, dusk, kit.px(16)), hills),
        children=(press, caption),
    )


def _play_sign(element: Player, kit: Kit, disc: Rect, ink: Colour) -> tuple[Shape, ...]:
    x, y = disc.centre
    arm = kit.px(13)
    if element.playing:
        bars = (Rect(x - arm, y - arm, x - arm // 3, y + arm), Rect(x + arm // 3, y - arm, x + arm, y + arm))
        return tuple(Box(bar, ink, kit.px(2)) for bar in bars)
    nudge = kit.px(3)
    return (Polygon(((x - arm + nudge, y - arm), (x + arm + nudge, y), (x - arm + nudge, y + arm)), ink),)


def icons_height(kit: Kit, count: int) -> int:
    """Pixels down of a grid of so many apps."""
    return -(-count // _ICONS_ACROSS) * kit.px(_ICON_CELL_DP)


def icons(element: Icons, kit: Kit, frame: Rect) -> Widget:
    """The launcher's grid."""
    width, height = frame.width // _ICONS_ACROSS, kit.px(_ICON_CELL_DP)
    cells = []
    for number, icon in enumerate(element.icons):
        left = frame.left + number % _ICONS_ACROSS * width
        top = frame.top + number // _ICONS_ACROSS * height
        cells.append(_icon(icon, kit, Rect(left, top, left + width, top + height)))
    return Widget("android.view.ViewGroup", frame, frame, resource_id=kit.name("apps"), children=tuple(cells))


def _icon(icon: Icon, kit: Kit, cell: Rect) -> Widget:
    side = min(kit.px(58), cell.width - kit.px(8))
    left = cell.left + (cell.width - side) // 2
    tile = Rect(left, cell.top + kit.px(8), left + side, cell.top + kit.px(8) + side)
    name = Rect(cell.left, tile.bottom + kit.px(6), cell.right, cell.bottom - kit.px(8))
    tint = shade(icon.hue, 0.46, 0.62)
    return Widget(
        _TEXT_VIEW,
        cell,
        cell,
        icon.label,
        resource_id=kit.name("icon"),
        description=icon.label,
        key=icon.key,
        label=Label(name, kit.px(13), WHITE, centred=True),
        shapes=(Box(tile, tint, kit.px(18)), Glyph(tile, icon.letter, kit.px(28), WHITE)),
    )
