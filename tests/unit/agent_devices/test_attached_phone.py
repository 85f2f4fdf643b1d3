"""adb's and the vendor tool's errors in the words of the closed list; pictures by whoever can."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.virtual_time import run_in_virtual_time

from muster.adb import errors
from muster.adb.client import AdbClient
from muster.agent.attached import ADB_PICTURE_SEC_MIN, AttachedPhone, phone_error, tool_share_sec
from muster.agent.ports import PhoneError
from muster.domain.failure import FailureReason
from muster.domain.limits import STEP_TIMEOUT_MS_MAX, STEP_TIMEOUT_MS_MIN
from muster.vendor.errors import VendorError, VendorMalformed, VendorRefused, VendorUnanswered, VendorUnavailable
from muster.vendor.pool import VendorPool
from muster.vendor.tool import VendorTool


def every_adb_error(kind: type[errors.AdbError] = errors.AdbError) -> list[type[errors.AdbError]]:
    return [found for sub in kind.__subclasses__() for found in (sub, *every_adb_error(sub))]


@pytest.mark.parametrize(
    ("error", "reason", "fate_unknown"),
    [
        (errors.AdbDeviceMissing("x"), FailureReason.ADB_MISSING, False),
        (errors.AdbDeviceOffline("x"), FailureReason.ADB_OFFLINE, False),
        (errors.AdbDeviceUnauthorized("x"), FailureReason.NEEDS_USB_AUTHORIZATION, False),
        (errors.AdbDeviceUnresponsive("x"), FailureReason.DEVICE_UNRESPONSIVE, True),
        (errors.AdbConnectionLost("x"), FailureReason.ADB_OFFLINE, True),
        (errors.AdbRequestInvalid("x"), FailureReason.STEP_FAILED, False),
    ],
)
def test_an_adb_error_has_a_reason_and_says_whether_the_command_may_have_run(
    error: errors.AdbError, reason: FailureReason, fate_unknown: bool
) -> None:
    raised = phone_error(error)
    assert (raised.reason, raised.fate_unknown) == (reason, fate_unknown)
    assert str(raised) == "adb: x"


@pytest.mark.parametrize("kind", every_adb_error(), ids=lambda kind: str(kind.__name__))
def test_no_adb_error_is_of_unknown_reason(kind: type[errors.AdbError]) -> None:
    error = kind("c", 1, "e") if issubclass(kind, errors.AdbCommandFailed) else kind("x")
    assert phone_error(error).reason is not FailureReason.UNKNOWN


class StubAdb(AdbClient):
    """Gives one picture, or one error."""

    def __init__(self, picture: bytes | errors.AdbError) -> None:
        super().__init__("127.0.0.1", 1)
        self.picture = picture

    async def screencap(self, serial: str, *, bytes_max: int = 0) -> bytes:
        if isinstance(self.picture, errors.AdbError):
            raise self.picture
        return self.picture


class StubTool(VendorTool):
    """Gives one picture, or one error, or nothing in its time."""

    def __init__(self, picture: bytes | VendorError | None) -> None:
        self.picture = picture

    async def screen(self, serial: str, root: Path, *, timeout_sec: float = 60.0) -> bytes:
        if self.picture is None:
            await asyncio.sleep(timeout_sec)
            raise VendorUnanswered("silent")
        if isinstance(self.picture, VendorError):
            raise self.picture
        assert self.picture is not None
        return self.picture


class Casting:
    """Whether there is a tool, and what was told of its answers."""

    def __init__(self, tool: VendorTool | None) -> None:
        self.tool = tool
        self.told: list[tuple[str, VendorError | None]] = []

    def vendor_for(self, handle: str) -> VendorTool | None:
        return self.tool

    def pictures_by(self, handle: str) -> VendorTool | None:
        return self.tool

    def vendor_ended(self, handle: str, error: VendorError | None) -> None:
        self.told.append((handle, error))


def phone(tool: VendorTool | None, adb: AdbClient, tmp_path: Path) -> tuple[AttachedPhone, Casting]:
    casting = Casting(tool)
    return AttachedPhone("ABC", "USB1", adb, casting, tmp_path), casting


async def test_the_vendor_tool_takes_the_picture_where_it_can(tmp_path: Path) -> None:
    attached, casting = phone(StubTool(b"by the tool"), StubAdb(b"by adb"), tmp_path)
    assert await attached.screenshot(left_sec=30.0) == b"by the tool"
    assert casting.told == [("USB1", None)]


@pytest.mark.parametrize("error", [VendorUnavailable("gone"), VendorMalformed("rubbish"), VendorRefused(10001, "无")])
async def test_where_the_vendor_tool_cannot_adb_takes_it(tmp_path: Path, error: VendorError) -> None:
    attached, casting = phone(StubTool(error), StubAdb(b"by adb"), tmp_path)
    assert await attached.screenshot(left_sec=30.0) == b"by adb"
    assert casting.told == [("USB1", error)]


async def test_where_there_is_no_room_for_the_vendor_tool_s_file_adb_takes_it(tmp_path: Path) -> None:
    in_its_way = tmp_path / "shots"
    in_its_way.write_bytes(b"")
    async with VendorPool("ws://127.0.0.1:1") as pool:
        attached, casting = phone(VendorTool(pool), StubAdb(b"by adb"), in_its_way)
        assert await attached.screenshot(left_sec=30.0) == b"by adb"
    assert casting.told == [], "the tool was not asked"


@given(left_sec=st.floats(min_value=0.0, max_value=2 * STEP_TIMEOUT_MS_MAX / 1000))
def test_of_a_screenshot_s_time_adb_has_always_half_and_what_it_needs_or_all(left_sec: float) -> None:
    share_sec = tool_share_sec(left_sec)
    rest_sec = left_sec - share_sec
    assert share_sec >= 0 and rest_sec >= left_sec / 2
    assert share_sec == 0 or rest_sec >= ADB_PICTURE_SEC_MIN


def test_a_vendor_tool_that_is_silent_leaves_adb_its_time_within_the_shortest_step(tmp_path: Path) -> None:
    left_sec = STEP_TIMEOUT_MS_MIN / 1000

    async def scenario() -> float:
        attached, casting = phone(StubTool(None), StubAdb(b"by adb"), tmp_path)
        assert await attached.screenshot(left_sec=left_sec) == b"by adb"
        assert isinstance(casting.told[0][1], VendorUnanswered)
        return asyncio.get_running_loop().time()

    asked_sec = run_in_virtual_time(scenario())
    assert 0 < asked_sec <= left_sec - ADB_PICTURE_SEC_MIN


async def test_with_too_little_time_for_both_adb_has_it_all(tmp_path: Path) -> None:
    attached, casting = phone(StubTool(b"by the tool"), StubAdb(b"by adb"), tmp_path)
    assert await attached.screenshot(left_sec=ADB_PICTURE_SEC_MIN) == b"by adb"
    assert casting.told == []


def test_a_step_that_is_cancelled_while_the_vendor_tool_takes_its_time_is_cancelled(tmp_path: Path) -> None:
    async def scenario() -> None:
        attached, casting = phone(StubTool(None), StubAdb(b"by adb"), tmp_path)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await attached.screenshot(left_sec=30.0)
        assert casting.told == [], "that says nothing of the tool"

    run_in_virtual_time(scenario())


async def test_without_a_vendor_tool_adb_takes_it(tmp_path: Path) -> None:
    attached, _ = phone(None, StubAdb(b"by adb"), tmp_path)
    assert await attached.screenshot(left_sec=30.0) == b"by adb"


async def test_a_screencap_that_fails_on_the_phone_is_a_screenshot_error(tmp_path: Path) -> None:
    attached, _ = phone(None, StubAdb(errors.AdbCommandFailed("screencap -p", 1, "no display")), tmp_path)
    with pytest.raises(PhoneError, match="no display") as raised:
        await attached.screenshot(left_sec=30.0)
    assert raised.value.reason is FailureReason.SCREENSHOT_ERROR
