"""com.android.settings: a list of pages, each with a few switches or facts."""

from dataclasses import dataclass

from muster.sim.screen.apps.base import Activity, App, Move, Open
from muster.sim.screen.elements import Fact, Page, Row, Toggle

PACKAGE = "com.android.settings"
MAIN, PAGE = ".Settings", ".SubSettings"


@dataclass(frozen=True, slots=True)
class _Section:
    """One page: its rows are (key, title, what is below it, shipped state)."""

    key: str
    title: str
    subtitle: str
    switches: tuple[tuple[str, str, str, bool], ...]


_SECTIONS = (
    _Section(
        "network",
        "Network & internet",
        "Wi-Fi, airplane mode",
        (
            ("wifi", "Wi-Fi", "Muster-Lab", True),
            ("mobile_data", "Mobile data", "No SIM card", False),
            ("airplane_mode", "Airplane mode", "All radios off", False),
        ),
    ),
    _Section(
        "display",
        "Display",
        "Dark theme, brightness",
        (
            ("dark_theme", "Dark theme", "For system pages", False),
            ("adaptive_brightness", "Adaptive brightness", "By the light around", True),
            ("auto_rotate", "Auto-rotate screen", "", False),
        ),
    ),
    _Section(
        "sound",
        "Sound & vibration",
        "Volume, do not disturb",
        (("do_not_disturb", "Do not disturb", "", True), ("touch_sounds", "Touch sounds", "", False)),
    ),
    _Section(
        "battery",
        "Battery",
        "Saver, percentage",
        (("battery_saver", "Battery saver", "", False), ("adaptive_battery", "Adaptive battery", "", True)),
    ),
    _Section("apps", "Apps", "Unused apps", (("pause_unused", "Pause unused apps", "After three months", False),)),
    _Section(
        "accessibility",
        "Accessibility",
        "Magnification, contrast",
        (("magnification", "Magnification", "", False), ("high_contrast", "High-contrast text", "", False)),
    ),
    _Section(
        "developer",
        "Developer options",
        "USB debugging, stay awake",
        (
            ("usb_debugging", "USB debugging", "Debug mode when USB is connected", True),
            ("stay_awake", "Stay awake", "Screen stays on while charging", True),
        ),
    ),
    _Section(
        "system",
        "System",
        "Languages, date & time",
        (("automatic_time", "Set time automatically", "", True), ("use_24_hours", "Use 24-hour format", "", True)),
    ),
    _Section("about", "About phone", "", ()),
)
_BY_KEY = {section.key: section for section in _SECTIONS}
ACTIONS = {
    "android.settings.SETTINGS": "",
    "android.settings.WIFI_SETTINGS": "network",
    "android.settings.WIRELESS_SETTINGS": "network",
    "android.settings.AIRPLANE_MODE_SETTINGS": "network",
    "android.settings.DISPLAY_SETTINGS": "display",
    "android.settings.SOUND_SETTINGS": "sound",
    "android.settings.BATTERY_SAVER_SETTINGS": "battery",
    "android.settings.APPLICATION_SETTINGS": "apps",
    "android.settings.MANAGE_APPLICATIONS_SETTINGS": "apps",
    "android.settings.APPLICATION_DETAILS_SETTINGS": "apps",
    "android.settings.ACCESSIBILITY_SETTINGS": "accessibility",
    "android.settings.APPLICATION_DEVELOPMENT_SETTINGS": "developer",
    "android.settings.BLUETOOTH_SETTINGS": "network",
    "android.settings.LOCALE_SETTINGS": "system",
    "android.settings.INPUT_METHOD_SETTINGS": "system",
    "android.settings.DATE_SETTINGS": "system",
    "android.settings.DEVICE_INFO_SETTINGS": "about",
}


class SettingsApp(App):
    """The phone's own settings; switches here are the picture's only, not the `settings` command's."""

    package = PACKAGE
    label = "Settings"
    main = MAIN
    activities = (MAIN, PAGE)

    def __init__(self, device_id: str, model: str) -> None:
        super().__init__()
        self._device_id, self._model = device_id, model
        self.clear()

    def clear(self) -> None:
        """All switches as shipped."""
        self._on = {key: on for section in _SECTIONS for key, _, _, on in section.switches}

    def begin(self, name: str, argument: str) -> Activity | None:
        """A sub-page needs to be one that exists."""
        if name == PAGE and argument not in _BY_KEY:
            return None
        return super().begin(name, argument)

    def page(self, activity: Activity) -> Page:
        """The list, or one section."""
        dark = self._on["dark_theme"]
        if activity.name == MAIN:
            rows = tuple(
                Row(section.key, section.title, section.subtitle or self._model, letter=section.title[0])
                for section in _SECTIONS
            )
            return Page(rows, title="Settings", dark=dark)
        section = _BY_KEY[activity.argument]
        if section.key == "about":
            return Page(self._about(), title=section.title, up=True, dark=dark)
        toggles = tuple(Toggle(key, title, below, self._on[key]) for key, title, below, _ in section.switches)
        return Page(toggles, title=section.title, up=True, dark=dark)

    def press(self, activity: Activity, key: str) -> Move | None:
        """Open a section or flip a switch."""
        if activity.name == MAIN:
            return Open(PACKAGE, PAGE, key)
        self._on[key] = not self._on[key]
        return None

    def _about(self) -> tuple[Fact, ...]:
        return (
            Fact("Device name", self._device_id),
            Fact("Model", self._model),
            Fact("Kind", "Virtual phone of the Muster rack"),
        )
