"""What an app is: pages made from its state, and state changed by presses. No pixels, no I/O."""

from dataclasses import dataclass, field

from muster.sim.screen.elements import Page

STACK_MAX = 16  # activities of one task; a real phone is bounded by memory


@dataclass(slots=True)
class Activity:
    """One open page of an app. `fields` is what was typed, by key; scroll is in pixels."""

    package: str
    name: str
    argument: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    focus: str = ""
    scroll: int = 0

    @property
    def component(self) -> str:
        """As `dumpsys window` names it, e.g. `com.example.app/.SignInActivity`."""
        return f"{self.package}/{self.name}"


@dataclass(frozen=True, slots=True)
class Open:
    """Go on to another page, of this app or another."""

    package: str
    name: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Launch:
    """Bring an app to the front as its icon does."""

    package: str


@dataclass(frozen=True, slots=True)
class CloseAll:
    """Forget every task (the recents page's button)."""


Move = Open | Launch | CloseAll


class App:
    """An app with one page that does nothing; the others override what they need."""

    package = ""
    label = ""
    main = ".MainActivity"
    activities: tuple[str, ...] = (".MainActivity",)

    def __init__(self) -> None:
        self.now = 0.0  # monotonic seconds, set by the screen before every call

    def begin(self, name: str, argument: str) -> Activity | None:
        """A fresh activity by name, or None where the app has none of this name."""
        return Activity(self.package, name, argument) if name in self.activities else None

    def page(self, activity: Activity) -> Page:
        """What the activity shows."""
        raise NotImplementedError

    def press(self, activity: Activity, key: str) -> Move | None:
        """What a tap on a widget does: changes the app's state, and may lead elsewhere."""
        raise NotImplementedError

    def settle(self, activity: Activity) -> str | None:
        """The activity that has to stand in this one's place now (signed in, signed out), or None."""
        return None

    def stop(self) -> None:
        """The process ends: what was under way is lost, what was stored stays."""

    def clear(self) -> None:
        """Forgets everything, as `pm clear` does."""
