"""The adb server's smart-socket protocol as value machines: bytes in, values out, no I/O.

Sources: AOSP `packages/modules/adb`: SERVICES.TXT, OVERVIEW.TXT, shell_protocol.h; quirks measured in spec/10.
A machine takes bytes in any pieces; the same bytes give the same values however they were cut.
"""

import re
import struct
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final

from muster.adb.errors import (
    AdbConnectionLost,
    AdbDeviceMissing,
    AdbDeviceOffline,
    AdbDeviceUnauthorized,
    AdbError,
    AdbProtocolError,
    AdbRequestInvalid,
    AdbServerRefused,
)

SERVICE_BYTES_MAX: Final = 65_535
"""Four hex digits. 60,000 bytes were seen to work; 70,000 are answered with a bare `closed`."""
BLOCK_BYTES_MAX: Final = 65_535
"""Four hex digits again. A longer list overflows to five digits without a word (spec/10)."""
SHELL_PACKET_BYTES_MAX: Final = 1024 * 1024
"""adb's MAX_PAYLOAD; a shell packet never spans two of the transport's payloads."""

_VIEW_BYTES_MIN: Final = 16 * 1024
_SHELL_HEADER: Final = struct.Struct("<BI")


# ---- requests --------------------------------------------------------------------------------------------------------


def request(service: str) -> bytes:
    """`service` with its length before it, ready to be sent. Raises AdbRequestInvalid."""
    if "\0" in service:
        raise AdbRequestInvalid("a request to adb cannot hold a NUL byte: all behind it would be dropped silently")
    try:
        payload = service.encode()
    except UnicodeEncodeError as error:
        raise AdbRequestInvalid(f"a request to adb must be UTF-8 text: {error.reason}") from None
    if len(payload) > SERVICE_BYTES_MAX:
        raise AdbRequestInvalid(
            f"a request to adb is at most {SERVICE_BYTES_MAX} bytes, this one has {len(payload)}: push a script instead"
        )
    return b"%04x%b" % (len(payload), payload)


# ---- replies ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Okay:
    """The server does what was asked; what follows belongs to the service."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server says FAIL and why."""

    message: str


class ServerReplies:
    """What the server sends before a stream becomes a service's own: statuses and hex-length blocks."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Takes the next bytes from the server."""
        self._buffer += data

    def reply(self) -> Okay | Refused | None:
        """The next status, or None when more bytes are needed. Raises AdbProtocolError."""
        if len(self._buffer) < 4:
            return None
        status = bytes(self._buffer[:4])
        if status == b"OKAY":
            del self._buffer[:4]
            return Okay()
        if status != b"FAIL":
            raise AdbProtocolError(f"expected OKAY or FAIL, got {status!r}: is this an adb server?")
        end = self._block_end(4)
        return None if end is None else Refused(self._take(4, end).decode(errors="replace"))

    def block(self) -> bytes | None:
        """The next hex-length block, or None when more bytes are needed. Raises AdbProtocolError."""
        end = self._block_end(0)
        return None if end is None else self._take(0, end)

    def rest(self) -> bytes:
        """Everything that was fed and not yet taken."""
        return self._take(-4, len(self._buffer))

    def __len__(self) -> int:
        return len(self._buffer)

    def _block_end(self, start: int) -> int | None:
        digits = bytes(self._buffer[start : start + 4])
        if len(digits) < 4:
            return None
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            raise AdbProtocolError(f"expected a length of four hex digits, got {digits!r}")
        end = start + 4 + int(digits, 16)
        return end if len(self._buffer) >= end else None

    def _take(self, start: int, end: int) -> bytes:
        """Bytes of a block whose length digits stand at `start`; they and all before them are consumed."""
        taken = bytes(self._buffer[start + 4 : end])
        del self._buffer[:end]
        return taken


def refusal(message: str) -> AdbError:
    """The exception for a FAIL text of the server, by what the caller does next."""
    if re.search(r"device '.*' not found", message, re.DOTALL) or message.startswith("no devices"):
        return AdbDeviceMissing(message)
    if message.startswith("device unauthorized"):
        return AdbDeviceUnauthorized(message)
    if message.startswith(("device offline", "device still ")):
        return AdbDeviceOffline(message)
    if message == "closed":
        return AdbConnectionLost("the phone closed the stream before it opened")
    return AdbServerRefused(message)


# ---- shell,v2 --------------------------------------------------------------------------------------------------------


class ShellStream(IntEnum):
    """Packet ids of shell_protocol.h that a phone may send."""

    STDOUT = 1
    STDERR = 2
    EXIT = 3


@dataclass(frozen=True, slots=True)
class ShellResult:
    """A command that ended on the phone. `truncated`: output beyond a limit was read and thrown away."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


class _Capped:
    """The first `bytes_max` bytes of a stream.

    Large pieces are kept as views of what came and copied once, at the end: growing one buffer instead costs a
    screenshot 0.4 ms in page faults. Small ones are gathered, so that a phone that sends byte by byte costs no more.
    """

    __slots__ = ("_pieces", "_room", "truncated")

    def __init__(self, bytes_max: int) -> None:
        self._room = bytes_max
        self._pieces: list[memoryview | bytearray] = []
        self.truncated = False

    def add(self, piece: memoryview) -> None:
        if len(piece) > self._room:
            self.truncated = True
            piece = piece[: self._room]
        self._room -= len(piece)
        if len(piece) >= _VIEW_BYTES_MIN:
            self._pieces.append(piece)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))

    def joined(self) -> bytes:
        return b"".join(self._pieces)


class ShellDecoder:
    """Packets of `shell,v2`: id, little-endian length, payload. Payloads are taken as they come, never kept whole."""

    def __init__(self, *, stdout_bytes_max: int, stderr_bytes_max: int) -> None:
        self._stdout = _Capped(stdout_bytes_max)
        self._stderr = _Capped(stderr_bytes_max)
        self._header = b""
        self._stream = ShellStream.STDOUT
        self._left = 0
        self.result: ShellResult | None = None

    def feed(self, data: bytes) -> ShellResult | None:
        """Takes the next bytes; gives the result once the exit packet is whole. Raises AdbProtocolError."""
        view, at = memoryview(data), 0
        while self.result is None and at < len(data):
            if self._left == 0:
                at = self._read_header(data, at)
            else:
                piece = view[at : at + self._left]
                at += len(piece)
                self._read_payload(piece)
        return self.result

    def _read_header(self, data: bytes, at: int) -> int:
        missing = _SHELL_HEADER.size - len(self._header)
        self._header += data[at : at + missing]
        if len(self._header) == _SHELL_HEADER.size:
            kind, length = _SHELL_HEADER.unpack(self._header)
            self._header = b""
            self._begin(kind, length)
        return at + missing

    def _begin(self, kind: int, length: int) -> None:
        if kind not in (1, 2, 3):
            raise AdbProtocolError(f"unknown shell packet {kind}")
        if length > SHELL_PACKET_BYTES_MAX or (kind == ShellStream.EXIT and length != 1):
            raise AdbProtocolError(f"a shell packet {kind} of {length} bytes")
        self._stream, self._left = ShellStream(kind), length

    def _read_payload(self, piece: memoryview) -> None:
        self._left -= len(piece)
        if self._stream is ShellStream.STDOUT:
            self._stdout.add(piece)
        elif self._stream is ShellStream.STDERR:
            self._stderr.add(piece)
        else:
            truncated = self._stdout.truncated or self._stderr.truncated
            self.result = ShellResult(piece[0], self._stdout.joined(), self._stderr.joined(), truncated)


# ---- lists of phones -------------------------------------------------------------------------------------------------


class DeviceState(StrEnum):
    """How the server sees a phone; `other` covers what is of no use to us (sideload, no permissions, …)."""

    DEVICE = "device"
    OFFLINE = "offline"
    UNAUTHORIZED = "unauthorized"
    AUTHORIZING = "authorizing"
    CONNECTING = "connecting"
    RECOVERY = "recovery"
    BOOTLOADER = "bootloader"
    OTHER = "other"


_STATES: Final = {state.value: state for state in DeviceState if state is not DeviceState.OTHER}


def parse_state(text: str) -> DeviceState:
    """A state's word as the server writes it."""
    return _STATES.get(text.strip(), DeviceState.OTHER)


@dataclass(frozen=True, slots=True)
class AttachedDevice:
    """One line of the server's list. `state_text` is the server's own word."""

    serial: str
    state: DeviceState
    state_text: str


DeviceList = tuple[AttachedDevice, ...]


def parse_device_list(block: bytes) -> DeviceList:
    """The short form of `devices` and `track-devices`: a line a phone, `serial\\tstate`. Raises AdbProtocolError."""
    return tuple(_parse_device(line) for line in block.decode(errors="replace").split("\n") if line)


def _parse_device(line: str) -> AttachedDevice:
    serial, tab, state = line.partition("\t")
    if not tab or not serial:
        raise AdbProtocolError(f"a line of the device list without serial and state: {line[:100]!r}")
    return AttachedDevice(serial, parse_state(state), state.strip())


# ---- connect ---------------------------------------------------------------------------------------------------------


class ConnectOutcome(StrEnum):
    """What `adb connect` really did; its own status says success whatever happens (spec/10)."""

    CONNECTED = "connected"
    ALREADY_CONNECTED = "already connected"
    UNAUTHENTICATED = "failed to authenticate"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ConnectResult:
    """`outcome`, and the server's words behind it."""

    outcome: ConnectOutcome
    message: str

    @property
    def is_connected(self) -> bool:
        """The server holds a transport; whether the phone talks is told by its state alone."""
        return self.outcome in (ConnectOutcome.CONNECTED, ConnectOutcome.ALREADY_CONNECTED)


def parse_connect(text: str) -> ConnectResult:
    """The server's sentence after `host:connect:`."""
    for outcome in (ConnectOutcome.CONNECTED, ConnectOutcome.ALREADY_CONNECTED, ConnectOutcome.UNAUTHENTICATED):
        if text.startswith(f"{outcome.value} to "):
            return ConnectResult(outcome, text)
    return ConnectResult(ConnectOutcome.FAILED, text)


def parse_address(address: str) -> tuple[str, int]:
    """`host`, `host:port` or `[v6]:port`; the port is 5555 unless told. Raises AdbRequestInvalid."""
    match = re.fullmatch(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^\s:/\[\]]+))(?::(?P<port>[0-9]{1,5}))?", address)
    port = int(match["port"] or 5555) if match else 0
    if match is None or not 0 < port < 65_536:
        raise AdbRequestInvalid(f"{address[:100]!r} is not an address of the form host:port")
    return match["v6"] or match["host"], port
