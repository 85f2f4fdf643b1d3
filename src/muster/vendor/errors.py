"""What can go wrong with the vendor tool, by what the caller does next. `reason` is what a task says of it.

VendorError
├── VendorUnavailable  the tool cannot be talked to: do without it (adb alone), try again later
│   └── VendorMalformed   it talks, but not the protocol
├── VendorBusy         it was not asked: every connection to it waits for some phone
├── VendorUnanswered   it was asked and said nothing in time: it may hang, or only the phone
└── VendorRefused      it answered, and the answer is no: nothing to gain from asking the same again
    └── VendorPictureMissing  it said yes to a picture that never came whole
"""

from muster.domain.failure import FailureReason


class VendorError(Exception):
    """Anything that keeps a request from being done. `fate_unknown`: it may happen all the same."""

    reason = FailureReason.VENDOR_WS_ERROR
    fate_unknown = False


class VendorUnavailable(VendorError):
    """Nothing there, or the connection was lost: the request's fate is unknown."""

    fate_unknown = True


class VendorMalformed(VendorUnavailable):
    """The tool's answer is not what the protocol says."""


class VendorBusy(VendorError):
    """No connection became free in time."""


class VendorUnanswered(VendorError):
    """No answer in time."""

    fate_unknown = True


class VendorRefused(VendorError):
    """The tool answered with a code other than 10000; its message may be Chinese."""

    reason = FailureReason.VENDOR_COMMAND_ERROR

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"vendor code {code}: {message}")
        self.code = code
        self.message = message


class VendorPictureMissing(VendorRefused):
    """The tool promised a picture, and no whole one appeared in its folder in time."""
