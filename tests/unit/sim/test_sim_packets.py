"""ADB packets and the shell protocol, byte by byte."""

import pytest

from muster.sim.adbd.packets import Command, Decoder, Packet, ProtocolError, checksum, encode
from muster.sim.adbd.shellproto import Id, PacketReader, pack

OPEN_BYTES = (
    bytes.fromhex(
        "4f50454e"  # "OPEN"
        "05000000"  # arg0: the host's id
        "00000000"
        "08000000"  # eight bytes follow
        "be020000"  # their sum
        "b0afbab1"  # the command's bits, all turned
    )
    + b"shell:l\0"
)


def test_a_packet_is_these_bytes() -> None:
    assert encode(Packet(Command.OPEN, 5, 0, b"shell:l\0"), checked=True) == OPEN_BYTES


def test_these_bytes_are_a_packet_however_they_are_cut() -> None:
    for cut in range(len(OPEN_BYTES) + 1):
        decoder = Decoder()
        packets = decoder.feed(OPEN_BYTES[:cut]) + decoder.feed(OPEN_BYTES[cut:])
        assert packets == [Packet(Command.OPEN, 5, 0, b"shell:l\0")]
        assert decoder.buffered == 0


def test_the_newer_version_writes_no_checksum() -> None:
    bare = encode(Packet(Command.OPEN, 5, 0, b"shell:l\0"), checked=False)
    assert bare[16:20] == bytes(4)
    assert Decoder(checked=False).feed(bare) == Decoder().feed(OPEN_BYTES)
    with pytest.raises(ProtocolError, match="checksum"):
        Decoder().feed(bare)


def test_the_checksum_is_a_sum() -> None:
    assert checksum(b"") == 0
    assert checksum(b"\xff" * 3) == 765


@pytest.mark.parametrize(
    ("at", "byte", "words"),
    [(0, 0x00, "no adb packet"), (20, 0x00, "no adb packet"), (15, 0xFF, "at most"), (16, 0x00, "checksum")],
)
def test_a_damaged_packet_is_refused(at: int, byte: int, words: str) -> None:
    damaged = OPEN_BYTES[:at] + bytes([byte]) + OPEN_BYTES[at + 1 :]
    with pytest.raises(ProtocolError, match=words):
        Decoder().feed(damaged)


def test_a_length_is_refused_before_anything_of_it_is_kept() -> None:
    head = encode(Packet(Command.WRTE, 1, 1, bytes(101)), checked=True)[:24]
    with pytest.raises(ProtocolError, match="101 bytes, at most 100"):
        Decoder(max_payload=100).feed(head)


def test_shell_packets_are_an_id_a_length_and_data() -> None:
    assert pack(Id.STDERR, b"no\n") == b"\x02\x03\x00\x00\x00no\n"
    assert pack(Id.EXIT, b"\x07") == b"\x03\x01\x00\x00\x00\x07"
    stream = b"\x00\x02\x00\x00\x00hi\x04\x00\x00\x00\x00"
    reader = PacketReader()
    packets = [packet for at in range(len(stream)) for packet in reader.feed(stream[at : at + 1])]
    assert packets == [(Id.STDIN, b"hi"), (Id.CLOSE_STDIN, b"")]


@pytest.mark.parametrize("head", [b"\x09\x00\x00\x00\x00", b"\x00\xff\xff\xff\x7f"])
def test_a_shell_packet_of_no_known_kind_or_size_is_refused(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        PacketReader().feed(head)
