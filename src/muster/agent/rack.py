"""The node's phones, watched: adb's list, the vendor tool's list and what the phones say of themselves (R6, R8).

One of the few rooms of the agent that know adb and the vendor tool by name; the rest sees `ports.Phones`.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from muster.adb.client import AdbClient
from muster.adb.errors import AdbError
from muster.agent.adb_watch import AdbWatch
from muster.agent.attached import AttachedPhone
from muster.agent.devices import AdbEntry, Registry, Told, VendorEntry
from muster.agent.half_done import SHOTS
from muster.agent.identity_file import PHONES_FILE, IdentityFile
from muster.agent.phone_talk import HOW_IS_YOUR_BATTERY, WHO_ARE_YOU, read_battery, read_told
from muster.agent.ports import DeviceStatus, Phone
from muster.agent.preflight.node import VendorSilent, VendorWatch
from muster.agent.tool_silence import ToolSilence
from muster.domain.device import AttachState
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger
from muster.runtime.supervision import Background
from muster.vendor.errors import VendorError
from muster.vendor.pool import VendorPool
from muster.vendor.protocol import DeviceMode
from muster.vendor.tool import VendorTool

log = get_logger()
TICK_SEC: Final = 0.5
ASK_TIMEOUT_SEC: Final = 10.0
ASK_AGAIN_SEC: Final = 30.0
ASK_AT_ONCE: Final = 8
BATTERY_INTERVAL_SEC: Final = 60.0
SETTLE_TIMEOUT_SEC: Final = 20.0
VENDOR_LIST_TIMEOUT_SEC: Final = 5.0


@dataclass(frozen=True, slots=True)
class RackSettings:
    """Where the phones are. `vendor_url` None: no tool. `folder`: the vendor's shots and the file of known phones."""

    adb_host: str
    adb_port: int
    vendor_url: str | None
    folder: Path


class AttachedRack:
    """Use as `async with`. Implements `ports.Phones` itself: `rack.phones` is the rack seen that way."""

    def __init__(
        self,
        settings: RackSettings,
        clock: Clock,
        *,
        why_quarantined: Callable[[str], str | None] = lambda _: None,
        why_reserved: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """`why_…` tell by device_id why a phone gets no task, None if it does."""
        self._clock = clock
        self._why_quarantined = why_quarantined
        self._why_reserved = why_reserved
        self._server_lost_at: float | None = None
        # Whether the adb server answers, and how often it was gone and came back.
        self.adb_ok = False
        self.adb_restarts = 0
        self._shots_root = settings.folder / SHOTS
        self._adb = AdbClient(settings.adb_host, settings.adb_port)
        self._adb_watch = AdbWatch(self._adb, self._saw_adb, self._lost_adb, clock)
        self._pool = VendorPool(settings.vendor_url) if settings.vendor_url else None
        self._tool = VendorTool(self._pool) if self._pool is not None else None
        self._tool_silence = ToolSilence()
        self._vendor_watch = VendorWatch(self._ask_vendor, self._saw_vendor, clock)
        self._identity_file = IdentityFile(settings.folder / PHONES_FILE)
        self._registry = Registry()
        self._background = Background()
        self._asking: set[str] = set()
        self._ask_slots = asyncio.Semaphore(ASK_AT_ONCE)
        self._subscribers: list[asyncio.Event] = []
        self._saw_first_list = False
        self._settled = asyncio.Event()
        self._vendor_problems: tuple[str, ...] = ()

    async def __aenter__(self) -> "AttachedRack":
        self._registry.identities = await asyncio.to_thread(self._identity_file.load)
        await self._background.__aenter__()
        _ = self._background.start("rack: adb", self._adb_watch.run())
        _ = self._background.start("rack: tick", self._tick())
        _ = self._background.start("rack: battery", self._watch_batteries())
        if self._tool is not None:
            _ = self._background.start("rack: vendor", self._vendor_watch.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._background.__aexit__(kind, error, trace)
        finally:
            if self._pool is not None:
                self._pool.close()
            await self._identity_file.save(self._registry.identities)

    # ---- for the rest of the agent -----------------------------------------------------------------------------------

    @property
    def phones(self) -> "AttachedRack":
        """As `ports.Phones`."""
        return self

    @property
    def vendor_ok(self) -> bool:
        """The vendor tool's last `list` succeeded (R2.3)."""
        return self._vendor_watch.ok

    @property
    def last_vendor_ok_ms(self) -> int | None:
        """When one last did, epoch ms."""
        return self._vendor_watch.last_ok_ms

    @property
    def vendor_returns(self) -> int:
        """Times the vendor tool was silent and answered again."""
        return self._vendor_watch.returns

    @property
    def strangers(self) -> tuple[str, ...]:
        """Handles that no id can be found for: shown to people, given no task."""
        return self._registry.strangers()

    def subscribe(self, changed: asyncio.Event) -> None:
        """Sets `changed` whenever a phone comes, goes or changes; whoever waits for it clears it."""
        self._subscribers.append(changed)

    async def wait_settled(self) -> None:
        """Returns when every attached phone is announced: asked who it is, and named by the vendor tool or given up
        waiting for that (R6.3). Returns after `SETTLE_TIMEOUT_SEC` in any case."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_TIMEOUT_SEC):
                await self._settled.wait()

    def find(self, device_id: str) -> Phone | None:
        """The phone if it takes commands now; by its id or its alias."""
        status = self.status(device_id)
        if status is None or status.state is not AttachState.DEVICE or status.problem is not None:
            return None
        return AttachedPhone(status.device_id, status.runtime_handle, self._adb, self, self._shots_root)

    def status(self, device_id: str) -> DeviceStatus | None:
        """What is known of it, by its id or its alias."""
        status = self._registry.status(device_id, self._clock.monotonic())
        return self._with_hindrance(status) if status else None

    def all(self) -> Sequence[DeviceStatus]:
        """Every phone that this node has seen since it started, by device_id."""
        return [self._with_hindrance(status) for status in self._registry.all(self._clock.monotonic())]

    def resolve(self, device_id: str) -> str:
        """The id that an alias stands for; a name that was never heard is its own."""
        return self._registry.identities.resolve(device_id)

    # ---- for whoever cares for the phones ----------------------------------------------------------------------------

    @property
    def adb(self) -> AdbClient:
        """The client of this node's adb server."""
        return self._adb

    @property
    def adb_gone(self) -> bool:
        """The adb server does not answer. Before its first word after our start nobody knows."""
        return self._server_lost_at is not None and not self.adb_ok

    def server_lost_at(self) -> float | None:
        """When the adb server was last seen to be gone, monotonic seconds."""
        return self._server_lost_at

    def announce(self) -> None:
        """Something about a phone changed that adb does not know of."""
        for changed in self._subscribers:
            changed.set()

    def _with_hindrance(self, status: DeviceStatus) -> DeviceStatus:
        quarantined, reserved = self._why_quarantined(status.device_id), self._why_reserved(status.device_id)
        if not quarantined and not reserved:
            return status
        told = reserved or f"in quarantine: {quarantined}"
        return replace(status, quarantined=quarantined, reserved=reserved, last_error_message=told)

    # ---- for the phones ----------------------------------------------------------------------------------------------

    def vendor_for(self, handle: str) -> VendorTool | None:
        """The vendor tool, if it is up and has the phone in its list."""
        return self._tool if self._vendor_watch.ok and self._registry.in_vendor_list(handle) else None

    def pictures_by(self, handle: str) -> VendorTool | None:
        """See `CastingTool`."""
        return None if self._tool_silence.rests(handle, self._clock.monotonic()) else self.vendor_for(handle)

    def vendor_ended(self, handle: str, error: VendorError | None) -> None:
        """See `CastingTool`. Of a silent tool: until its next list, adb does what it did."""
        if self._tool_silence.ended(handle, error, self._clock.monotonic()):
            self._vendor_watch.failed()

    # ---- what comes in -----------------------------------------------------------------------------------------------

    def _saw_adb(self, entries: Sequence[AdbEntry]) -> None:
        self._saw_first_list = True
        self.adb_restarts += not self.adb_ok and self._server_lost_at is not None
        self.adb_ok = True
        self._registry.saw_adb(entries, self._clock.monotonic())
        self._rebuild()
        for handle in self._registry.unasked():
            if handle not in self._asking:
                self._asking.add(handle)
                _ = self._background.start(f"rack: ask {handle}", self._ask_until_told(handle))
            if not self._registry.in_vendor_list(handle):
                self._vendor_watch.poke()

    def _lost_adb(self, error: str) -> None:
        self._server_lost_at = self._clock.monotonic()
        self.adb_ok = False
        self._registry.saw_adb((), self._clock.monotonic(), error=error)
        self._rebuild()

    def _saw_vendor(self, entries: Sequence[VendorEntry] | None) -> None:
        self._registry.saw_vendor(entries)
        self._rebuild()

    def _rebuild(self) -> None:
        now = self._clock.monotonic()
        self._registry.expects_vendor = self._tool is not None and (
            self._vendor_watch.ok or self._vendor_watch.is_booting
        )
        if self._registry.rebuild(now):
            self.announce()
        is_vendor_known = self._tool is None or not self._vendor_watch.is_booting
        if self._saw_first_list and is_vendor_known and not self._registry.withheld(now):
            self._settled.set()

    async def _tick(self) -> None:
        """Ends the waits that end by time alone, keeps the file of known phones, and logs how many there are."""
        logged: dict[str, int] = {}
        strangers: tuple[str, ...] = ()
        while True:
            await self._clock.sleep(TICK_SEC)
            if self._registry.is_waiting or not self._settled.is_set():
                self._rebuild()
            await self._identity_file.save(self._registry.identities)
            counts = Counter(status.state.value for status in self.all())
            if counts != logged:
                # Here and not at each change: a hub that is plugged in is one line, not twenty.
                log.info("Phones", **counts)
                logged = counts
            if self.strangers != strangers:
                strangers = self.strangers
                log.warning("Phones without an id get no task", handles=", ".join(strangers) or "none")

    # ---- what is asked -----------------------------------------------------------------------------------------------

    async def _ask_until_told(self, handle: str) -> None:
        """Asks a phone who it is, again and again as long as it is attached and does not say."""
        try:
            while handle in self._registry.unasked() or handle in self._registry.silent():
                await self._ask_who(handle)
                self._rebuild()
                if handle not in self._registry.silent():
                    return
                await self._clock.sleep(ASK_AGAIN_SEC)
        finally:
            self._asking.discard(handle)

    async def _ask_who(self, handle: str) -> None:
        answer = await self._ask(handle, WHO_ARE_YOU)
        if answer is None:
            return
        told = read_told(handle, answer)
        if told is None:
            self._registry.not_told(handle, "its shell does not answer as a phone does")
        else:
            self._registry.told(handle, told)

    async def _ask(self, handle: str, command: str) -> bytes | None:
        """What the phone says; None, with the cause noted, when it says nothing in time."""
        try:
            async with self._ask_slots, asyncio.timeout(ASK_TIMEOUT_SEC):
                return (await self._adb.shell(handle, command)).stdout
        except TimeoutError:
            self._registry.not_told(handle, f"it did not answer within {ASK_TIMEOUT_SEC:g} s")
        except AdbError as error:
            self._registry.not_told(handle, str(error))
        return None

    async def _watch_batteries(self) -> None:
        while True:
            await self._clock.sleep(BATTERY_INTERVAL_SEC)
            async with asyncio.TaskGroup() as group:
                for handle in self._registry.ready_handles():
                    group.create_task(self._ask_battery(handle), name=f"rack: battery {handle}")

    async def _ask_battery(self, handle: str) -> None:
        answer = await self._ask(handle, HOW_IS_YOUR_BATTERY)
        if answer is not None:
            level, temperature = read_battery(answer.decode("utf-8", "replace"))
            known = self._registry.last_told(handle) or Told(None)
            self._registry.told(handle, replace(known, battery=level, temperature=temperature))

    async def _ask_vendor(self) -> Sequence[VendorEntry]:
        assert self._tool is not None, "the watch runs only where there is a tool"
        try:
            listed = await self._tool.list(timeout_sec=VENDOR_LIST_TIMEOUT_SEC)
        except VendorError as error:
            raise VendorSilent(str(error)) from error
        if listed.problems != self._vendor_problems:
            self._vendor_problems = listed.problems
            log.warning(
                "The vendor tool lists phones that cannot be used", problems="; ".join(listed.problems) or "none"
            )
        return [
            VendorEntry(
                handle=device.serial,
                only_serial=device.only_serial,
                model=device.model or None,
                is_online=device.is_online,
                has_adb=device.mode is not DeviceMode.ACCESSIBILITY,
            )
            for device in listed.devices
        ]
