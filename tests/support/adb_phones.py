"""Phones for the conformance suite of the adb client: one of the virtual rack, or a real one (MUSTER_REAL_SERIAL)."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from muster.adb.client import AdbClient
from muster.adb.protocol import DeviceState
from muster.adb.server import ensure_server
from muster.adb.tracker import track
from muster.sim.phone import Phone
from muster.sim.rack import Rack
from muster.sim.settings import RackSettings
from muster.sim.states import PhoneState, set_state


@dataclass(frozen=True, slots=True)
class AttachedPhone:
    """A phone behind a real adb server. `folder` on it may be written to."""

    client: AdbClient
    serial: str
    folder: str = "/data/local/tmp"


@dataclass(frozen=True, slots=True)
class VirtualPhone(AttachedPhone):
    """A phone of the rack, whose state can be changed. `server_pid`: the adb server, private to the test."""

    rack: Rack | None = None
    phone: Phone | None = None
    server_pid: int = 0

    async def become(self, state: PhoneState, seen_as: DeviceState | None) -> None:
        """Changes the phone and waits until the adb server shows it so; None: until the server forgot it."""
        assert self.phone is not None
        assert self.rack is not None
        await set_state(self.phone, state, self.rack)
        await wait_for_state(self.client, self.serial, seen_as)


@asynccontextmanager
async def virtual_phone(home: Path) -> AsyncIterator[VirtualPhone]:
    """The first phone of a rack of its own, behind an adb server of its own."""
    server = await ensure_server(port=0, private=True, home=home)
    assert server.pid is not None
    settings = RackSettings(
        devices=1, adb_server=(server.host, server.port), vendor_port=None, control_port=None, latency="none"
    )
    try:
        async with Rack(settings) as rack:
            (phone,) = rack.phones.values()
            yield VirtualPhone(server.client(), phone.serial, rack=rack, phone=phone, server_pid=server.pid)
    finally:
        await server.stop()


@asynccontextmanager
async def real_phone(serial: str) -> AsyncIterator[AttachedPhone]:
    """A phone that somebody attached to this PC."""
    server = await ensure_server()
    yield AttachedPhone(server.client(), serial)


async def wait_for_state(client: AdbClient, serial: str, wanted: DeviceState | None) -> None:
    """Waits until the adb server shows the phone so; the test's own limit ends a wait in vain."""
    async with aclosing(track(client)) as lists:
        async for devices in lists:
            states = {device.serial: device.state for device in devices}
            if states.get(serial) is wanted:
                return
