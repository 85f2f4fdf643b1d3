"""The virtual rack: phones drawn from a seed, attached to a real adb server, and changed while they run."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final

from muster.adb.server import AdbServer, ensure_server
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.supervision import Background
from muster.sim.adbd.auth import KeyRing, PublicKey
from muster.sim.adbd.daemon import LOOPBACK
from muster.sim.attach import Attacher
from muster.sim.casting import CastRack
from muster.sim.commandlog import Gauge
from muster.sim.conduct import begins_attached, live, prepare
from muster.sim.control import ControlServer
from muster.sim.display import make_screen
from muster.sim.latency import NoPace, Pace, SpreadPace
from muster.sim.models import Identity, draw_identities
from muster.sim.phone import Phone
from muster.sim.profile import Profile, assign, load_profile
from muster.sim.settings import RackSettings
from muster.sim.states import PhoneState, state_of
from muster.sim.vendor import VendorServer
from muster.sim.vendor.quirks import INSTANT

PAINTERS: Final = 2
READY_TIMEOUT_SEC: Final = 60.0


class RackNotReady(Exception):
    """Phones that should be online are not; says which and how the adb server sees them."""


class Rack:
    """`async with Rack(settings) as rack:` is a rack whose phones are online; leaving it ends everything it started."""

    def __init__(self, settings: RackSettings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock: Clock = clock or SystemClock()
        self.gauge = Gauge()
        self._stack = AsyncExitStack()
        self._painter = ThreadPoolExecutor(PAINTERS, thread_name_prefix="muster-sim-painter")
        self._trusted: list[PublicKey] = []
        self.profile = load_profile(settings.profile) if settings.profile is not None else Profile()
        self.seed = settings.seed if self.profile.seed is None else self.profile.seed
        identities = draw_identities(settings.devices, self.seed)
        self.characters = assign(self.profile, identities, self.seed)
        self._phones = {identity.device_id: self._make_phone(identity) for identity in identities}
        self._server: AdbServer | None = None
        self._attacher: Attacher | None = None
        self._control: ControlServer | None = None
        self._vendor: VendorServer | None = None

    # ---- life

    async def __aenter__(self) -> "Rack":
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        self._stack.callback(self._painter.shutdown, wait=True, cancel_futures=True)
        host, port = self.settings.adb_server
        home = self.settings.data_dir / "adb" if self.settings.data_dir is not None else None
        self._server = await ensure_server(host, port, private=True, home=home)
        self._stack.push_async_callback(self._stop_server)
        self._stack.push_async_callback(self._close_phones)
        for phone in self._phones.values():
            if begins_attached(self.characters[phone.device_id]):
                await phone.adbd.start()
        self._attacher = Attacher(self._server.client(), self._wanted, self._revive_server)
        background = await self._stack.enter_async_context(Background())
        _ = background.start("rack attacher", self._attacher.run())
        for phone in self._phones.values():
            life = live(phone, self.characters[phone.device_id], self)
            _ = background.start(f"life of {phone.device_id}", life)
        if self.settings.vendor_port is not None:
            await self._start_vendor(self.settings.vendor_port)
        if self.settings.control_port is not None:
            self._control = ControlServer(self, self.settings.control_port)
            await self._control.start()
            self._stack.push_async_callback(self._control.stop)
        await self._wait_ready()

    async def _start_vendor(self, port: int) -> None:
        data_dir = self.settings.data_dir or Path(self._stack.enter_context(TemporaryDirectory(prefix="muster-sim-")))
        rack = CastRack(self._phones.values(), data_dir / "vendor")
        pace = INSTANT if self.settings.latency == "none" else None
        self._vendor = VendorServer(rack, port=port, clock=self.clock, pace=pace, quirks=self.profile.quirks(self.seed))
        await self._vendor.start()
        self._stack.push_async_callback(self._vendor.stop)

    async def _stop_server(self) -> None:
        if self._server is not None:
            await self._server.stop()

    async def _close_phones(self) -> None:
        await asyncio.gather(*(phone.close() for phone in self._phones.values()))

    async def _revive_server(self) -> None:
        """A private server that died is started again at the same port; anybody else's is waited for."""
        if self._server is not None and self._server.owned:
            old, (host, port) = self._server, self.adb_address
            await old.stop()
            home = self.settings.data_dir / "adb" if self.settings.data_dir is not None else None
            self._server = await ensure_server(host, port, private=True, home=home)

    async def _wait_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_SEC):
                await self.wait_online()
        except TimeoutError as error:
            late = [
                f"{phone.device_id} {self.adb_state(phone)}" for phone in self._expected() if not self._online(phone)
            ]
            raise RackNotReady(f"not online after {READY_TIMEOUT_SEC:g} s: {', '.join(late[:10])}") from error

    # ---- what it is

    @property
    def phones(self) -> Mapping[str, Phone]:
        """Every phone by its `device_id`."""
        return self._phones

    @property
    def adb_address(self) -> tuple[str, int]:
        """Host and port of the adb server."""
        assert self._server is not None, "the rack has not been entered"
        return self._server.host, self._server.port

    @property
    def vendor_url(self) -> str | None:
        """Where the vendor tool listens, None without one."""
        return f"ws://{LOOPBACK}:{self._vendor.port}" if self._vendor is not None else None

    @property
    def vendor(self) -> VendorServer | None:
        """The vendor tool, to give it quirks; None without one."""
        return self._vendor

    @property
    def control_url(self) -> str | None:
        """Where the control API listens, None without one."""
        return self._control.url if self._control is not None else None

    @property
    def speed(self) -> float:
        """How many times faster than life everything happens."""
        return self.settings.speed

    def adb_state(self, phone: Phone) -> str | None:
        """How the adb server shows the phone now; None: not at all."""
        return self._attacher.state(phone.serial) if self._attacher is not None else None

    def ready_text(self) -> str:
        """The line that tells where everything is."""
        parts = [f"{len(self._phones)} devices", "adb server {}:{}".format(*self.adb_address)]
        parts += [f"vendor {self.vendor_url}"] if self.vendor_url else []
        parts += [f"control {self.control_url}"] if self.control_url else []
        return "muster sim ready: " + ", ".join(parts)

    async def wait_online(self) -> None:
        """Waits until the adb server shows every phone that should be online as `device`."""
        await self.wait_until(lambda: all(self._online(phone) for phone in self._expected()))

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Waits until something about what the adb server shows (`adb_state`) holds; a time-out is the caller's."""
        assert self._attacher is not None, "the rack has not been entered"
        await self._attacher.wait_until(holds)

    # ---- changing it

    async def detach(self, phone: Phone) -> None:
        """Makes the adb server forget the phone's present serial."""
        if self._attacher is not None:
            await self._attacher.forget(phone.serial)

    def _wanted(self) -> list[str]:
        return [phone.serial for phone in self._phones.values() if phone.adbd.listening]

    def _expected(self) -> list[Phone]:
        online = (PhoneState.DEVICE, PhoneState.HUNG, PhoneState.BOOTING)
        return [phone for phone in self._phones.values() if state_of(phone) in online]

    def _online(self, phone: Phone) -> bool:
        return self.adb_state(phone) == "device"

    # ---- making it

    def _make_phone(self, identity: Identity) -> Phone:
        spreads = self.profile.spreads()
        pace: Pace = NoPace() if self.settings.latency == "none" else SpreadPace(spreads, 1 / self.speed)
        phone = Phone(
            identity,
            clock=self.clock,
            pace=pace,
            make_screen=make_screen,
            painter=self._painter,
            keys=KeyRing(known=self._trusted),
            gauge=self.gauge,
            speed=self.speed,
        )
        prepare(phone, self.characters[identity.device_id])
        return phone
