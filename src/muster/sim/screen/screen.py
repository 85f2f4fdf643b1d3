"""The screen of one virtual phone: input goes in, a picture and an accessibility dump come out, both from one tree."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from muster.sim.screen import system
from muster.sim.screen.apps.base import Activity
from muster.sim.screen.apps.example import PACKAGE as EXAMPLE_PACKAGE
from muster.sim.screen.apps.example import ExampleApp, SignInPolicy
from muster.sim.screen.apps.other import BrowserApp
from muster.sim.screen.apps.settings import SettingsApp
from muster.sim.screen.apps.video import VideoApp
from muster.sim.screen.desk import Desk
from muster.sim.screen.dialogs import DIALOGS_MAX, Dialog, DialogKind, lay_out_dialog
from muster.sim.screen.dump import dump
from muster.sim.screen.elements import Field, Page
from muster.sim.screen.geometry import Display, clamped
from muster.sim.screen.layout import UP_KEY, View, keys_of, lay_out, scroll_to
from muster.sim.screen.render import render
from muster.sim.screen.theme import BLACK, hue_of
from muster.sim.screen.widgets import Scene, Widget, Window

FIELD_CHARS_MAX = 500
_TAP_SLOP_DP = 8  # a shorter swipe is a tap
_EDGE_DP = 24  # swipes that begin here are the system's: up from the bottom is HOME, in from a side is BACK
_HOME, _BACK, _POWER, _MENU, _RECENTS, _SLEEP, _WAKEUP = 3, 4, 26, 82, 187, 223, 224
_NEXT_KEYS = frozenset({61, 20, 22})  # TAB, DPAD_DOWN, DPAD_RIGHT
_PREVIOUS_KEYS = frozenset({19, 21})  # DPAD_UP, DPAD_LEFT
_ENTER_KEYS = frozenset({66, 23, 160})  # ENTER, DPAD_CENTER, NUMPAD_ENTER
_DELETE = 67


@dataclass(frozen=True)
class ScreenSpec:
    """Which phone this is and what panel it has (px, dpi); the seed gives its colour."""

    device_id: str
    model: str
    width: int
    height: int
    density: int
    seed: int


class Screen:
    """Starts awake and unlocked on the desktop. Same spec and same calls give the same bytes and the same dump."""

    def __init__(self, spec: ScreenSpec) -> None:
        self._spec = spec
        self._panel = self._display = Display(spec.width, spec.height, spec.density)
        self._hue = hue_of(spec.device_id, spec.seed)
        self._example = ExampleApp()
        self._desk = Desk((self._example, SettingsApp(spec.device_id, spec.model), VideoApp(), BrowserApp()))
        self._desk.add_launcher(spec.device_id, spec.model)
        self._dialogs: list[Dialog] = []
        self._awake, self._locked = True, False
        self._crash_at: str | None = None
        self._last: tuple[Scene, bytes] | None = None  # the one picture kept: equal scenes need no second drawing

    # What the phone's shell asks

    @property
    def size(self) -> tuple[int, int, int]:
        """Width and height (px) and density (dpi) as they are set now."""
        return self._display.width, self._display.height, self._display.density

    @property
    def is_awake(self) -> bool:
        """Is the panel on?"""
        return self._awake

    @property
    def is_locked(self) -> bool:
        """Is the lock screen in front (or behind the dark panel)?"""
        return self._locked

    def current_focus(self) -> str:
        """The focused window as `dumpsys window` names it, e.g. `com.example.app/.SignInActivity`."""
        if self._locked or not self._awake:
            return system.KEYGUARD_FOCUS
        return self._dialogs[-1].component if self._dialogs else self._desk.top.component

    def packages(self) -> Mapping[str, str]:
        """Each installed package with its launcher activity, e.g. `com.example.app/.SignInActivity`."""
        return MappingProxyType({package: f"{package}/{app.main}" for package, app in self._desk.apps.items()})

    def png(self) -> bytes:
        """The panel as a PNG at its present size."""
        scene = self._scene()
        if self._last is None or self._last[0] != scene:
            self._last = (scene, render(scene))
        return self._last[1]

    def dump(self) -> str:
        """The focused window as `uiautomator dump` writes it."""
        return dump(self._scene().front)

    # What happens to the phone

    def advance(self, now: float) -> None:
        """Tells the time (monotonic s); call it before reading or touching, so that slow answers arrive."""
        for app in self._desk.apps.values():
            app.now = now

    def resize(self, width: int, height: int, density: int) -> None:
        """Sets the panel's size and density, clamped as Android's window manager does."""
        self._display = clamped(width, height, density, self._panel)

    def wake(self) -> None:
        """Panel on; a phone that slept shows its lock screen."""
        self._awake = True

    def sleep(self) -> None:
        """Panel off, and locked."""
        self._awake, self._locked = False, True

    def unlock(self) -> None:
        """Takes the lock screen away, as `wm dismiss-keyguard` does on a phone without a code."""
        if self._awake:
            self._locked = False

    def start(self, action: str | None, package: str | None, component: str | None, data: str | None) -> bool:
        """Starts what the intent resolves to; False when nothing does."""
        return self._desk.start(action, package, component, data)

    def force_stop(self, package: str) -> None:
        """Ends an app; what it has stored stays."""
        self._desk.stop(package)

    def clear_data(self, package: str) -> bool:
        """Ends an app and forgets what it stored (`pm clear`); False when it is not installed."""
        app = self._desk.apps.get(package)
        if app is None:
            return False
        self._desk.stop(package)
        app.clear()
        return True

    def install(self, package: str, label: str | None = None) -> bool:
        """Adds an app with a page of its own; False when it is there already or there is no room."""
        return self._desk.install(package, label or package.rpartition(".")[2].capitalize())

    def uninstall(self, package: str) -> bool:
        """Removes an app and what it stored; False for an unknown one and for the system's own."""
        return self._desk.uninstall(package)

    # Input

    def tap(self, x: float, y: float) -> None:
        """A finger at a point (px)."""
        if self._awake and not self._locked:
            widget = self._scene().front.root.at(x, y)
            if widget is not None:
                self._press(widget)

    def swipe(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A finger from one point to another (px): scrolls, unlocks, or is a system gesture at an edge."""
        px, (width, height) = self._display.px, (self._display.width, self._display.height)
        if max(abs(x2 - x1), abs(y2 - y1)) < px(_TAP_SLOP_DP):
            self.tap(x1, y1)
        elif not self._awake:
            return
        elif self._locked:
            self._locked = y1 - y2 < height / 5
        elif self._dialogs:
            return
        elif y1 > height - px(_EDGE_DP) and y2 < y1:
            self._desk.home()
        elif abs(x2 - x1) > abs(y2 - y1) and not px(_EDGE_DP) <= x1 <= width - px(_EDGE_DP):
            self._desk.back()
        else:
            self._scroll(round(y1 - y2))

    def text(self, value: str) -> None:
        """Types into the focused field; without one nothing happens, as on a phone."""
        field = self._focused_field()
        if field is not None:
            printable = "".join(char for char in value if char.isprintable())
            self._desk.top.fields[field.key] = (field.value + printable)[:FIELD_CHARS_MAX]

    def key(self, code: int) -> None:
        """A key by Android's key code; unknown ones do nothing."""
        if code in {_POWER, _SLEEP, _WAKEUP}:
            turned_on = code == _WAKEUP or (code == _POWER and not self._awake)
            if turned_on:
                self.wake()
            else:
                self.sleep()
        elif not self._awake:
            return
        elif self._locked:
            if code == _MENU:
                self.unlock()
        else:
            self._key_to_front(code)

    # Faults

    def show_dialog(self, kind: str, package: str = EXAMPLE_PACKAGE) -> None:
        """Puts a dialog (`update`, `permission`, `low_battery`, `anr`, `crash`) above everything."""
        app = self._desk.apps.get(package)
        dialog = Dialog(DialogKind(kind), package, app.label if app else package)
        kept = [other for other in self._dialogs if (other.kind, other.subject) != (dialog.kind, package)]
        self._dialogs = [*kept, dialog][-DIALOGS_MAX:]

    def close_dialogs(self) -> None:
        """Takes them all away, unanswered: what a boot does."""
        self._dialogs = []

    def set_sign_in(self, policy: SignInPolicy) -> None:
        """Changes how the example app's server answers from now on."""
        self._example.policy = policy

    def crash(self, package: str) -> None:
        """Ends an app as an uncaught exception does, with the dialog that says so."""
        self._desk.stop(package)
        self.show_dialog(DialogKind.CRASH, package)

    def crash_at(self, resource_id: str | None) -> None:
        """From now on a press on this widget crashes its app; None: no more."""
        self._crash_at = resource_id

    # Within

    def _scene(self) -> Scene:
        display = self._display
        if not self._awake:
            return Scene(display.whole, BLACK, (system.darkness(display),), ())
        if self._locked:
            window = system.keyguard(display, self._hue, self._spec.device_id, self._spec.model)
            return Scene(display.whole, BLACK, (window,), self._bars(Page((), wallpaper=True)))
        top, page = self._top_page()
        windows: tuple[Window, ...] = (self._lay_out(top, page),)
        if self._dialogs:
            windows += (lay_out_dialog(self._dialogs[-1], display, self._hue),)
        return Scene(display.whole, BLACK, windows, self._bars(page))

    def _bars(self, page: Page) -> tuple[Widget, ...]:
        return system.bars(self._display, self._hue, self._spec.device_id, dark=page.dark, clear=page.wallpaper)

    def _top_page(self) -> tuple[Activity, Page]:
        top = self._desk.top
        return top, self._desk.app.page(top)

    def _lay_out(self, top: Activity, page: Page) -> Window:
        return lay_out(page, top.package, self._display, self._hue, View(top.scroll, top.focus))

    def _press(self, widget: Widget) -> None:
        if self._dialogs:
            self._answer(self._dialogs[-1], widget.key)
            return
        top = self._desk.top
        if widget.resource_id == self._crash_at and self._crash_at is not None:
            self.crash(top.package)
        elif widget.editable:
            top.focus = widget.key
        elif widget.key == UP_KEY:
            self._desk.up()
        else:
            self._desk.follow(self._desk.app.press(top, widget.key))

    def _answer(self, dialog: Dialog, key: str) -> None:
        self._dialogs.pop()
        if dialog.ends_app(key):
            self._desk.stop(dialog.subject)
        self._desk.follow(dialog.leads_to(key))

    def _scroll(self, pixels: int) -> None:
        top, page = self._top_page()
        window = self._lay_out(top, page)
        top.scroll = min(max(window.scroll + pixels, 0), window.scroll_max)

    def _key_to_front(self, code: int) -> None:
        if code == _HOME:
            self._desk.home()
        elif code == _RECENTS:
            self._desk.recents()
        elif code == _BACK:
            self._back()
        elif code in _NEXT_KEYS:
            self._move_focus(1)
        elif code in _PREVIOUS_KEYS:
            self._move_focus(-1)
        elif code in _ENTER_KEYS:
            self._enter()
        elif code == _DELETE and (field := self._focused_field()) is not None:
            self._desk.top.fields[field.key] = field.value[:-1]

    def _back(self) -> None:
        if not self._dialogs:
            self._desk.back()
        elif self._dialogs[-1].is_cancellable:
            self._dialogs.pop()

    def _move_focus(self, step: int) -> None:
        if self._dialogs:
            dialog = self._dialogs[-1]
            dialog.focus = _neighbour(dialog.keys(), dialog.focus, step)
            return
        top, page = self._top_page()
        top.focus = _neighbour(keys_of(page), top.focus, step)
        if top.focus:
            top.scroll = scroll_to(page, top.package, self._display, top.focus, View(top.scroll))

    def _enter(self) -> None:
        field = self._focused_field()
        if field is not None and not field.enter:
            self._move_focus(1)
            return
        wanted = field.enter if field is not None else self._focus()
        widget = next((w for w in self._scene().front.root.walk() if w.clickable and w.key == wanted), None)
        if widget is not None:
            self._press(widget)

    def _focus(self) -> str:
        return self._dialogs[-1].focus if self._dialogs else self._desk.top.focus

    def _focused_field(self) -> Field | None:
        if self._dialogs or self._locked or not self._awake:
            return None
        top, page = self._top_page()
        fields = (element for element in page.elements if isinstance(element, Field) and element.enabled)
        return next((field for field in fields if field.key == top.focus), None)


def _neighbour(keys: list[str], now: str, step: int) -> str:
    """The key after (or before) the present one, round the end; the first (or last) when none has the focus."""
    if not keys:
        return ""
    if now not in keys:
        return keys[0 if step > 0 else -1]
    return keys[(keys.index(now) + step) % len(keys)]
