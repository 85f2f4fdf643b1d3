"""Which apps are installed, which of their pages are open, and which one is in front; resolves intents."""

from collections.abc import Iterable

from muster.sim.screen.apps import settings, video
from muster.sim.screen.apps.base import STACK_MAX, Activity, App, CloseAll, Launch, Move, Open
from muster.sim.screen.apps.other import BROWSER, DESKTOP, LAUNCHER, RECENTS, InstalledApp, LauncherApp

APPS_MAX = 64  # icons that fit the launcher; a rack has no need for more
MAIN_ACTION = "android.intent.action.MAIN"
VIEW_ACTION = "android.intent.action.VIEW"
_SYSTEM_PREFIX = "com.android."


class Desk:
    """A task per package, each a stack of activities; the launcher's own is the desktop and, over it, the recents."""

    def __init__(self, apps: Iterable[App]) -> None:
        self.apps: dict[str, App] = {app.package: app for app in apps}
        self._tasks: dict[str, list[Activity]] = {}  # the last one was in front last
        self._front = LAUNCHER
        self._shipped = dict(self.apps)

    def add_launcher(self, device_id: str, model: str) -> None:
        """Puts the launcher in front; it lists the desk's own apps and tasks."""
        self.apps[LAUNCHER] = LauncherApp(device_id, model, self.installed, self.recent)

    @property
    def top(self) -> Activity:
        """The activity in front; an app may put another in its place (sign-in gives way to home)."""
        stack = self._stack(self._front)
        other = self.apps[self._front].settle(stack[-1])
        if other is not None:
            stack[:] = [self._begun(self._front, other)]
        return stack[-1]

    @property
    def app(self) -> App:
        """The app in front."""
        return self.apps[self._front]

    def installed(self) -> list[tuple[str, str]]:
        """(package, label) of every app with an icon."""
        return [(package, app.label) for package, app in self.apps.items() if package != LAUNCHER]

    def recent(self) -> list[tuple[str, str]]:
        """(package, label) of the open tasks, the latest first."""
        return [(package, self.apps[package].label) for package in reversed(self._tasks) if package != LAUNCHER]

    def start(self, action: str | None, package: str | None, component: str | None, data: str | None) -> bool:
        """Resolves an intent as `am start` gives it; False when nothing does."""
        if component is not None:
            return self._start_component(component, data)
        if action == VIEW_ACTION or (action is None and data is not None):
            return self._view(package, data or "")
        if action is None or action == MAIN_ACTION:
            return self.launch(package or LAUNCHER)
        if action in settings.ACTIONS and package in {None, settings.PACKAGE}:
            section = settings.ACTIONS[action]
            self.open(settings.PACKAGE, settings.PAGE if section else settings.MAIN, section)
            return True
        return False

    def launch(self, package: str) -> bool:
        """Brings a task to the front as its icon does, or starts it; False when the package is not installed."""
        if package not in self.apps:
            return False
        if package == LAUNCHER:
            self.home()
        else:
            self._to_front(package)
        return True

    def open(self, package: str, name: str, argument: str = "") -> bool:
        """Puts an activity on top of its package's task and brings it to the front."""
        activity = self.apps[package].begin(name, argument)
        if activity is None:
            return False
        stack = self._tasks.setdefault(package, [])
        if stack and (stack[-1].name, stack[-1].argument) == (name, argument):
            stack.pop()  # as singleTop does: the page that is there already is renewed
        stack.append(activity)
        del stack[:-STACK_MAX]
        self._to_front(package)
        return True

    def follow(self, move: Move | None) -> None:
        """Goes where a press leads."""
        if isinstance(move, Open):
            self.open(move.package, move.name, move.argument)
        elif isinstance(move, Launch):
            self.launch(move.package)
        elif isinstance(move, CloseAll):
            self._tasks.clear()
            self.home()

    def home(self) -> None:
        """The desktop."""
        self._tasks.pop(LAUNCHER, None)
        self._front = LAUNCHER

    def recents(self) -> None:
        """The list of open tasks over the desktop."""
        self.home()
        self.open(LAUNCHER, RECENTS)

    def back(self) -> None:
        """Closes the page in front; a task's last page goes to the background and the desktop appears."""
        stack = self._stack(self._front)
        if len(stack) > 1:
            stack.pop()
        else:
            self.home()

    def up(self) -> None:
        """The app bar's arrow: to the page before, or to the app's main page when it was opened from elsewhere."""
        stack = self._stack(self._front)
        if len(stack) > 1:
            stack.pop()
        else:
            stack[:] = [self._begun(self._front, self.app.main)]

    def stop(self, package: str) -> None:
        """Ends a package's task."""
        if package in self.apps:
            self.apps[package].stop()
        if self._tasks.pop(package, None) is not None and self._front == package:
            self._front = LAUNCHER

    def install(self, package: str, label: str) -> bool:
        """Adds an app: the one that was shipped under this name, else one with a page of its own.

        False when it is there already, or the launcher is full.
        """
        if package in self.apps or len(self.apps) >= APPS_MAX:
            return False
        self.apps[package] = self._shipped.get(package) or InstalledApp(package, label)
        return True

    def uninstall(self, package: str) -> bool:
        """Removes an app and what it stored; False for an unknown one and for the system's own."""
        if package not in self.apps or package.startswith(_SYSTEM_PREFIX):
            return False
        self.stop(package)
        self.apps[package].clear()
        del self.apps[package]
        return True

    def _start_component(self, component: str, data: str | None) -> bool:
        package, _, name = component.partition("/")
        if package not in self.apps:
            return False
        short = name.removeprefix(package) if name.startswith(package + ".") else name
        app = self.apps[package]
        if short == app.main and data is None:
            return self.launch(package)
        if short not in app.activities:
            return False
        argument = data or ""
        if package == video.PACKAGE and data is not None:
            argument = video.video_id_of(data) or ""
        return self.open(package, short, argument)

    def _view(self, package: str | None, data: str) -> bool:
        video_id = video.video_id_of(data)
        if video_id is not None and package in {None, video.PACKAGE} and video.PACKAGE in self.apps:
            return self.open(video.PACKAGE, video.WATCH, video_id)
        if data.startswith(("http://", "https://")) and package in {None, BROWSER}:
            return self.open(BROWSER, ".Main", data)
        return False

    def _to_front(self, package: str) -> None:
        stack = self._tasks.pop(package, [])
        self._tasks[package] = stack or [self._begun(package, self.apps[package].main)]
        self._front = package

    def _stack(self, package: str) -> list[Activity]:
        if package == LAUNCHER and package not in self._tasks:
            self._tasks[package] = [self._begun(LAUNCHER, DESKTOP)]
        return self._tasks[package]

    def _begun(self, package: str, name: str) -> Activity:
        activity = self.apps[package].begin(name, "")
        assert activity is not None, f"{package} has no {name}"
        return activity
