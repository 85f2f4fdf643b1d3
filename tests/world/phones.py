"""Phones in memory: they hang, drop and come back, take their time, err; and they know who works on them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.world.life import Life
from tests.world.streams import Streams
from tests.world.trace import Trace

from muster.agent.ports import DeviceStatus, Fence, Phone, PhoneError, ShellOutput
from muster.agent.preflight.device import PROBE
from muster.agent.preflight.known_screen import GO_HOME
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason

PICTURE = b"\x89PNG\r\n\x1a\n"
LOOK_SEC = 1.0
# What closing a command's socket takes when it is cut off: a phone is in use until then.
TEARDOWN_SEC = 0.05


@dataclass
class SimPhone:
    """One phone for ever. `fails`: how likely a command breaks or exits ≠ 0.

    `begun`: the runs whose work it saw; `done`: (run, step) whose command was answered with success.
    """

    device_id: str
    streams: Streams
    now: Callable[[], float]
    state: AttachState = AttachState.DEVICE
    handle: str = ""
    epoch: int = 1
    hangs_until: float = 0.0
    slowness: float = 1.0
    fails: float = 0.0
    last_seen: float = 0.0
    teardown_sec: float = TEARDOWN_SEC
    pictures: int = 0
    begun: set[str] = field(default_factory=set)
    done: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.durations, self.failures = (self.streams(f"{self.device_id} {what}") for what in ("takes", "fails"))

    def drop(self, state: AttachState) -> None:
        self.last_seen = self.now() if self.state is AttachState.DEVICE else self.last_seen
        self.state = state
        self.epoch += 1

    def come_back(self) -> None:
        self.state = AttachState.DEVICE
        self.epoch += 1

    @property
    def runtime_handle(self) -> str:
        return f"10.0.0.{self.device_id[-2:]}:{self.epoch}"

    def heal(self) -> None:
        self.hangs_until, self.slowness, self.fails, self.teardown_sec = 0.0, 1.0, 0.0, TEARDOWN_SEC
        if self.state is not AttachState.DEVICE:
            self.come_back()

    def status(self, quarantined: str | None) -> DeviceStatus:
        seen = self.now() if self.state is AttachState.DEVICE else self.last_seen
        return DeviceStatus(self.device_id, self.runtime_handle, self.state, seen, quarantined=quarantined)


@dataclass
class SimRack:
    """All phones of the node, across the lives of its agent."""

    phones: dict[str, SimPhone]
    is_changed: Callable[[], None] = lambda: None

    def change(self, phone: SimPhone, how: Callable[[], None]) -> None:
        how()
        self.is_changed()


class AttachedSimPhone:
    """`ports.Phone`: one phone as one process has it attached."""

    def __init__(self, phone: SimPhone, trace: Trace, life: Life) -> None:
        self._phone = phone
        self._trace = trace
        self._life = life
        self._epoch = phone.epoch

    @property
    def device_id(self) -> str:
        return self._phone.device_id

    @property
    def runtime_handle(self) -> str:
        return self._phone.runtime_handle

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        await self._work(command, self._phone.durations.uniform(0.05, 1.5))
        if command == PROBE:
            return ShellOutput(0, b"muster-probe\n1\n33\nSM-G991N\nsamsung\n", b"")
        if command == GO_HOME:
            return ShellOutput(0, b"", b"")
        if self._phone.failures.random() < self._phone.fails:
            return ShellOutput(1, b"", b"it did not work")
        self._phone.done.add((_work_of(command), command.rsplit(maxsplit=1)[-1]))
        return ShellOutput(0, b"done\n", b"")

    async def push(self, source: Path, remote: str) -> None:
        await self._work("push", self._phone.durations.uniform(0.2, 1.0))

    async def pull(self, remote: str, target: Path, *, bytes_max: int) -> int:
        await self._work("pull", self._phone.durations.uniform(0.2, 1.0))
        raise PhoneError(FailureReason.STEP_FAILED, f"adb: {remote}: No such file or directory", fate_unknown=False)

    async def vendor(self, action: str, data: Mapping[str, str], *, timeout_sec: float) -> object:
        raise PhoneError(FailureReason.VENDOR_WS_ERROR, "there is no vendor tool in this world", fate_unknown=False)

    async def screenshot(self, *, left_sec: float) -> bytes:
        await self._work("screenshot", self._phone.durations.uniform(0.2, 1.0))
        self._phone.pictures += 1
        return PICTURE + f"{self.device_id} {self._phone.pictures}".encode()

    async def _work(self, command: str, seconds: float) -> None:
        self._life.must_be_alive()
        self._phone.begun.add(_work_of(command))
        self._trace.note("begins", self.device_id, _work_of(command))
        try:
            await self._take(seconds * self._phone.slowness)
        except asyncio.CancelledError:
            if not self._life.is_dead:
                await asyncio.sleep(self._phone.teardown_sec)
            raise
        finally:
            if not self._life.is_dead:
                self._trace.note("ends", self.device_id, _work_of(command))

    async def _take(self, seconds: float) -> None:
        """Raises PhoneError when the phone goes meanwhile; a phone that hangs ends nothing."""
        phone = self._phone
        await asyncio.sleep(seconds)
        while phone.hangs_until > phone.now() and phone.epoch == self._epoch:
            await _a_while(phone.hangs_until - phone.now())
        if phone.epoch != self._epoch:
            raise PhoneError(FailureReason.ADB_OFFLINE, "the connection to the phone broke")
        if phone.fails and phone.failures.random() < phone.fails / 2:
            raise PhoneError(FailureReason.ADB_OFFLINE, "adb: closed", fate_unknown=phone.failures.random() < 0.5)


async def _a_while(seconds: float) -> None:
    await asyncio.sleep(min(LOOK_SEC, seconds))


def _work_of(command: str) -> str:
    """`work RUN STEP` names its run; a probe or a picture none."""
    words = command.split()
    return words[1].strip("'")[-6:] if words[0] == "work" else words[0]


@dataclass
class SeenRack:
    """`composition.Rack` and `ports.Phones` of one process."""

    rack: SimRack
    trace: Trace
    life: Life
    settle_sec: float
    subscribers: list[asyncio.Event] = field(default_factory=list)
    why_held_back: Callable[[str], str | None] = lambda _device_id: None
    vendor_ok: bool = True
    last_vendor_ok_ms: int | None = None

    def __post_init__(self) -> None:
        self.rack.is_changed = self._changed

    @property
    def phones(self) -> "SeenRack":
        return self

    def subscribe(self, changed: asyncio.Event) -> None:
        self.subscribers.append(changed)

    async def wait_settled(self) -> None:
        await asyncio.sleep(self.settle_sec)

    def find(self, device_id: str) -> Phone | None:
        self.life.must_be_alive()
        phone = self.rack.phones.get(device_id)
        if phone is None or phone.state is not AttachState.DEVICE:
            return None
        return AttachedSimPhone(phone, self.trace, self.life)

    def status(self, device_id: str) -> DeviceStatus | None:
        phone = self.rack.phones.get(device_id)
        if phone is None:
            return None
        return phone.status(self.why_held_back(device_id))

    def all(self) -> Sequence[DeviceStatus]:
        return [status for device_id in self.rack.phones if (status := self.status(device_id)) is not None]

    def resolve(self, device_id: str) -> str:
        return device_id

    def _changed(self) -> None:
        if not self.life.is_dead:
            for event in self.subscribers:
                event.set()
