import asyncio
from contextlib import aclosing

import psutil
import pytest
from tests.support.adb import Peer, Script, black_hole, dead_port, scripted_client, scripted_server, shell_packet

from muster.adb.client import AdbClient, probe_port
from muster.adb.errors import (
    AdbCommandFailed,
    AdbConnectionLost,
    AdbDeviceMissing,
    AdbDeviceOffline,
    AdbDeviceUnresponsive,
    AdbError,
    AdbFileError,
    AdbProtocolError,
    AdbRequestInvalid,
    AdbServerGone,
    AdbServerRefused,
    AdbTooLarge,
)
from muster.adb.protocol import ConnectOutcome, DeviceState, ShellResult
from muster.adb.sync import AdbSync
from muster.adb.tracker import track


def answers(service: str, wire: bytes) -> Script:
    """A server that is asked one thing and hangs up after its answer."""

    async def script(peer: Peer) -> None:
        await peer.expect(service, wire)

    return script


def runs(command: str, wire: bytes, *, piece_bytes: int = 1_000_000) -> Script:
    """A phone `A` on which `command` gives these bytes."""

    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect(f"shell,v2,raw:{command}", b"")
        await peer.send_in_pieces(b"OKAY" + wire, piece_bytes)

    return script


# ---- shell -----------------------------------------------------------------------------------------------------------


async def test_a_command_gives_exit_status_stdout_and_stderr() -> None:
    wire = shell_packet(1, b"out\n") + shell_packet(2, b"err\n") + shell_packet(3, b"\x03")
    async with scripted_client(runs("id", wire)) as client:
        assert await client.shell("A", "id") == ShellResult(3, b"out\n", b"err\n")


async def test_a_command_is_understood_when_every_byte_comes_alone() -> None:
    wire = shell_packet(1, b"out\n") + shell_packet(3, b"\0")
    async with scripted_client(runs("id", wire, piece_bytes=1)) as client:
        assert await client.shell("A", "id") == ShellResult(0, b"out\n", b"")


async def test_output_past_the_limit_is_read_to_its_end_and_thrown_away() -> None:
    wire = shell_packet(1, b"x" * 1_000_000) * 5 + shell_packet(3, b"\0")
    async with scripted_client(runs("cat big", wire)) as client:
        result = await client.shell("A", "cat big", stdout_bytes_max=10)
    assert result == ShellResult(0, b"x" * 10, b"", truncated=True)


async def test_a_shell_that_ends_without_exit_status_is_a_lost_connection_and_no_success() -> None:
    async with scripted_client(runs("id", shell_packet(1, b"half"))) as client:
        with pytest.raises(AdbConnectionLost, match="unknown"):
            await client.shell("A", "id")


async def test_a_reader_that_takes_its_time_holds_the_sender_back_and_loses_nothing() -> None:
    piece, pieces, sent = bytes(1_000_000), 64, 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.expect("host:transport:A")
        await peer.expect("sync:")
        for sent in range(1, pieces + 1):  # noqa: B007 - looked at from outside
            await peer.send_all(piece)

    async with scripted_client(script) as client, client.open("A", "sync:") as stream:
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.05)
        assert sent < pieces // 2, "what nobody reads has to stay in the sockets, not in our memory"
        total = 0
        while data := await stream.read():
            total += len(data)
    assert total == pieces * len(piece)


async def test_a_reset_in_the_middle_is_a_lost_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect("shell,v2,raw:id", b"OKAY" + shell_packet(1, b"half"))
        peer.reset()

    async with scripted_client(script) as client:
        with pytest.raises(AdbConnectionLost):
            await client.shell("A", "id")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"FAIL0014device 'A' not found", AdbDeviceMissing),
        (b"FAIL000edevice offline", AdbDeviceOffline),
        (b"FAIL0003odd", AdbServerRefused),
        (b"", AdbServerGone),
        (b"HTTP/1.1 400", AdbProtocolError),
    ],
)
async def test_a_phone_that_cannot_be_chosen_is_told_by_its_cause(answer: bytes, error: type[AdbError]) -> None:
    async with scripted_client(answers("host:transport:A", answer)) as client:
        with pytest.raises(error) as raised:
            await client.shell("A", "id")
    assert type(raised.value) is error


@pytest.mark.parametrize("answer", [b"FAIL0006closed", b""], ids=["closed", "hung up"])
async def test_a_phone_lost_while_the_stream_opens_is_a_lost_connection(answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect("shell,v2,raw:id", answer)

    async with scripted_client(script) as client:
        with pytest.raises(AdbConnectionLost):
            await client.shell("A", "id")


async def test_a_phone_that_never_opens_the_stream_is_unresponsive() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect("shell,v2,raw:id", b"")
        await peer.hangup()

    async with scripted_server(script) as server:
        client = AdbClient("127.0.0.1", server.port, open_timeout_sec=0.05)
        with pytest.raises(AdbDeviceUnresponsive, match="may still run later"):
            await client.shell("A", "id")
        await server.idle()


async def test_a_command_too_long_for_adb_is_refused_before_it_reaches_the_phone() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.hangup()

    async with scripted_client(script) as client:
        with pytest.raises(AdbRequestInvalid, match="push a script"):
            await client.shell("A", "x" * 70_000)


async def test_a_cancelled_command_hangs_up_at_once_and_leaves_nothing() -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect("shell,v2,raw:sleep 999", b"OKAY")
        asked.set()
        await peer.hangup()

    process = psutil.Process()
    async with scripted_server(script) as server:
        client = AdbClient("127.0.0.1", server.port)
        before = process.num_fds()
        task = asyncio.create_task(client.shell("A", "sleep 999"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.idle()
        await asyncio.sleep(0)
        assert process.num_fds() <= before


# ---- screencap -------------------------------------------------------------------------------------------------------


async def test_a_screenshot_is_the_bytes_of_stdout_alone() -> None:
    wire = shell_packet(1, b"\x89PNG\r\n\x1a\n") + shell_packet(2, b"[Warning] displays") + shell_packet(3, b"\0")
    async with scripted_client(runs("screencap -p", wire)) as client:
        assert await client.screencap("A") == b"\x89PNG\r\n\x1a\n"


async def test_a_screenshot_that_the_phone_could_not_take_is_an_error_with_its_words() -> None:
    wire = shell_packet(2, b"Capturing failed\n") + shell_packet(3, b"\x01")
    async with scripted_client(runs("screencap -p", wire)) as client:
        with pytest.raises(AdbCommandFailed, match="exit status 1: Capturing failed"):
            await client.screencap("A")


async def test_a_screenshot_larger_than_the_limit_is_an_error_not_half_a_picture() -> None:
    wire = shell_packet(1, b"x" * 11) + shell_packet(3, b"\0")
    async with scripted_client(runs("screencap -p", wire)) as client:
        with pytest.raises(AdbTooLarge):
            await client.screencap("A", bytes_max=10)


# ---- the server ------------------------------------------------------------------------------------------------------


async def test_the_version_is_a_hex_number_in_a_block() -> None:
    async with scripted_client(answers("host:version", b"OKAY00040029")) as client:
        assert await client.version() == 41


async def test_a_version_that_is_no_number_is_a_protocol_error() -> None:
    async with scripted_client(answers("host:version", b"OKAY0004zzzz")) as client:
        with pytest.raises(AdbProtocolError):
            await client.version()


async def test_features_are_a_set() -> None:
    async with scripted_client(answers("host-serial:A:features", b"OKAY000cshell_v2,cmd")) as client:
        assert await client.features("A") == {"shell_v2", "cmd"}


async def test_a_state_is_asked_of_one_phone() -> None:
    async with scripted_client(answers("host-serial:A:get-state", b"OKAY0006device")) as client:
        assert await client.get_state("A") is DeviceState.DEVICE


async def test_a_list_that_adb_cut_at_64_kib_is_an_error_not_a_short_rack() -> None:
    lines = b"".join(b"127.0.0.1:%05d\tdevice\n" % number for number in range(4_000))
    async with scripted_client(answers("host:devices", b"OKAY%04x" % len(lines) + lines)) as client:
        with pytest.raises(AdbProtocolError, match="64 KiB"):
            await client.devices()


async def test_nobody_at_the_address_is_a_server_gone() -> None:
    with dead_port() as port, pytest.raises(AdbServerGone, match=f"no adb server at 127.0.0.1:{port}"):
        await AdbClient("127.0.0.1", port).version()


async def test_a_server_that_does_not_take_the_connection_is_gone_within_the_limit() -> None:
    with black_hole() as port, pytest.raises(AdbServerGone, match=r"within 0\.05 s"):
        await AdbClient("127.0.0.1", port, connect_timeout_sec=0.05).version()


async def test_a_server_that_accepts_and_never_answers_is_gone_within_the_limit() -> None:
    async with scripted_server(Peer.hangup) as server:
        with pytest.raises(AdbServerGone, match=r"did not answer within 0\.05 s"):
            await AdbClient("127.0.0.1", server.port, reply_timeout_sec=0.05).devices()
        await server.idle()


# ---- connect ---------------------------------------------------------------------------------------------------------


async def test_a_dead_phone_address_is_never_handed_to_the_server() -> None:
    async with scripted_server(Peer.hangup) as server:
        with dead_port() as port:
            result = await AdbClient("127.0.0.1", server.port).connect(f"127.0.0.1:{port}")
        assert result.outcome is ConnectOutcome.UNREACHABLE
        assert server.connections == 0


async def test_a_black_hole_is_left_after_the_limit() -> None:
    with black_hole() as port:
        assert await probe_port("127.0.0.1", port, 0.05) == "no answer within 0.05 s"


async def test_connect_tells_what_really_happened() -> None:
    async with scripted_server(Peer.hangup) as phone:
        text = f"failed to authenticate to 127.0.0.1:{phone.port}"
        wire = b"OKAY%04x%b" % (len(text), text.encode())
        async with scripted_client(answers(f"host:connect:127.0.0.1:{phone.port}", wire)) as client:
            result = await client.connect(f"127.0.0.1:{phone.port}")
    assert (result.outcome, result.is_connected) == (ConnectOutcome.UNAUTHENTICATED, False)


async def test_disconnect_without_an_address_would_mean_everybody_and_is_refused() -> None:
    async with scripted_server(Peer.hangup) as server:
        with pytest.raises(AdbRequestInvalid):
            await AdbClient("127.0.0.1", server.port).disconnect("")
        assert server.connections == 0


# ---- track -----------------------------------------------------------------------------------------------------------


async def test_tracking_gives_the_whole_list_at_every_change_and_ends_when_the_server_dies() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect("host:track-devices")
        await peer.send_in_pieces(b"0000" + b"000aA\toffline\n" + b"0012A\tdevice\nB\tdevice\n", 3)

    async with scripted_client(script) as client, aclosing(track(client)) as tracker:
        seen = [await anext(tracker) for _ in range(3)]
        with pytest.raises(AdbServerGone):
            await anext(tracker)
    assert [[(device.serial, device.state.value) for device in devices] for devices in seen] == [
        [],
        [("A", "offline")],
        [("A", "device"), ("B", "device")],
    ]


async def test_a_tracker_that_is_closed_hangs_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect("host:track-devices", b"OKAY0000")
        await peer.hangup()

    async with scripted_server(script) as server:
        async with aclosing(track(AdbClient("127.0.0.1", server.port))) as tracker:
            assert await anext(tracker) == ()
        await server.idle()


# ---- sync ------------------------------------------------------------------------------------------------------------


def file_service(request: bytes, answer: bytes) -> Script:
    """A phone `A` whose file service takes this one request."""

    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect("sync:")
        assert await peer.read(len(request)) == request
        peer.send(answer)

    return script


async def test_a_file_that_is_not_there_is_none() -> None:
    async with scripted_client(file_service(b"STAT\x02\0\0\0/a", b"STAT" + bytes(12))) as client:
        assert await AdbSync(client, "A").stat("/a") is None


async def test_a_pull_that_the_phone_refuses_tells_why() -> None:
    async with scripted_client(file_service(b"RECV\x02\0\0\0/a", b"FAIL\x07\0\0\0no such")) as client:
        with pytest.raises(AdbFileError, match="no such"):
            await AdbSync(client, "A").pull("/a")


async def test_a_pull_that_is_cut_off_is_lost_and_not_a_short_file() -> None:
    async with scripted_client(file_service(b"RECV\x02\0\0\0/a", b"DATA\x02\0\0\0ab")) as client:
        with pytest.raises(AdbConnectionLost):
            await AdbSync(client, "A").pull("/a")


async def test_a_pull_past_the_limit_is_an_error() -> None:
    async with scripted_client(file_service(b"RECV\x02\0\0\0/a", b"DATA\x02\0\0\0ab")) as client:
        with pytest.raises(AdbTooLarge):
            await AdbSync(client, "A").pull("/a", bytes_max=1)


async def test_a_push_succeeds_only_when_the_phone_says_so() -> None:
    wire = b"SEND\x06\0\0\0/a,420DATA\x02\0\0\0abDONE\x07\0\0\0"
    async with scripted_client(file_service(wire, b"OKAY\0\0\0\0")) as client:
        await AdbSync(client, "A").push(b"ab", "/a", mtime_sec=7)
    async with scripted_client(file_service(wire, b"")) as client:
        with pytest.raises(AdbConnectionLost):
            await AdbSync(client, "A").push(b"ab", "/a", mtime_sec=7)


async def test_a_push_that_the_phone_refuses_in_the_middle_stops_and_tells_the_phones_reason() -> None:
    taken = 0

    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect("sync:")
        await peer.read(len(b"SEND\x06\0\0\0/a,420"))
        peer.send(b"FAIL\x07\0\0\0no room")
        nonlocal taken
        taken = await peer.hangup()  # like adbd: reads on and throws away, so that its reason is not lost

    async with scripted_server(script) as server:
        with pytest.raises(AdbFileError, match="no room"):
            await AdbSync(AdbClient("127.0.0.1", server.port), "A").push(bytes(100_000_000), "/a")
        await server.idle()
    assert 0 < taken < 50_000_000


async def test_a_file_service_that_falls_silent_is_an_unresponsive_phone() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect("host:transport:A")
        await peer.expect("sync:")
        await peer.hangup()

    async with scripted_client(script) as client:
        with pytest.raises(AdbDeviceUnresponsive):
            await AdbSync(client, "A", silence_timeout_sec=0.05).pull("/a")
