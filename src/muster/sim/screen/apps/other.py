"""The launcher, the recents list, a page for links that are no videos, and a page for any installed package."""

from collections.abc import Callable, Sequence

from muster.sim.screen.apps.base import Activity, App, CloseAll, Launch, Move
from muster.sim.screen.elements import Banner, Button, Fact, Gap, Heading, Icon, Icons, Page, Row, Text, Tone
from muster.sim.screen.theme import hue_of

LAUNCHER = "com.android.launcher3"
BROWSER = "com.android.chrome"
DESKTOP, RECENTS = ".Launcher", ".RecentsActivity"

Listing = Callable[[], Sequence[tuple[str, str]]]
"""Gives (package, label) pairs."""


class LauncherApp(App):
    """The home screen, with a card that says which phone this is, and the recents list."""

    package = LAUNCHER
    label = "Home"
    main = DESKTOP
    activities = (DESKTOP, RECENTS)

    def __init__(self, device_id: str, model: str, installed: Listing, recent: Listing) -> None:
        super().__init__()
        self._device_id, self._model = device_id, model
        self._installed, self._recent = installed, recent

    def page(self, activity: Activity) -> Page:
        """The desktop or the recents."""
        if activity.name == DESKTOP:
            icons = tuple(
                Icon(package, label, label[:1].upper(), hue_of(package, 3)) for package, label in self._installed()
            )
            card = Banner(self._device_id, self._model, resource_id="device_card")
            return Page((Gap(24), card, Gap(28), Icons(icons)), wallpaper=True)
        rows = tuple(Row(package, label, package, letter=label[:1].upper()) for package, label in self._recent())
        if not rows:
            return Page((Gap(24), Text("No recent apps", tone=Tone.MUTED, resource_id="empty")), title="Recents")
        return Page((*rows, Gap(8), Button("clear_all", "Clear all", strong=False)), title="Recents")

    def press(self, activity: Activity, key: str) -> Move | None:
        """An icon or a recent app comes to the front."""
        return CloseAll() if key == "clear_all" else Launch(key)


class BrowserApp(App):
    """Shows which address it was asked for; a virtual phone has no internet."""

    package = BROWSER
    label = "Browser"
    main = ".Main"
    activities = (".Main",)

    def __init__(self) -> None:
        super().__init__()
        self._tries = 0

    def page(self, activity: Activity) -> Page:
        """The address and why nothing is shown."""
        address = Fact("Address", activity.argument or "about:blank", resource_id="url_bar")
        text = Text("This phone is virtual and has no internet.", lines=2, tone=Tone.MUTED)
        again = (Text(f"Tried {self._tries} times", tone=Tone.MUTED, resource_id="tries"),) if self._tries else ()
        return Page(
            (address, Gap(24), Heading("No connection"), text, *again, Button("reload", "Try again")), title="Browser"
        )

    def press(self, activity: Activity, key: str) -> Move | None:
        """Trying again changes nothing but the count."""
        self._tries += 1
        return None


class InstalledApp(App):
    """A package that somebody installed: one page with its name and a counter to tap."""

    def __init__(self, package: str, label: str) -> None:
        super().__init__()
        self.package, self.label = package, label
        self._taps = 0

    def clear(self) -> None:
        """Back to nought."""
        self._taps = 0

    def page(self, activity: Activity) -> Page:
        """Name, package and counter."""
        return Page(
            (
                Gap(16),
                Heading(self.label),
                Fact("Package", self.package),
                Fact("Taps", str(self._taps), resource_id="taps"),
                Gap(12),
                Button("tap", "Tap me"),
            ),
            title=self.label,
        )

    def press(self, activity: Activity, key: str) -> Move | None:
        """Counts."""
        self._taps += 1
        return None
