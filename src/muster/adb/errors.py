"""What can go wrong between this PC and a phone, split by what the caller does next.

AdbError
├── AdbServerGone         nothing answers, or the server hung up: start it again, connect TCP phones again
├── AdbServerRefused      the server said FAIL: its text says why
├── AdbDeviceMissing      no such serial: the phone is not attached
├── AdbDeviceOffline      attached, but not (yet) talking
├── AdbDeviceUnauthorized somebody has to accept the key on the phone's screen
├── AdbDeviceUnresponsive `device`, yet it does not answer in time: fate unknown, probe it
├── AdbConnectionLost     the stream ended before its end: fate unknown
├── AdbCommandFailed      a command whose success the call needs ended with another exit status
├── AdbFileError          the phone refused a file (no such file, no space, read-only, …)
├── AdbRequestInvalid     the request cannot be said to adb at all; trying again is useless
├── AdbTooLarge           the answer passed the limit that the caller set
└── AdbProtocolError      the bytes make no sense: not an adb server, or a bug here
"""


class AdbError(Exception):
    """Anything that keeps a call to the adb server from giving its answer."""


class AdbServerGone(AdbError):
    """Nothing answers at the server's address, or it hung up before it answered."""


class AdbServerRefused(AdbError):
    """The server answered FAIL; the message is its own text."""


class AdbDeviceMissing(AdbError):
    """The server knows no phone of this serial."""


class AdbDeviceOffline(AdbError):
    """The phone is attached but offline, connecting or still being asked for its key."""


class AdbDeviceUnauthorized(AdbError):
    """The phone has not accepted this PC's key."""


class AdbDeviceUnresponsive(AdbError):
    """The phone did not answer within the limit. What was asked of it may still happen when it thaws (spec/10)."""


class AdbConnectionLost(AdbError):
    """The stream to the phone ended in the middle. Whether the command ran, or still runs, is unknown."""


class AdbCommandFailed(AdbError):
    """A command ended with a status other than 0 where the call cannot give its answer without it."""

    def __init__(self, command: str, exit_code: int, stderr: str) -> None:
        words = stderr.strip()[:500] or "nothing on stderr"
        super().__init__(f"{command!r} ended with exit status {exit_code}: {words}")
        self.exit_code = exit_code
        self.stderr = stderr


class AdbFileError(AdbError):
    """The phone's file service answered FAIL; the message is its own text."""


class AdbRequestInvalid(AdbError):
    """The request is too long or holds what adb cannot carry (a NUL, a lone surrogate)."""


class AdbTooLarge(AdbError):
    """More came than the caller allowed; what was read is thrown away."""


class AdbProtocolError(AdbError):
    """The other side does not speak the protocol, or speaks past a limit."""
