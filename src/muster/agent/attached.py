"""One attached phone: adb and the vendor tool behind `ports.Phone`, their errors as reasons."""

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
from muster.runtime.logs import get_logger
from muster.vendor.errors import VendorError
from muster.vendor.tool import VendorTool

log = get_logger()
TOOL_PICTURE_SEC_MAX: Final = 4.0
"""From asking the tool to the whole picture: several times what that takes."""
TOOL_PICTURE_SEC_MIN: Final = 1.0
ADB_PICTURE_SEC_MIN: Final = 3.0
"""What `screencap` takes on a slow phone, and its transfer."""
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


def tool_share_sec(left_sec: float) -> float:
    """How much of a screenshot's time the vendor tool gets before it is adb's turn; 0: it is not asked.

    Half at most, and never what adb needs. With so little that the tool's picture would hardly come, adb has it all.
    """
    share_sec = min(left_sec / 2, left_sec - ADB_PICTURE_SEC_MIN, TOOL_PICTURE_SEC_MAX)
    return share_sec if share_sec >= TOOL_PICTURE_SEC_MIN else 0.0


class CastingTool(Protocol):
    """The vendor tool as far as it can be used for one phone (`tool_silence.py`)."""

    def vendor_for(self, handle: str) -> VendorTool | None:
        """The tool, if it is up and has the phone in its list."""
        ...

    def pictures_by(self, handle: str) -> VendorTool | None:
        """The same, unless it was silent when it was lately asked for this phone."""
        ...

    def vendor_ended(self, handle: str, error: VendorError | None) -> None:
        """A request for the phone came to this end; None: as it should."""
        ...


class AttachedPhone:
    """Implements `ports.Phone`. Valid as long as the phone stays at this handle; take a new one for each step."""

    def __init__(
        self, device_id: str, runtime_handle: str, adb: AdbClient, casting: CastingTool, shots_root: Path
    ) -> None:
        self._device_id = device_id
        self._runtime_handle = runtime_handle
        self._adb = adb
        self._casting = casting
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
        tool = self._casting.vendor_for(self._runtime_handle)
        if tool is None:
            message = "the vendor tool does not run, or does not list this phone"
            raise PhoneError(FailureReason.VENDOR_WS_ERROR, message, fate_unknown=False)
        try:
            answer = await tool.act(self._runtime_handle, action, data, timeout_sec=timeout_sec)
        except VendorError as error:
            self._casting.vendor_ended(self._runtime_handle, error)
            raise PhoneError(error.reason, str(error), fate_unknown=error.fate_unknown) from error
        self._casting.vendor_ended(self._runtime_handle, None)
        if isinstance(answer, dict) and self._runtime_handle in answer:
            return answer[self._runtime_handle]
        return answer

    async def screenshot(self, *, left_sec: float) -> bytes:
        """“If the vendor can, use it; if not, adb” (spec/05). Raises PhoneError."""
        tool, share_sec = self._casting.pictures_by(self._runtime_handle), tool_share_sec(left_sec)
        if tool is not None and share_sec > 0 and (picture := await self._by_tool(tool, share_sec)) is not None:
            return picture
        try:
            return await self._adb.screencap(self._runtime_handle)
        except AdbError as error:
            raised = phone_error(error)
            if raised.reason is FailureReason.STEP_FAILED:
                raised.reason = FailureReason.SCREENSHOT_ERROR
            raise raised from error

    async def _by_tool(self, tool: VendorTool, share_sec: float) -> bytes | None:
        """None: it gave none in its time."""
        try:
            picture = await tool.screen(self._runtime_handle, self._shots_root, timeout_sec=share_sec)
        except VendorError as error:
            self._casting.vendor_ended(self._runtime_handle, error)
            log.warning("The vendor tool gave no picture; adb takes it", error=str(error))
            return None
        except OSError as error:
            # A full disk: adb's picture needs no file here.
            log.warning("The vendor tool has no place for its picture; adb takes it", error=str(error))
            return None
        self._casting.vendor_ended(self._runtime_handle, None)
        return picture
