"""A phone's display: the screen, its size as `wm` overrides it, and pictures drawn away from the event loop."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Protocol

from muster.sim.models import Identity, Model
from muster.sim.screen import Screen as DrawnScreen
from muster.sim.screen import ScreenSpec, SignInPolicy


class Screen(Protocol):
    """What the rest of a phone needs of `muster.sim.screen.Screen`."""

    @property
    def is_awake(self) -> bool:
        """Whether the panel is on."""
        ...

    @property
    def is_locked(self) -> bool:
        """Whether the lock screen is in front."""
        ...

    def resize(self, width: int, height: int, density: int) -> None:
        """Sets size (px) and density (dpi)."""
        ...

    def start(self, action: str | None, package: str | None, component: str | None, data: str | None) -> bool:
        """Starts what the intent resolves to; False when nothing does."""
        ...

    def force_stop(self, package: str) -> None:
        """Ends an app."""
        ...

    def clear_data(self, package: str) -> bool:
        """Forgets what an app stored; False when it is not installed."""
        ...

    def install(self, package: str, label: str | None = None) -> bool:
        """Puts an app of that name on the desktop; False when it was there."""
        ...

    def uninstall(self, package: str) -> bool:
        """Takes an app away; False when it was not there."""
        ...

    def tap(self, x: float, y: float) -> None:
        """A finger at a point (px)."""
        ...

    def swipe(self, x1: float, y1: float, x2: float, y2: float) -> None:
        """A finger from one point to another (px)."""
        ...

    def text(self, value: str) -> None:
        """Text from a keyboard."""
        ...

    def key(self, code: int) -> None:
        """A key, by Android's number."""
        ...

    def set_sign_in(self, policy: SignInPolicy) -> None:
        """How the example app's server answers from now on."""
        ...

    def show_dialog(self, kind: str) -> None:
        """A dialog above everything."""
        ...

    def close_dialogs(self) -> None:
        """None is left, none of them answered."""
        ...

    def crash(self, package: str) -> None:
        """An app dies, and the system says so."""
        ...

    def wake(self) -> None:
        """Panel on."""
        ...

    def sleep(self) -> None:
        """Panel off."""
        ...

    def unlock(self) -> None:
        """Takes the lock screen away."""
        ...

    def current_focus(self) -> str:
        """The focused window, `package/.Activity`."""
        ...

    def packages(self) -> Mapping[str, str]:
        """Each app with its launcher activity."""
        ...

    def png(self) -> bytes:
        """The picture; tens of ms of CPU when something changed."""
        ...

    def dump(self) -> str:
        """The accessibility dump (XML)."""
        ...

    def advance(self, now: float) -> None:
        """Tells the time, monotonic seconds."""
        ...


class Display:
    """Size and density with their overrides, and access to the screen one at a time."""

    def __init__(
        self, screen: Screen, model: Model, *, monotonic: Callable[[], float], painter: Executor | None
    ) -> None:
        self._screen = screen
        self._monotonic = monotonic
        self._painter = painter
        self._free = asyncio.Lock()
        self.physical = (model.width, model.height)
        self.physical_density = model.density
        self.override: tuple[int, int] | None = None
        self.override_density: int | None = None

    @property
    def screen(self) -> Screen:
        """The screen, told the time. For reads only; what changes it goes through `act`."""
        self._screen.advance(self._monotonic())
        return self._screen

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px as they are in force."""
        return self.override or self.physical

    @property
    def density(self) -> int:
        """Dots per inch as they are in force."""
        return self.override_density or self.physical_density

    async def set_size(self, size: tuple[int, int] | None, density: int | None) -> None:
        """Sets or (None) takes back both overrides."""
        async with self._free:
            self.override, self.override_density = size, density
            self.screen.resize(*self.size, self.density)

    async def act(self, what: Callable[[Screen], object]) -> None:
        """Changes the screen; waits while it is being drawn in another thread."""
        async with self._free:
            what(self.screen)

    async def picture(self) -> bytes:
        """The screen as PNG. Drawn in a painter's thread: a burst of pictures must not stop the other phones."""
        async with self._free:
            drawing = asyncio.get_running_loop().run_in_executor(self._painter, self.screen.png)
            try:
                return await asyncio.shield(drawing)
            finally:
                # Who asked may be gone by now; nobody may touch the screen before the thread has left it.
                await asyncio.wait([drawing])

    async def dump(self) -> str:
        """The accessibility dump of the same moment's screen."""
        async with self._free:
            return self.screen.dump()


def make_screen(identity: Identity) -> Screen:
    """The screen that belongs to a phone."""
    model = identity.model
    spec = ScreenSpec(identity.device_id, model.model, model.width, model.height, model.density, identity.seed)
    return DrawnScreen(spec)
