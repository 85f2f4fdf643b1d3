"""Dialogs that stand above everything: an update, a permission, a low battery, an app that hangs or has crashed."""

from dataclasses import dataclass
from enum import StrEnum

from muster.sim.screen.apps import settings
from muster.sim.screen.apps.base import Move, Open
from muster.sim.screen.elements import DialogPage
from muster.sim.screen.geometry import Display, Rect
from muster.sim.screen.parts import Kit, with_focus
from muster.sim.screen.widgets import Box, Label, Widget, Window

DIALOGS_MAX = 8


class DialogKind(StrEnum):
    """The dialogs that a rack can show."""

    UPDATE = "update"
    PERMISSION = "permission"
    LOW_BATTERY = "low_battery"
    ANR = "anr"
    CRASH = "crash"


@dataclass(slots=True)
class Dialog:
    """One open dialog about one app."""

    kind: DialogKind
    subject: str  # package
    label: str
    focus: str = ""

    @property
    def is_cancellable(self) -> bool:
        """Does BACK close it?"""
        return self.kind in {DialogKind.UPDATE, DialogKind.LOW_BATTERY}

    @property
    def component(self) -> str:
        """What `dumpsys window` names while it has the focus."""
        return _COMPONENTS[self.kind].format(subject=self.subject)

    def page(self) -> DialogPage:
        """What it says."""
        return _pages(self.label)[self.kind]

    def keys(self) -> list[str]:
        """Its buttons' keys, in the order the focus takes."""
        return [key for key, _, _ in self.page().buttons]

    def ends_app(self, key: str) -> bool:
        """Does this button close the app?"""
        return key == "close_app"

    def leads_to(self, key: str) -> Move | None:
        """Where a button leads, once the dialog is closed."""
        sections = {"app_info": "apps", "battery_saver": "battery"}
        return Open(settings.PACKAGE, settings.PAGE, sections[key]) if key in sections else None


_COMPONENTS = {
    DialogKind.UPDATE: "com.android.vending/.UpdateDialog",
    DialogKind.PERMISSION: "com.android.permissioncontroller/.permission.ui.GrantPermissionsActivity",
    DialogKind.LOW_BATTERY: "com.android.systemui/.LowBatteryDialog",
    DialogKind.ANR: "Application Not Responding: {subject}",
    DialogKind.CRASH: "Application Error: {subject}",
}
_PERMISSION_ID = "com.android.permissioncontroller:id/permission_{}_button"


def _pages(label: str) -> dict[DialogKind, DialogPage]:
    return {
        DialogKind.UPDATE: DialogPage(
            "com.android.vending",
            f"Update {label}?",
            "A newer version is ready to be installed.",
            (("later", "Not now", "android:id/button2"), ("update", "Update", "android:id/button1")),
        ),
        DialogKind.PERMISSION: DialogPage(
            "com.android.permissioncontroller",
            "Notifications",
            f"Allow {label} to send you notifications?",
            (
                ("deny", "Don't allow", _PERMISSION_ID.format("deny")),
                ("allow", "Allow", _PERMISSION_ID.format("allow")),
            ),
        ),
        DialogKind.LOW_BATTERY: DialogPage(
            "com.android.systemui",
            "Battery is low",
            "Plug in the charger or save what is left.",
            (("battery_saver", "Battery saver", "android:id/button2"), ("dismiss", "Got it", "android:id/button1")),
        ),
        DialogKind.ANR: DialogPage(
            "android",
            f"{label} isn't responding",
            "Close it, or wait until it answers again.",
            (("close_app", "Close app", "android:id/aerr_close"), ("wait", "Wait", "android:id/aerr_wait")),
        ),
        DialogKind.CRASH: DialogPage(
            "android",
            f"{label} keeps stopping",
            "The app has been closed.",
            (("app_info", "App info", "android:id/aerr_app_info"), ("close_app", "Close app", "android:id/aerr_close")),
        ),
    }


def lay_out_dialog(dialog: Dialog, display: Display, hue: float) -> Window:
    """A card in the middle of the panel; only the card belongs to its window, as on a phone."""
    page = dialog.page()
    kit = Kit.of(page.package, display, hue, dark=False)
    width = min(display.width - 2 * kit.px(24), kit.px(340))
    height = kit.px(190)
    left, top = (display.width - width) // 2, (display.height - height) // 2
    card = Rect(left, top, left + width, top + height)
    pad = kit.px(24)
    title = Rect(card.left + pad, card.top + kit.px(20), card.right - pad, card.top + kit.px(54))
    message = Rect(title.left, title.bottom + kit.px(4), title.right, title.bottom + kit.px(52))
    children = (
        _line(page.title, "android:id/alertTitle", Label(title, kit.px(20), kit.theme.ink, bold=True)),
        _line(page.message, "android:id/message", Label(message, kit.px(15), kit.theme.muted, lines=2)),
        *_buttons(dialog, page, kit, card),
    )
    root = Widget(
        "android.widget.FrameLayout", card, card, shapes=(Box(card, kit.theme.surface, kit.px(26)),), children=children
    )
    return Window(page.package, root)


def _line(text: str, name: str, label: Label) -> Widget:
    return Widget("android.widget.TextView", label.box, label.box, text, resource_id=name, label=label)


def _buttons(dialog: Dialog, page: DialogPage, kit: Kit, card: Rect) -> list[Widget]:
    pad, gap, height = kit.px(20), kit.px(10), kit.px(44)
    width = (card.width - 2 * pad - gap * (len(page.buttons) - 1)) // len(page.buttons)
    made = []
    for number, (key, text, name) in enumerate(page.buttons):
        left = card.left + pad + number * (width + gap)
        frame = Rect(left, card.bottom - kit.px(18) - height, left + width, card.bottom - kit.px(18))
        strong = number == len(page.buttons) - 1
        fill, ink = (
            (kit.theme.primary, kit.theme.on_primary) if strong else (kit.theme.container, kit.theme.on_container)
        )
        label = Label(frame.inset(kit.px(8), 0), kit.px(15), ink, centred=True)
        button = Widget(
            "android.widget.Button",
            frame,
            frame,
            text,
            resource_id=name,
            key=key,
            label=label,
            shapes=(Box(frame, fill, height // 2),),
        )
        made.append(with_focus(button, kit) if dialog.focus == key else button)
    return made
