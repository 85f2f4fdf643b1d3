"""Why a task ended badly: a closed list (spec/02), each reason with the class that tells who has to act."""

from enum import StrEnum
from types import MappingProxyType


class FailureClass(StrEnum):
    """Who has to act: somebody at the phone, somebody at the infrastructure, the recipe's author, or nobody."""

    DEVICE = "device"
    INFRASTRUCTURE = "infrastructure"
    RECIPE = "recipe"
    OPERATOR = "operator"


class FailureReason(StrEnum):
    """The closed list of `failure_reason`. `unknown` is a bug to be found, never a habit.

    No task ends with `callback_error`: what cannot be told is kept and told later (R1.8). The list has the word.
    """

    NEEDS_USB_AUTHORIZATION = "needs_usb_authorization"
    ADB_OFFLINE = "adb_offline"
    ADB_MISSING = "adb_missing"
    EMULATOR_NOT_ONLINE = "emulator_not_online"
    EMULATOR_NOT_BOOTED = "emulator_not_booted"
    DEVICE_UNRESPONSIVE = "device_unresponsive"
    VENDOR_WS_ERROR = "vendor_ws_error"
    VENDOR_COMMAND_ERROR = "vendor_command_error"
    BOOTSTRAP_CRITICAL_FAILED = "bootstrap_critical_failed"
    LOGIN_FLOW_TIMEOUT = "login_flow_timeout"
    PARAM_MISSING = "param_missing"
    STEP_FAILED = "step_failed"
    STEP_TIMEOUT = "step_timeout"
    TASK_TIMEOUT = "task_timeout"
    ASSERTION_FAILED = "assertion_failed"
    SCREENSHOT_ERROR = "screenshot_error"
    UPLOAD_ERROR = "upload_error"
    CALLBACK_ERROR = "callback_error"
    NODE_RESTARTED = "node_restarted"
    NODE_LOST = "node_lost"
    BATTERY_LOW = "battery_low"
    OVERHEATED = "overheated"
    QUARANTINED = "quarantined"
    DEVICE_RESERVED = "device_reserved"
    IDENTITY_CONFLICT = "identity_conflict"
    RAW_NOT_ALLOWED = "raw_not_allowed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def failure_class(self) -> FailureClass:
        """Who has to act on it."""
        return _CLASSES[self]

    @property
    def is_worth_another_attempt(self) -> bool:
        """A fault of phone or infrastructure that may be gone at once; some only time or a hand mends."""
        return self.failure_class in (FailureClass.DEVICE, FailureClass.INFRASTRUCTURE) and self not in _LASTING

    @property
    def is_timeout(self) -> bool:
        """Counted under `timeout` in a run's summary (spec/03)."""
        return self.value.endswith("_timeout")


_R, _C = FailureReason, FailureClass
_CLASSES = MappingProxyType(
    {
        _R.NEEDS_USB_AUTHORIZATION: _C.DEVICE,
        _R.ADB_OFFLINE: _C.DEVICE,
        _R.ADB_MISSING: _C.DEVICE,
        _R.EMULATOR_NOT_ONLINE: _C.DEVICE,
        _R.EMULATOR_NOT_BOOTED: _C.DEVICE,
        _R.DEVICE_UNRESPONSIVE: _C.DEVICE,
        _R.VENDOR_WS_ERROR: _C.INFRASTRUCTURE,
        _R.VENDOR_COMMAND_ERROR: _C.INFRASTRUCTURE,
        _R.BOOTSTRAP_CRITICAL_FAILED: _C.DEVICE,
        _R.LOGIN_FLOW_TIMEOUT: _C.DEVICE,
        _R.PARAM_MISSING: _C.RECIPE,
        _R.STEP_FAILED: _C.RECIPE,
        _R.STEP_TIMEOUT: _C.DEVICE,
        _R.TASK_TIMEOUT: _C.DEVICE,
        _R.ASSERTION_FAILED: _C.RECIPE,
        _R.SCREENSHOT_ERROR: _C.DEVICE,
        _R.UPLOAD_ERROR: _C.INFRASTRUCTURE,
        _R.CALLBACK_ERROR: _C.INFRASTRUCTURE,
        _R.NODE_RESTARTED: _C.INFRASTRUCTURE,
        _R.NODE_LOST: _C.INFRASTRUCTURE,
        _R.BATTERY_LOW: _C.DEVICE,
        _R.OVERHEATED: _C.DEVICE,
        _R.QUARANTINED: _C.DEVICE,
        _R.DEVICE_RESERVED: _C.OPERATOR,
        _R.IDENTITY_CONFLICT: _C.INFRASTRUCTURE,
        _R.RAW_NOT_ALLOWED: _C.RECIPE,
        _R.CANCELLED: _C.OPERATOR,
        _R.UNKNOWN: _C.INFRASTRUCTURE,
    }
)
_LASTING = frozenset({_R.NEEDS_USB_AUTHORIZATION, _R.BATTERY_LOW, _R.OVERHEATED, _R.QUARANTINED, _R.IDENTITY_CONFLICT})
assert set(_CLASSES) == set(FailureReason), "every reason has a class"
