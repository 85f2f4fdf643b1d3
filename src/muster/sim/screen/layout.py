"""Where things are: turns a page into a tree of widgets for the panel's present size, scroll and focus."""

from dataclasses import dataclass, replace

from muster.sim.screen import parts
from muster.sim.screen.elements import (
    Banner,
    Button,
    Element,
    Fact,
    Field,
    Gap,
    Heading,
    Icons,
    Page,
    Player,
    Row,
    Text,
    Toggle,
)
from muster.sim.screen.geometry import Display, Rect
from muster.sim.screen.parts import Kit
from muster.sim.screen.widgets import Box, Label, Shade, Shape, Widget, Window

UP_KEY = "navigate_up"
_SIDE_DP = 20
_BAR_DP = 60
_HEIGHTS_DP = {Heading: 44, Banner: 104, Field: 54, Button: 50, Row: 66, Toggle: 66, Fact: 66}


@dataclass(frozen=True, slots=True)
class View:
    """What the user did to a page: how far it is scrolled (px) and which key has the focus."""

    scroll: int = 0
    focus: str = ""


def lay_out(page: Page, package: str, display: Display, hue: float, view: View) -> Window:
    """The window of a page."""
    kit = Kit.of(package, display, hue, dark=page.dark)
    content = display.content
    bar = _app_bar(page, kit) if page.title else None
    viewport = content if bar is None else Rect(content.left, bar.frame.bottom, content.right, content.bottom)
    rows, bottom = _column(page.elements, kit, viewport)
    scroll_max = max(0, bottom + kit.px(16) - viewport.bottom)
    scroll = min(view.scroll, scroll_max)
    shown = [_seen(row, viewport, -scroll, view.focus, kit) for row in rows]
    column = Widget(
        kind="android.widget.ScrollView",
        frame=viewport,
        bounds=viewport,
        resource_id=kit.name("content"),
        scrollable=scroll_max > 0,
        children=tuple(row for row in shown if not row.bounds.is_empty),
    )
    whole = display.whole
    # The bar is drawn after the column: what scrolls passes beneath it.
    children = (column,) if bar is None else (column, _focused(bar, view.focus, kit))
    root = Widget("android.widget.FrameLayout", whole, whole, shapes=_backdrop(page, kit), children=children)
    return Window(package, root, scroll, scroll_max)


def scroll_to(page: Page, package: str, display: Display, key: str, view: View) -> int:
    """The scroll (px) that brings the widget with this key into sight."""
    window = lay_out(page, package, display, 0.0, View())
    column = window.root.children[0]
    rows, _ = _column(page.elements, Kit.of(package, display, 0.0, dark=False), column.frame)
    frame = next((w.frame for row in rows for w in row.walk() if w.key == key), None)
    if frame is None:
        return view.scroll
    lowest = max(0, frame.bottom - column.frame.bottom)
    highest = max(0, frame.top - column.frame.top)
    return min(max(view.scroll, lowest), highest, window.scroll_max)


def keys_of(page: Page) -> list[str]:
    """What the focus can stand on, in the order it takes, seen or not."""
    keys = [UP_KEY] if page.up else []
    for element in page.elements:
        if isinstance(element, Icons):
            keys.extend(icon.key for icon in element.icons)
        elif isinstance(element, Row | Toggle | Player) or (isinstance(element, Field | Button) and element.enabled):
            keys.append(element.key)
    return keys


def _backdrop(page: Page, kit: Kit) -> tuple[Shape, ...]:
    if page.wallpaper:
        return (Shade(kit.display.whole, kit.wallpaper[0], kit.wallpaper[1], bands=40),)
    return (Box(kit.display.whole, kit.theme.surface),)


def _app_bar(page: Page, kit: Kit) -> Widget:
    top = kit.display.status_bar.bottom
    frame = Rect(0, top, kit.display.width, top + kit.px(_BAR_DP))
    left = kit.px(_SIDE_DP)
    children: list[Widget] = []
    if page.up:
        children.append(parts.up_button(kit, Rect(kit.px(4), top + kit.px(6), kit.px(52), top + kit.px(54)), UP_KEY))
        left = kit.px(60)
    box = Rect(left, frame.top, frame.right - kit.px(_SIDE_DP), frame.bottom)
    label = Label(box, kit.px(21), kit.theme.ink, bold=True)
    children.append(Widget("android.widget.TextView", box, box, page.title, resource_id=kit.name("title"), label=label))
    return Widget(
        "android.view.ViewGroup",
        frame,
        frame,
        resource_id=kit.name("toolbar"),
        shapes=(Box(Rect(0, 0, frame.right, frame.bottom), kit.theme.surface),),
        children=tuple(children),
    )


def _column(elements: tuple[Element, ...], kit: Kit, viewport: Rect) -> tuple[list[Widget], int]:
    """The widgets of the unscrolled column and where it ends."""
    left, right = kit.px(_SIDE_DP), kit.display.width - kit.px(_SIDE_DP)
    top = viewport.top + kit.px(8)
    rows: list[Widget] = []
    for element in elements:
        height = height_of(element, kit, right - left)
        if not isinstance(element, Gap):
            rows.append(_build(element, kit, Rect(left, top, right, top + height)))
        top += height + kit.px(_space_after(element))
    return rows, top


def height_of(element: Element, kit: Kit, width: int) -> int:
    """Pixels down; never depends on the letters, so that bounds are the same with any font."""
    match element:
        case Gap(height_dp=dp):
            height = kit.px(dp)
        case Text(lines=lines, size_dp=size):
            height = lines * kit.px(size * 1.4)
        case Icons(icons=icons):
            height = parts.icons_height(kit, len(icons))
        case Player():
            height = width * 9 // 16
        case _:
            height = kit.px(_HEIGHTS_DP[type(element)])
    return height


def _space_after(element: Element) -> int:
    if isinstance(element, Gap):
        return 0
    return 2 if isinstance(element, Row | Toggle | Fact) else 12


def _build(element: Element, kit: Kit, frame: Rect) -> Widget:
    match element:
        case Heading() | Text() | Banner():
            return parts.writing(element, kit, frame)
        case Field():
            return parts.field(element, kit, frame)
        case Button():
            return parts.button(element, kit, frame)
        case Row() | Fact() | Toggle():
            return parts.row(element, kit, frame)
        case Player():
            return parts.player(element, kit, frame)
        case Icons():
            return parts.icons(element, kit, frame)
        case Gap():
            raise AssertionError("a gap has no widget")


def _seen(widget: Widget, viewport: Rect, dy: int, focus: str, kit: Kit) -> Widget:
    """The widget scrolled by dy, its bounds cut to what can be seen, with the focus where it belongs."""
    frame = widget.frame.moved(0, dy)
    children = tuple(_seen(child, viewport, dy, focus, kit) for child in widget.children)
    moved = replace(
        widget,
        frame=frame,
        bounds=frame.cut(viewport),
        label=replace(widget.label, box=widget.label.box.moved(0, dy)) if widget.label else None,
        shapes=tuple(parts.moved(shape, dy) for shape in widget.shapes),
        children=tuple(child for child in children if not child.bounds.is_empty),
    )
    return parts.with_focus(moved, kit) if focus and widget.key == focus else moved


def _focused(widget: Widget, focus: str, kit: Kit) -> Widget:
    children = tuple(_focused(child, focus, kit) for child in widget.children)
    changed = replace(widget, children=children)
    return parts.with_focus(changed, kit) if focus and widget.key == focus else changed
