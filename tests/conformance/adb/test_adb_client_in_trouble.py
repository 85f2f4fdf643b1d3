"""What the adb client makes of phones in trouble, which only the virtual rack can be put into on purpose."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from tests.support.adb import dead_port
from tests.support.adb_phones import VirtualPhone, virtual_phone, wait_for_state
from tests.support.waiting import until

from muster.adb.client import AdbClient
from muster.adb.errors import (
    AdbConnectionLost,
    AdbDeviceMissing,
    AdbDeviceOffline,
    AdbDeviceUnauthorized,
    AdbDeviceUnresponsive,
    AdbError,
    AdbServerRefused,
)
from muster.adb.protocol import ConnectOutcome, DeviceState
from muster.adb.sync import AdbSync
from muster.adb.tracker import track
from muster.agent.adb_watch import AdbWatch
from muster.runtime.clock import SystemClock
from muster.sim.states import PhoneState


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[VirtualPhone]:
    async with virtual_phone(tmp_path / "adb") as attached:
        yield attached


TROUBLE = [
    (PhoneState.OFFLINE, DeviceState.OFFLINE, AdbDeviceOffline),
    (PhoneState.UNAUTHORIZED, DeviceState.UNAUTHORIZED, AdbDeviceUnauthorized),
    (PhoneState.MISSING, None, AdbDeviceMissing),
]


@pytest.mark.parametrize(("state", "seen_as", "error"), TROUBLE, ids=[state for state, _, _ in TROUBLE])
async def test_a_phone_in_trouble_is_told_by_its_cause_and_works_again_afterwards(
    phone: VirtualPhone, state: PhoneState, seen_as: DeviceState | None, error: type[AdbError]
) -> None:
    await phone.become(state, seen_as)
    for call in (phone.client.shell(phone.serial, "id"), AdbSync(phone.client, phone.serial).stat("/sdcard")):
        with pytest.raises(error):
            await call
    await phone.become(PhoneState.DEVICE, DeviceState.DEVICE)
    assert (await phone.client.shell(phone.serial, "echo back")).stdout == b"back\n"


async def test_a_serial_that_nobody_has_is_missing(phone: VirtualPhone) -> None:
    for call in (phone.client.get_state("nobody"), phone.client.features("nobody"), phone.client.screencap("nobody")):
        with pytest.raises(AdbDeviceMissing):
            await call


async def test_a_hung_phone_stays_device_and_only_a_limit_finds_it(phone: VirtualPhone) -> None:
    await phone.become(PhoneState.HUNG, DeviceState.DEVICE)
    client = AdbClient(phone.client.host, phone.client.port, open_timeout_sec=0.1)
    with pytest.raises(AdbDeviceUnresponsive):
        await client.shell(phone.serial, "id")
    assert await client.get_state(phone.serial) is DeviceState.DEVICE


async def test_a_cancelled_command_may_still_run_when_the_phone_thaws(phone: VirtualPhone) -> None:
    """The reason why a time-out means unknown (spec/10): nothing on this PC can take the command back."""
    for patience in (0.2, 1.0, 5.0, 20.0):  # nothing tells when the adb server has taken the command
        await phone.become(PhoneState.HUNG, DeviceState.DEVICE)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(patience):
                await phone.client.shell(phone.serial, "setprop debug.muster.stale 1")
        await phone.become(PhoneState.DEVICE, DeviceState.DEVICE)
        for _ in range(20):
            if (await phone.client.shell(phone.serial, "getprop debug.muster.stale")).stdout == b"1\n":
                return
    raise AssertionError("it never ran")


async def test_a_phone_that_drops_in_the_middle_of_a_command_is_a_lost_connection(phone: VirtualPhone) -> None:
    command = asyncio.create_task(phone.client.shell(phone.serial, "echo begun > /sdcard/begun; sleep 60"))
    async with asyncio.timeout(30):
        while await AdbSync(phone.client, phone.serial).stat("/sdcard/begun") is None:
            continue
    assert phone.phone is not None
    phone.phone.adbd.kick()
    with pytest.raises(AdbConnectionLost, match="unknown"):
        await command


async def test_tracking_sees_a_phone_go_and_come(phone: VirtualPhone) -> None:
    async with aclosing(track(phone.client)) as lists:
        assert [device.state for device in await anext(lists)] == [DeviceState.DEVICE]
        await phone.become(PhoneState.MISSING, None)
        await phone.become(PhoneState.DEVICE, DeviceState.DEVICE)
        seen = [await anext(lists)]
        while not seen[-1] or seen[-1][0].state is not DeviceState.DEVICE or len(seen) < 2:
            seen.append(await anext(lists))
    assert () in seen


@pytest.mark.skipif(sys.platform == "win32", reason="no process can be stopped there")
async def test_the_watch_sees_a_server_that_is_frozen_and_that_it_goes_on(phone: VirtualPhone) -> None:
    told: list[str] = []
    client = AdbClient(phone.client.host, phone.client.port, reply_timeout_sec=0.5)
    watch = AdbWatch(
        client, lambda entries: told.append(f"{len(entries)} phones"), lambda _: told.append("lost"), SystemClock(),
        pulse_sec=0.2,
    )  # fmt: skip
    server, watching = psutil.Process(phone.server_pid), asyncio.create_task(watch.run())
    try:
        # A busy machine may take longer for a list than the watch waits here: that is a loss too.
        await until(lambda: told[-1:] == ["1 phones"], within_sec=60)
        before = len(told)
        server.suspend()
        await until(lambda: "lost" in told[before:], within_sec=60)
        server.resume()
        await until(lambda: told[-1] == "1 phones", within_sec=60)
    finally:
        server.resume()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


# ---- connect ---------------------------------------------------------------------------------------------------------


async def test_connecting_twice_says_so_and_disconnecting_forgets(phone: VirtualPhone) -> None:
    assert phone.phone is not None
    other = f"localhost:{phone.phone.adbd.port}"  # another text is another device to adb (spec/10)
    assert (await phone.client.connect(other)).outcome is ConnectOutcome.CONNECTED
    assert (await phone.client.connect(other)).outcome is ConnectOutcome.ALREADY_CONNECTED
    await wait_for_state(phone.client, other, DeviceState.DEVICE)
    await phone.client.disconnect(other)
    assert other not in {device.serial for device in await phone.client.devices()}
    with pytest.raises(AdbServerRefused):
        await phone.client.disconnect(other)


async def test_a_phone_that_has_not_accepted_the_key_is_unauthenticated(phone: VirtualPhone) -> None:
    await phone.become(PhoneState.UNAUTHORIZED, DeviceState.UNAUTHORIZED)
    assert phone.phone is not None
    result = await phone.client.connect(f"localhost:{phone.phone.adbd.port}")
    assert result.outcome is ConnectOutcome.UNAUTHENTICATED


async def test_a_dead_port_is_unreachable_and_leaves_no_entry(phone: VirtualPhone) -> None:
    with dead_port() as port:
        assert (await phone.client.connect(f"127.0.0.1:{port}")).outcome is ConnectOutcome.UNREACHABLE
    assert [device.serial for device in await phone.client.devices()] == [phone.serial]


# ---- event loops -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist there")
def test_the_client_keeps_its_promises_in_uvloop(tmp_path: Path) -> None:
    import uvloop  # noqa: PLC0415 - not installed on every system

    async def scenario() -> None:
        async with virtual_phone(tmp_path / "adb") as phone:
            result = await phone.client.shell(phone.serial, "echo out; echo err >&2; exit 3")
            assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
            sync, data = AdbSync(phone.client, phone.serial), bytes(range(256)) * 20_000
            await sync.push(data, "/sdcard/big")
            assert await sync.pull("/sdcard/big") == data
            fds = psutil.Process().num_fds()
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await phone.client.shell(phone.serial, "sleep 60")
            await asyncio.sleep(0)
            assert psutil.Process().num_fds() <= fds
            with pytest.raises(AdbDeviceMissing):
                await phone.client.shell("nobody", "id")

    uvloop.run(scenario())
