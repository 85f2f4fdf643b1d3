"""ADB transport packets: a 24-byte little-endian header (command, arg0, arg1, length, checksum, magic) and a payload.

Bytes in, packets out; no I/O. Source: `adb/protocol.txt` and `adb/types.h` of AOSP.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

HEADER: Final = struct.Struct("<6I")
MAX_PAYLOAD_BYTES: Final = 1024 * 1024
"""What this side accepts and announces; the same as a current adbd (`MAX_PAYLOAD`)."""
MAX_PAYLOAD_V1_BYTES: Final = 4 * 1024
VERSION_CHECKED: Final = 0x01000000
VERSION_UNCHECKED: Final = 0x01000001
"""From this version on, checksums are neither written nor verified (`A_VERSION_SKIP_CHECKSUM`)."""


class ProtocolError(Exception):
    """The peer sent bytes that no adb sends. The transport cannot go on."""


class Command(IntEnum):
    """Four letters, read as a little-endian number."""

    CNXN = 0x4E584E43
    AUTH = 0x48545541
    OPEN = 0x4E45504F
    OKAY = 0x59414B4F
    CLSE = 0x45534C43
    WRTE = 0x45545257
    STLS = 0x534C5453


_COMMANDS: Final = frozenset(int(command) for command in Command)


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet. `command` is one of `Command`; what `arg0` and `arg1` mean depends on it."""

    command: int
    arg0: int
    arg1: int
    data: bytes = b""


def checksum(data: bytes) -> int:
    """The sum of all bytes, modulo 2³²; adb calls it a CRC."""
    return sum(data) & 0xFFFFFFFF


def encode(packet: Packet, *, checked: bool) -> bytes:
    """The packet's bytes; `checked` writes the checksum of version 1, otherwise the field is 0."""
    total = checksum(packet.data) if checked else 0
    magic = packet.command ^ 0xFFFFFFFF
    return HEADER.pack(packet.command, packet.arg0, packet.arg1, len(packet.data), total, magic) + packet.data


class Decoder:
    """Turns a stream of bytes into packets. `checked` may be switched off once CNXN has settled the version."""

    def __init__(self, *, max_payload: int = MAX_PAYLOAD_BYTES, checked: bool = True) -> None:
        self.checked = checked
        self._max_payload = max_payload
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        """Bytes held back: never more than one header and one payload."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Packet]:
        """All packets that are whole now. Raises ProtocolError; after that the decoder is of no use."""
        self._buffer += data
        packets: list[Packet] = []
        start = 0
        while (packet := self._take(start)) is not None:
            start += HEADER.size + len(packet.data)
            packets.append(packet)
        if start:
            del self._buffer[:start]
        return packets

    def _take(self, start: int) -> Packet | None:
        if len(self._buffer) - start < HEADER.size:
            return None
        command, arg0, arg1, length, total, magic = HEADER.unpack_from(self._buffer, start)
        if magic != command ^ 0xFFFFFFFF or command not in _COMMANDS:
            raise ProtocolError(f"no adb packet: command {command:#010x}, magic {magic:#010x}")
        if length > self._max_payload:
            raise ProtocolError(f"payload of {length} bytes, at most {self._max_payload} are allowed")
        end = start + HEADER.size + length
        if len(self._buffer) < end:
            return None
        data = bytes(memoryview(self._buffer)[start + HEADER.size : end])
        if self.checked and total != checksum(data):
            raise ProtocolError(f"checksum {total:#x} does not fit the payload")
        return Packet(command, arg0, arg1, data)
