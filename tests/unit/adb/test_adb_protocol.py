from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.adb import shell_packet

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
from muster.adb.protocol import (
    SHELL_PACKET_BYTES_MAX,
    AttachedDevice,
    ConnectOutcome,
    DeviceState,
    Okay,
    Refused,
    ServerReplies,
    ShellDecoder,
    ShellResult,
    parse_address,
    parse_connect,
    parse_device_list,
    refusal,
    request,
)


def replies(data: bytes) -> ServerReplies:
    machine = ServerReplies()
    machine.feed(data)
    return machine


def decode(data: bytes, *, stdout_bytes_max: int = 1_000, stderr_bytes_max: int = 1_000) -> ShellResult | None:
    return ShellDecoder(stdout_bytes_max=stdout_bytes_max, stderr_bytes_max=stderr_bytes_max).feed(data)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` cut at the given places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_request_is_its_length_in_four_hex_digits_and_itself() -> None:
    assert request("host:version") == b"000chost:version"


def test_the_length_of_a_request_counts_bytes_not_characters() -> None:
    assert request("shell:가") == b"0009shell:\xea\xb0\x80"


def test_a_request_of_65535_bytes_can_be_said() -> None:
    assert request("x" * 65_535)[:5] == b"ffffx"


def test_a_longer_request_is_refused_with_its_size_and_a_way_out() -> None:
    with pytest.raises(AdbRequestInvalid, match=r"at most 65535 bytes, this one has 65536: push a script"):
        request("x" * 65_536)


@pytest.mark.parametrize("service", ["shell:a\0b", "shell:\ud800"], ids=["NUL", "lone surrogate"])
def test_a_request_that_adb_cannot_carry_is_refused(service: str) -> None:
    with pytest.raises(AdbRequestInvalid):
        request(service)


# ---- replies ---------------------------------------------------------------------------------------------------------


def test_okay_is_taken_and_the_rest_belongs_to_the_service() -> None:
    machine = replies(b"OKAYabc")
    assert machine.reply() == Okay()
    assert machine.rest() == b"abc"
    assert machine.rest() == b""


def test_fail_carries_its_text() -> None:
    assert replies(b"FAIL0006closed").reply() == Refused("closed")


@pytest.mark.parametrize("data", [b"", b"OKA", b"FAIL", b"FAIL00", b"FAIL0006close"])
def test_a_status_that_is_not_whole_yet_is_waited_for(data: bytes) -> None:
    assert replies(data).reply() is None


def test_two_statuses_and_a_block_come_one_after_the_other() -> None:
    machine = replies(b"OKAYOKAY0004002900")
    assert (machine.reply(), machine.reply(), machine.block(), machine.rest()) == (Okay(), Okay(), b"0029", b"00")


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request", b"okay", b"\0\0\0\0"])
def test_another_protocol_is_told_as_such(data: bytes) -> None:
    with pytest.raises(AdbProtocolError, match="expected OKAY or FAIL"):
        replies(data).reply()


@pytest.mark.parametrize("digits", [b"+123", b"0x1f", b" 12f", b"12_3", b"-001", b"12 f", b"\xff\xff\xff\xff"])
def test_a_length_is_four_hex_digits_and_nothing_that_int_would_also_take(digits: bytes) -> None:
    with pytest.raises(AdbProtocolError, match="four hex digits"):
        replies(digits).block()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5), st.lists(st.integers(0, 2_000), max_size=20))
def test_blocks_are_the_same_however_the_bytes_are_cut(blocks: list[bytes], places: list[int]) -> None:
    wire = b"OKAY" + b"".join(b"%04x" % len(block) + block for block in blocks)
    machine, seen, okay = ServerReplies(), [], None
    for piece in cut(wire, places):
        machine.feed(piece)
        okay = okay or machine.reply()
        while okay and (block := machine.block()) is not None:
            seen.append(block)
    assert okay == Okay()
    assert seen == blocks


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_garbage_in_place_of_replies_raises_only_a_protocol_error(pieces: list[bytes]) -> None:
    machine = ServerReplies()
    with suppress(AdbProtocolError):
        for piece in pieces:
            machine.feed(piece)
            machine.reply()
            machine.block()


REFUSALS = [
    ("device 'emulator-5554' not found", AdbDeviceMissing),
    ("device '127.0.0.1:5555' not found", AdbDeviceMissing),
    ("no devices/emulators found", AdbDeviceMissing),
    ("device offline", AdbDeviceOffline),
    ("device still connecting", AdbDeviceOffline),
    ("device still authorizing", AdbDeviceOffline),
    ("device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", AdbDeviceUnauthorized),
    ("closed", AdbConnectionLost),
    ("unknown host service 'x'", AdbServerRefused),
    ("", AdbServerRefused),
]


@pytest.mark.parametrize(("message", "error"), REFUSALS)
def test_a_refusal_becomes_the_exception_for_what_to_do_next(message: str, error: type[AdbError]) -> None:
    assert type(refusal(message)) is error


# ---- shell,v2 --------------------------------------------------------------------------------------------------------


def test_a_command_ends_with_its_exit_packet() -> None:
    wire = b"\x01\x02\x00\x00\x00hi\x02\x03\x00\x00\x00bad\x03\x01\x00\x00\x00\x07"
    assert decode(wire) == ShellResult(7, b"hi", b"bad")


def test_output_without_an_exit_packet_is_no_result() -> None:
    assert decode(b"\x01\x02\x00\x00\x00hi") is None


def test_stdout_and_stderr_are_kept_apart_and_in_order() -> None:
    wire = b"".join(shell_packet(kind, text) for kind, text in [(1, b"a"), (2, b"x"), (1, b"b"), (2, b"y"), (3, b"\0")])
    assert decode(wire) == ShellResult(0, b"ab", b"xy")


def test_an_empty_packet_is_allowed() -> None:
    assert decode(shell_packet(1, b"") + shell_packet(3, b"\xff")) == ShellResult(255, b"", b"")


def test_output_past_the_limit_is_thrown_away_and_told() -> None:
    wire = shell_packet(1, b"abcd") + shell_packet(1, b"efgh") + shell_packet(3, b"\0")
    assert decode(wire, stdout_bytes_max=5) == ShellResult(0, b"abcde", b"", truncated=True)
    assert decode(wire, stdout_bytes_max=8) == ShellResult(0, b"abcdefgh", b"", truncated=False)


def test_the_limit_of_stderr_is_its_own() -> None:
    wire = shell_packet(1, b"abcd") + shell_packet(2, b"efgh") + shell_packet(3, b"\0")
    assert decode(wire, stderr_bytes_max=1) == ShellResult(0, b"abcd", b"e", truncated=True)


def test_what_follows_the_exit_packet_is_not_read() -> None:
    assert decode(shell_packet(3, b"\x01") + b"garbage") == ShellResult(1, b"", b"")


@pytest.mark.parametrize(
    "wire",
    [
        shell_packet(0, b"x"),
        shell_packet(4, b""),
        shell_packet(255, b"x"),
        shell_packet(3, b""),
        shell_packet(3, b"\0\0"),
        b"\x01" + (SHELL_PACKET_BYTES_MAX + 1).to_bytes(4, "little"),
    ],
    ids=["stdin", "close stdin", "invalid", "exit without status", "exit with two", "too large"],
)
def test_a_packet_that_no_phone_sends_is_a_protocol_error(wire: bytes) -> None:
    with pytest.raises(AdbProtocolError):
        decode(wire)


PACKETS = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=100)), max_size=10)


@settings(deadline=None)
@given(PACKETS, st.integers(0, 255), st.lists(st.integers(0, 2_000), max_size=30), st.integers(0, 300))
def test_a_result_is_the_same_however_the_bytes_are_cut(
    packets: list[tuple[int, bytes]], exit_code: int, places: list[int], limit: int
) -> None:
    wire = b"".join(shell_packet(kind, data) for kind, data in packets) + shell_packet(3, bytes([exit_code]))
    decoder, result = ShellDecoder(stdout_bytes_max=limit, stderr_bytes_max=limit), None
    for piece in cut(wire, places):
        result = decoder.feed(piece)
    stdout = b"".join(data for kind, data in packets if kind == 1)
    stderr = b"".join(data for kind, data in packets if kind == 2)
    truncated = len(stdout) > limit or len(stderr) > limit
    assert result == ShellResult(exit_code, stdout[:limit], stderr[:limit], truncated)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=10))
def test_garbage_in_a_shell_stream_raises_only_a_protocol_error(pieces: list[bytes]) -> None:
    decoder = ShellDecoder(stdout_bytes_max=10, stderr_bytes_max=10)
    with suppress(AdbProtocolError):
        for piece in pieces:
            decoder.feed(piece)


# ---- lists, connect, addresses ---------------------------------------------------------------------------------------


def test_a_device_list_is_a_line_a_phone() -> None:
    block = b"R58M\tdevice\n10.0.0.7:5555\toffline\nX\tno permissions (user in plugdev group); see [docs]\n"
    assert parse_device_list(block) == (
        AttachedDevice("R58M", DeviceState.DEVICE, "device"),
        AttachedDevice("10.0.0.7:5555", DeviceState.OFFLINE, "offline"),
        AttachedDevice("X", DeviceState.OTHER, "no permissions (user in plugdev group); see [docs]"),
    )


def test_no_phones_are_an_empty_list() -> None:
    assert parse_device_list(b"") == ()


def test_a_phone_in_a_state_called_other_is_still_other() -> None:
    assert parse_device_list(b"A\tother\n")[0].state is DeviceState.OTHER


@pytest.mark.parametrize("block", [b"A device\n", b"\tdevice\n", b"lonely"])
def test_a_line_without_serial_and_state_is_a_protocol_error(block: bytes) -> None:
    with pytest.raises(AdbProtocolError):
        parse_device_list(block)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_a_garbled_list_raises_only_a_protocol_error(block: bytes) -> None:
    with suppress(AdbProtocolError):
        parse_device_list(block)


CONNECT_TEXTS = [
    ("connected to 127.0.0.1:5555", ConnectOutcome.CONNECTED, True),
    ("already connected to 127.0.0.1:5555", ConnectOutcome.ALREADY_CONNECTED, True),
    ("failed to authenticate to 127.0.0.1:5555", ConnectOutcome.UNAUTHENTICATED, False),
    ("failed to connect to '127.0.0.1:1': Connection refused", ConnectOutcome.FAILED, False),
    ("bad port number 'xx' in 'bad host:xx'", ConnectOutcome.FAILED, False),
    ("", ConnectOutcome.FAILED, False),
]


@pytest.mark.parametrize(("text", "outcome", "connected"), CONNECT_TEXTS)
def test_what_connect_did_is_told_by_its_text(text: str, outcome: ConnectOutcome, connected: bool) -> None:
    result = parse_connect(text)
    assert (result.outcome, result.is_connected, result.message) == (outcome, connected, text)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.7", ("10.0.0.7", 5555)),
        ("phone.lan:37001", ("phone.lan", 37001)),
        ("[fe80::1]:5555", ("fe80::1", 5555)),
    ],
)
def test_an_address_is_a_host_and_a_port(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize("address", ["", ":5555", "a:0", "a:65536", "a:b", "a b", "a:1:2", "a:٥", "localfilesystem:/x"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(AdbRequestInvalid):
        parse_address(address)
