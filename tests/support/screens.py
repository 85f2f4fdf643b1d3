"""Screens in known states, and dumps read back as a client reads them."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass

from muster.sim.screen import Screen, ScreenSpec, SignInPolicy

VIDEO = "https://www.youtube.com/watch?v=dQw4w9WgXcQ"
TAB, ENTER, BACK, HOME, RECENTS, MENU, DELETE = 61, 66, 4, 3, 187, 82, 67


@dataclass(frozen=True)
class Node:
    """One node of a dump."""

    text: str
    resource_id: str
    description: str
    kind: str
    clickable: bool
    focused: bool
    checked: bool
    password: bool
    scrollable: bool
    bounds: tuple[int, int, int, int]

    @property
    def centre(self) -> tuple[int, int]:
        left, top, right, bottom = self.bounds
        return (left + right) // 2, (top + bottom) // 2


def new_screen(
    device_id: str = "R3CW0000001", *, size: tuple[int, int, int] = (1080, 2400, 420), seed: int = 7
) -> Screen:
    """A phone fresh from its boot."""
    return Screen(ScreenSpec(device_id, "SM-S911N", *size, seed))


def nodes_of(dump: str) -> list[Node]:
    """All nodes, in document order."""
    return [_node(element.attrib) for element in ET.fromstring(dump).iter("node")]


def find(screen: Screen, wanted: str) -> Node:
    """The node with this text, or whose resource id ends in `/wanted`."""
    nodes = nodes_of(screen.dump())
    return next(node for node in nodes if node.text == wanted or node.resource_id.endswith("/" + wanted))


def tap(screen: Screen, wanted: str) -> None:
    """Taps the centre of a node."""
    screen.tap(*find(screen, wanted).centre)


def texts(screen: Screen) -> list[str]:
    """Every text that the dump tells."""
    return [node.text for node in nodes_of(screen.dump()) if node.text]


def _node(attributes: dict[str, str]) -> Node:
    numbers = re.fullmatch(r"\[(-?\d+),(-?\d+)\]\[(-?\d+),(-?\d+)\]", attributes["bounds"])
    assert numbers is not None
    left, top, right, bottom = (int(number) for number in numbers.groups())
    flags = {name: attributes[name] == "true" for name in ("clickable", "focused", "checked", "password", "scrollable")}
    return Node(
        attributes["text"],
        attributes["resource-id"],
        attributes["content-desc"],
        attributes["class"],
        bounds=(left, top, right, bottom),
        **flags,
    )


def _open_example(screen: Screen) -> None:
    assert screen.start("android.intent.action.MAIN", "com.example.app", None, None)


def _typed(screen: Screen) -> None:
    _open_example(screen)
    screen.text("demo@example.com")
    screen.key(TAB)
    screen.text("muster-demo")


def _wrong(screen: Screen) -> None:
    _open_example(screen)
    screen.text("demo@example.com")
    screen.key(TAB)
    screen.text("guess")
    screen.key(ENTER)


def _waiting(screen: Screen) -> None:
    screen.set_sign_in(SignInPolicy(delay_sec=30.0))
    _typed(screen)
    screen.key(ENTER)


def _signed_in(screen: Screen) -> None:
    _typed(screen)
    screen.key(ENTER)


def _app_settings(screen: Screen) -> None:
    _signed_in(screen)
    tap(screen, "settings")


def _dark_settings(screen: Screen) -> None:
    _app_settings(screen)
    tap(screen, "dark_theme")


def _video(screen: Screen) -> None:
    assert screen.start("android.intent.action.VIEW", None, None, VIDEO)


def _described(screen: Screen) -> None:
    _video(screen)
    tap(screen, "description")


def _recents(screen: Screen) -> None:
    _video(screen)
    _open_example(screen)
    screen.key(RECENTS)


def _locked(screen: Screen) -> None:
    screen.sleep()
    screen.wake()


def _intent(action: str, data: str | None = None) -> Callable[[Screen], None]:
    def go(screen: Screen) -> None:
        assert screen.start(action, None, None, data)

    return go


def _dialog(kind: str) -> Callable[[Screen], None]:
    def go(screen: Screen) -> None:
        _video(screen)
        screen.show_dialog(kind)

    return go


def _installed(screen: Screen) -> None:
    assert screen.install("com.example.notes", "Notes")
    assert screen.start(None, "com.example.notes", None, None)


STATES: dict[str, Callable[[Screen], None]] = {
    "launcher": lambda screen: None,
    "recents": _recents,
    "recents_empty": lambda screen: screen.key(RECENTS),
    "locked": _locked,
    "asleep": lambda screen: screen.sleep(),
    "sign_in": _open_example,
    "sign_in_typed": _typed,
    "sign_in_wrong": _wrong,
    "sign_in_waiting": _waiting,
    "home": _signed_in,
    "app_settings": _app_settings,
    "app_settings_dark": _dark_settings,
    "system_settings": _intent("android.settings.SETTINGS"),
    "system_display": _intent("android.settings.DISPLAY_SETTINGS"),
    "system_about": _intent("android.settings.DEVICE_INFO_SETTINGS"),
    "video": _video,
    "video_described": _described,
    "video_home": lambda screen: _launch(screen, "com.google.android.youtube"),
    "browser": _intent("android.intent.action.VIEW", "https://example.com/a?b=1&c=<2>"),
    "installed_app": _installed,
    "dialog_update": _dialog("update"),
    "dialog_permission": _dialog("permission"),
    "dialog_low_battery": _dialog("low_battery"),
    "dialog_anr": _dialog("anr"),
    "dialog_crash": _dialog("crash"),
}


def _launch(screen: Screen, package: str) -> None:
    assert screen.start(None, package, None, None)
