"""One attached phone: adb and the vendor tool behind `ports.Phone`, their errors as reasons."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from muster.adb.client import AdbClient
from muster.adb.errors import (
    AdbCommandFailed,
    AdbConnectionLost,
    AdbDeviceMissing,
    AdbDeviceOffline,
    AdbDeviceUnauthorized,
    AdbDeviceUnresponsive,
    AdbError,
    AdbFileError,
    AdbProtocolError,
    AdbRequestInvalid,
    AdbServerGone,
    AdbServerRefused,
    AdbTooLarge,
)
from muster.adb.fence import fenced, refused_at
from muster.adb.sync import AdbSync
from muster.agent.ports import Fence, PhoneError, PhoneTooLate, ShellOutput
from muster.domain.failure import FailureReason
from muster.domain.limits import STEP_TIMEOUT_MS_MIN
from muster.runtime.logs import get_logger
from muster.vendor.errors import VendorError, VendorUnavailable
from muster.vendor.tool import VendorTool

log = get_logger()
TOOL_PICTURE_SEC: Final = 4.0
"""From asking the tool to the whole picture. Less than any step's limit: adb has the rest, should the tool hang."""
_REASONS: Final[tuple[tuple[type[AdbError], FailureReason, bool], ...]] = (
    # error, reason, whether the command may have reached the phone
    (AdbDeviceMissing, FailureReason.ADB_MISSING, False),
    (AdbDeviceOffline, FailureReason.ADB_OFFLINE, False),
    (AdbDeviceUnauthorized, FailureReason.NEEDS_USB_AUTHORIZATION, False),
    (AdbDeviceUnresponsive, FailureReason.DEVICE_UNRESPONSIVE, True),
    (AdbConnectionLost, FailureReason.ADB_OFFLINE, True),
    (AdbServerGone, FailureReason.ADB_MISSING, True),
    (AdbServerRefused, FailureReason.ADB_OFFLINE, False),
    (AdbRequestInvalid, FailureReason.STEP_FAILED, False),
    (AdbCommandFailed, FailureReason.STEP_FAILED, True),
    (AdbFileError, FailureReason.STEP_FAILED, False),
    (AdbTooLarge, FailureReason.STEP_FAILED, True),
    (AdbProtocolError, FailureReason.DEVICE_UNRESPONSIVE, True),
)


def phone_error(error: AdbError) -> PhoneError:
    """The same in the words of the closed list."""
    for kind, reason, fate_unknown in _REASONS:
        if isinstance(error, kind):
            return PhoneError(reason, f"adb: {error}", fate_unknown=fate_unknown)
    return PhoneError(FailureReason.DEVICE_UNRESPONSIVE, f"adb: {error}")


class Pictures(Protocol):
    """Whether, and how, the vendor tool takes a phone's picture."""

    def vendor_for(self, handle: str) -> VendorTool | None:
        """The tool, if it is up and has the phone in its list."""
        ...

    def vendor_failed(self) -> None:
        """It could not be talked to: the next phone need not try before the tool answers again."""
        ...


class AttachedPhone:
    """Implements `ports.Phone`. Valid as long as the phone stays at this handle; take a new one for each step."""

    def __init__(
        self, device_id: str, runtime_handle: str, adb: AdbClient, pictures: Pictures, shots_root: Path
    ) -> None:
        self._device_id = device_id
        self._runtime_handle = runtime_handle
        self._adb = adb
        self._pictures = pictures
        self._shots_root = shots_root

    @property
    def device_id(self) -> str:
        """The phone for ever (R6.1)."""
        return self._device_id

    @property
    def runtime_handle(self) -> str:
        """Where it is attached (R6.2)."""
        return self._runtime_handle

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        """Runs `command` in the phone's shell. Raises PhoneError, PhoneTooLate."""
        if fence is not None:
            command = fenced(command, fence.deadline_sec, timeout_sec=fence.timeout_sec)
        try:
            result = await self._adb.shell(self._runtime_handle, command)
        except AdbError as error:
            raise phone_error(error) from error
        if fence is not None and (phone_sec := refused_at(result.exit_code, result.stderr)) is not None:
            raise PhoneTooLate(phone_sec)
        return ShellOutput(result.exit_code, result.stdout, result.stderr, result.truncated)

    async def push(self, source: Path, remote: str) -> None:
        """A file of this PC to a path on the phone. Raises PhoneError, OSError."""
        try:
            await AdbSync(self._adb, self._runtime_handle).push(source, remote)
        except AdbError as error:
            raise phone_error(error) from error

    async def pull(self, remote: str, target: Path, *, bytes_max: int) -> int:
        """A file of the phone to `target`; its size. Raises PhoneError, OSError."""
        try:
            return await AdbSync(self._adb, self._runtime_handle).pull_to(remote, target, bytes_max=bytes_max)
        except AdbError as error:
            raise phone_error(error) from error

    async def vendor(self, action: str, data: Mapping[str, str], *, timeout_sec: float) -> object:
        """An action of the vendor tool; of an answer by phone, this phone's part. Raises PhoneError."""
        tool = self._pictures.vendor_for(self._runtime_handle)
        if tool is None:
            message = "the vendor tool does not run, or does not list this phone"
            raise PhoneError(FailureReason.VENDOR_WS_ERROR, message, fate_unknown=False)
        try:
            async with asyncio.timeout(timeout_sec):
                answer = await tool.act(self._runtime_handle, action, data, timeout_sec=timeout_sec)
        except TimeoutError:
            message = f"the vendor tool did not come to it within {timeout_sec:g} s"
            raise PhoneError(FailureReason.VENDOR_WS_ERROR, message) from None
        except VendorUnavailable as error:
            self._pictures.vendor_failed()
            raise PhoneError(error.reason, str(error)) from error
        except VendorError as error:
            raise PhoneError(error.reason, str(error), fate_unknown=False) from error
        if isinstance(answer, dict) and self._runtime_handle in answer:
            return answer[self._runtime_handle]
        return answer

    async def screenshot(self) -> bytes:
        """“If the vendor can, use it; if not, adb” (spec/05). Raises PhoneError."""
        tool = self._pictures.vendor_for(self._runtime_handle)
        if tool is not None and (picture := await self._by_tool(tool)) is not None:
            return picture
        try:
            return await self._adb.screencap(self._runtime_handle)
        except AdbError as error:
            raised = phone_error(error)
            if raised.reason is FailureReason.STEP_FAILED:
                raised.reason = FailureReason.SCREENSHOT_ERROR
            raise raised from error

    async def _by_tool(self, tool: VendorTool) -> bytes | None:
        """None: it gave none in its time."""
        try:
            async with asyncio.timeout(TOOL_PICTURE_SEC) as limit:
                return await tool.screen(self._runtime_handle, self._shots_root)
        except TimeoutError:
            if not limit.expired():
                raise
            self._pictures.vendor_failed()
            log.warning(
                "The vendor tool gave no picture; adb takes it", error=f"none came within {TOOL_PICTURE_SEC:g} s"
            )
        except VendorError as error:
            if isinstance(error, VendorUnavailable):
                self._pictures.vendor_failed()
            log.warning("The vendor tool gave no picture; adb takes it", error=str(error))
        return None


assert TOOL_PICTURE_SEC * 1000 < STEP_TIMEOUT_MS_MIN, "a tool that hangs leaves time for adb"
