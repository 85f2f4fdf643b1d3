"""Muster's vendor client against the imitated tool: what each quirk looks like from the agent's side."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.vendor_rack import Rack, rack_of

from muster.sim.vendor import VendorQuirks, VendorServer
from muster.sim.vendor.quirks import INSTANT
from muster.vendor.errors import (
    VendorMalformed,
    VendorPictureMissing,
    VendorRefused,
    VendorUnanswered,
    VendorUnavailable,
)
from muster.vendor.pool import VendorPool
from muster.vendor.protocol import DeviceMode
from muster.vendor.tool import VendorTool


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    return rack_of(4, tmp_path / "rack")


@pytest.fixture
async def server(rack: Rack) -> AsyncIterator[VendorServer]:
    server = VendorServer(rack, pace=INSTANT)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def tool(server: VendorServer) -> AsyncIterator[VendorTool]:
    async with VendorPool(f"ws://127.0.0.1:{server.port}/") as pool:
        yield VendorTool(pool, picture_timeout_sec=60.0)


async def test_the_list_is_taken_whole(tool: VendorTool, rack: Rack) -> None:
    rack.members[3].serial, rack.members[3].mode = None, 3
    rack.members[2].status = "offline"
    listed = await tool.list()
    assert listed.problems == ()
    assert [device.only_serial for device in listed.devices] == [phone.only_serial for phone in rack.members]
    assert [device.is_online for device in listed.devices] == [True, True, False, True]
    assert listed.devices[0].mode is DeviceMode.WIFI
    assert listed.devices[3].mode is DeviceMode.ACCESSIBILITY
    assert (listed.devices[0].source_width, listed.devices[0].source_height) == (360, 780)


@pytest.mark.parametrize("quirks", [VendorQuirks(), VendorQuirks(jpeg=True), VendorQuirks(save_path_is_file=True)])
async def test_a_picture_arrives_whole_whatever_the_version(
    tool: VendorTool, server: VendorServer, rack: Rack, tmp_path: Path, quirks: VendorQuirks
) -> None:
    server.quirks = quirks
    data = await tool.screen("127.0.0.1:41002", tmp_path / "shots")
    assert data.startswith(b"\xff\xd8\xff") if quirks.jpeg else data == rack.members[1].screen.png()
    assert list((tmp_path / "shots").iterdir()) == []


async def test_pictures_of_four_phones_at_once_never_mix(tool: VendorTool, rack: Rack, tmp_path: Path) -> None:
    serials = [phone.serial or "" for phone in rack.members]
    pictures = await asyncio.gather(*(tool.screen(serial, tmp_path / "shots") for serial in serials))
    assert pictures == [phone.screen.png() for phone in rack.members]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("share", ["picture_missing_share", "picture_torn_share"])
async def test_a_picture_that_never_comes_whole_is_told_in_time(
    server: VendorServer, tmp_path: Path, share: str
) -> None:
    server.quirks = VendorQuirks(**{share: 1.0})  # type: ignore[arg-type]
    async with VendorPool(f"ws://127.0.0.1:{server.port}/") as pool:
        with pytest.raises(VendorPictureMissing):
            await VendorTool(pool, picture_timeout_sec=1.0).screen("127.0.0.1:41001", tmp_path / "shots")


@pytest.mark.parametrize(
    ("quirks", "error", "timeout_sec"),
    [
        (VendorQuirks(silent_share=1.0), VendorUnanswered, 1.0),
        (VendorQuirks(late_share=1.0, late_sec=60.0), VendorUnanswered, 1.0),
        (VendorQuirks(rubbish_share=1.0), VendorMalformed, 20.0),
        (VendorQuirks(huge_share=1.0), VendorUnavailable, 20.0),
        (VendorQuirks(dropped_share=1.0), VendorUnavailable, 20.0),
        (VendorQuirks(refused_actions=frozenset({"list"})), VendorRefused, 20.0),
    ],
)
async def test_each_bad_day_ends_as_its_own_error_and_the_next_request_works(
    tool: VendorTool, server: VendorServer, quirks: VendorQuirks, error: type[Exception], timeout_sec: float
) -> None:
    server.quirks = quirks
    for _ in range(3):
        with pytest.raises(error):
            await tool.list(timeout_sec=timeout_sec)
    server.quirks = VendorQuirks()
    assert len((await tool.list()).devices) == 4


async def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_one_s(
    tool: VendorTool, server: VendorServer
) -> None:
    assert len((await tool.list()).devices) == 4
    server.quirks = VendorQuirks(late_share=1.0, late_sec=0.2)
    with pytest.raises(VendorUnanswered):
        await tool.list(timeout_sec=0.05)
    server.quirks = VendorQuirks()
    for _ in range(20):
        assert len((await tool.list()).devices) == 4


async def test_a_tool_that_is_restarted_on_its_port_is_used_again(rack: Rack) -> None:
    first = VendorServer(rack, pace=INSTANT)
    port = await first.start()
    async with VendorPool(f"ws://127.0.0.1:{port}/") as pool:
        tool = VendorTool(pool)
        assert len((await tool.list()).devices) == 4
        await first.stop()
        with pytest.raises(VendorUnavailable):
            await tool.list(timeout_sec=0.5)
        second = VendorServer(rack, pace=INSTANT, port=port)
        await second.start()
        assert len((await tool.list()).devices) == 4
        await second.stop()
