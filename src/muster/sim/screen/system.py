"""What belongs to no app: the status bar, the gesture pill, the lock screen and the dark panel."""

from muster.sim.screen.elements import Banner
from muster.sim.screen.geometry import Display, Rect
from muster.sim.screen.parts import Kit, writing
from muster.sim.screen.theme import BLACK, WHITE, Colour
from muster.sim.screen.widgets import Box, Label, Polygon, Shade, Shape, Widget, Window

PACKAGE = "com.android.systemui"
KEYGUARD_FOCUS = "NotificationShade"  # what a phone tells as its focused window while it is locked or asleep


def bars(display: Display, hue: float, device_id: str, *, dark: bool, clear: bool) -> tuple[Widget, ...]:
    """Status bar and gesture pill; `clear`: over a wallpaper. Where others show a clock stands the phone's id."""
    kit = Kit.of(PACKAGE, display, hue, dark=dark)
    ink = WHITE if clear else kit.theme.ink
    fill: tuple[Shape, ...] = () if clear else (Box(display.nav_bar, kit.theme.surface),)
    pill = Rect(0, 0, kit.px(112), kit.px(4))
    x, y = display.nav_bar.centre
    handle = Box(pill.moved(x - pill.width // 2, y - pill.height // 2), ink, kit.px(2))
    bottom = Widget("android.view.View", display.nav_bar, display.nav_bar, shapes=(*fill, handle))
    frame = display.status_bar
    top: tuple[Shape, ...] = () if clear else (Box(frame, kit.theme.surface),)
    box = Rect(kit.px(20), frame.top + kit.px(3), frame.right - kit.px(76), frame.bottom)
    label = Label(box, kit.px(14), ink, bold=True)
    shapes = (*top, *_icons(kit, frame, ink))
    return (Widget("android.widget.TextView", frame, frame, device_id, label=label, shapes=shapes), bottom)


def _icons(kit: Kit, frame: Rect, ink: Colour) -> tuple[Shape, ...]:
    """Wi-Fi and a charging battery, from right to left."""
    bottom, height = frame.centre[1] + kit.px(7), kit.px(12)
    battery = Rect(frame.right - kit.px(28), bottom - height, frame.right - kit.px(20), bottom)
    nub = Rect(battery.left + kit.px(2), battery.top - kit.px(2), battery.right - kit.px(2), battery.top)
    tip, half = frame.right - kit.px(44), kit.px(8)
    wifi = Polygon(((tip - half, bottom - height), (tip + half, bottom - height), (tip, bottom)), ink)
    return (Box(battery, ink, kit.px(2)), Box(nub, ink), wifi)


def keyguard(display: Display, hue: float, device_id: str, model: str) -> Window:
    """The lock screen: which phone this is, and how to unlock it."""
    kit = Kit.of(PACKAGE, display, hue, dark=False)
    whole, side = display.whole, kit.px(28)
    third = display.height // 3
    card = writing(
        Banner(device_id, model, resource_id="device_card"),
        kit,
        Rect(side, third - kit.px(52), display.width - side, third + kit.px(52)),
    )
    box = Rect(side, display.nav_bar.top - kit.px(72), display.width - side, display.nav_bar.top - kit.px(40))
    hint = Widget(
        "android.widget.TextView",
        box,
        box,
        "Swipe up to unlock",
        resource_id=kit.name("keyguard_indication_text"),
        label=Label(box, kit.px(16), WHITE, centred=True),
    )
    backdrop = Shade(whole, kit.wallpaper[0], kit.wallpaper[1], bands=40)
    root = Widget("android.widget.FrameLayout", whole, whole, shapes=(backdrop,), children=(card, hint))
    return Window(PACKAGE, root)


def darkness(display: Display) -> Window:
    """The panel is off."""
    whole = display.whole
    return Window(PACKAGE, Widget("android.widget.FrameLayout", whole, whole, shapes=(Box(whole, BLACK),)))
