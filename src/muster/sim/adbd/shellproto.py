"""The shell protocol, version 2: packets of one id byte, a 32-bit little-endian length, and data, inside a stream.

Source: `adb/shell_protocol.h` of AOSP. Bytes in, packets out; no I/O.
"""

import struct
from enum import IntEnum
from typing import Final

from muster.sim.adbd.packets import ProtocolError

_HEAD: Final = struct.Struct("<BI")
PACKET_BYTES_MAX: Final = 1024 * 1024


class Id(IntEnum):
    """What a packet carries."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EXIT = 3
    CLOSE_STDIN = 4
    WINDOW_SIZE = 5


def pack(packet_id: int, data: bytes) -> bytes:
    """One packet."""
    return _HEAD.pack(packet_id, len(data)) + data


class PacketReader:
    """Collects what the host sends on the stream into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """All packets that are whole now, as (id, data). Raises ProtocolError."""
        self._buffer += data
        packets: list[tuple[int, bytes]] = []
        while len(self._buffer) >= _HEAD.size:
            packet_id, length = _HEAD.unpack_from(self._buffer)
            if length > PACKET_BYTES_MAX or packet_id > Id.WINDOW_SIZE:
                raise ProtocolError(f"no shell packet: id {packet_id}, {length} bytes")
            end = _HEAD.size + length
            if len(self._buffer) < end:
                break
            packets.append((packet_id, bytes(self._buffer[_HEAD.size : end])))
            del self._buffer[:end]
        return packets
