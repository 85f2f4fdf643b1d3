"""One transport, packet by packet: greeting, authorisation, flow control, hang-ups, a phone that hangs."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog
from tests.support.adb_host import Host, host_of, key
from tests.support.manual_clock import ManualClock
from tests.support.sim_phone import make_phone
from tests.support.waiting import until

from muster.sim.adbd.auth import KeyRing
from muster.sim.adbd.packets import MAX_PAYLOAD_BYTES, VERSION_CHECKED, VERSION_UNCHECKED, Command
from muster.sim.adbd.services import FEATURES
from muster.sim.phone import Phone


@pytest.fixture
async def phone() -> AsyncIterator[Phone]:
    one = make_phone()
    await one.adbd.start()
    yield one
    await one.close()


@pytest.fixture
async def host(phone: Phone) -> AsyncIterator[Host]:
    async with host_of(phone.adbd) as one:
        yield one


async def test_the_banner_names_the_phone_and_only_what_it_can_do(host: Host) -> None:
    packet = await host.greet()
    assert (packet.arg0, packet.arg1) == (VERSION_UNCHECKED, MAX_PAYLOAD_BYTES)
    assert packet.data.startswith(b"device::ro.product.name=dm1q;ro.product.model=SM-S911N;ro.product.device=dm1q;")
    assert packet.data.endswith(b"features=" + ",".join(FEATURES).encode())
    assert not {"abb", "abb_exec", "apex", "delayed_ack", "sendrecv_v2_brotli"} & set(FEATURES)


async def test_a_server_that_reconnects_greets_without_a_checksum(host: Host) -> None:
    host.send(Command.CNXN, VERSION_UNCHECKED, MAX_PAYLOAD_BYTES, b"host::features=shell_v2\0", checked=False)
    await host.expect(Command.CNXN)


async def test_a_host_of_the_old_version_gets_checksums_and_has_to_write_them(host: Host) -> None:
    host.send(Command.CNXN, VERSION_CHECKED, 4096, b"host::\0")
    await host.expect(Command.CNXN)
    host.send(Command.OPEN, 1, 0, b"shell:echo x\0", checked=False)
    assert await host.receive() is None


async def test_a_host_with_a_known_key_comes_in_by_its_signature(phone: Phone, host: Host) -> None:
    phone.adbd.keys = KeyRing(asks=True, known=[key().public])
    host.connect()
    token = await host.expect(Command.AUTH)
    assert (token.arg0, len(token.data)) == (1, 20)
    host.send(Command.AUTH, 2, 0, key().sign(token.data))
    await host.expect(Command.CNXN)
    assert phone.adbd.online


async def test_an_unknown_host_waits_until_someone_allows_it(phone: Phone, host: Host) -> None:
    phone.adbd.keys = KeyRing(asks=True)
    greeting = asyncio.create_task(host.greet(key()))
    await until(lambda: phone.adbd.waiting)
    assert not greeting.done()
    phone.adbd.authorize()
    await greeting
    assert phone.adbd.keys.known == [key().public]


async def test_every_wrong_signature_is_answered_with_a_new_token(phone: Phone, host: Host) -> None:
    phone.adbd.keys = KeyRing(asks=True)
    host.connect()
    tokens = {(await host.expect(Command.AUTH)).data}
    for _ in range(3):
        host.send(Command.AUTH, 2, 0, key().sign(bytes(20)))
        tokens.add((await host.expect(Command.AUTH)).data)
    assert len(tokens) == 4
    assert not phone.adbd.online


async def test_a_stream_has_one_write_in_flight_and_goes_on_when_it_is_acknowledged(host: Host, phone: Phone) -> None:
    phone.files.write("/data/local/tmp/big", bytes(3 * MAX_PAYLOAD_BYTES), mtime=1)
    await host.greet()
    remote = await host.open("exec:cat /data/local/tmp/big", 9)
    first = await host.expect(Command.WRTE)
    assert (first.arg0, first.arg1) == (remote, 9)
    assert await host.quiet()
    host.send(Command.OKAY, 9, remote)
    await host.expect(Command.WRTE)


async def test_shell_v2_keeps_stderr_apart_and_ends_with_the_status(host: Host) -> None:
    await host.greet()
    remote = await host.open("shell,v2,raw:echo out; nope; exit 3")
    data = await host.read_all(1, remote)
    assert data.startswith(b"\x01\x04\x00\x00\x00out\n\x02")
    assert data.endswith(b"\x03\x01\x00\x00\x00\x03")


async def test_stdin_reaches_the_command_and_its_end_too(host: Host) -> None:
    await host.greet()
    remote = await host.open("shell,v2,raw:cat; echo end")
    host.send(Command.WRTE, 1, remote, b"\x00\x03\x00\x00\x00abc\x04\x00\x00\x00\x00")
    await host.expect(Command.OKAY)
    assert (await host.read_all(1, remote)).startswith(b"\x01\x03\x00\x00\x00abc\x01\x04\x00\x00\x00end\n")


async def test_an_unknown_service_is_closed(host: Host) -> None:
    await host.greet()
    assert await host.open("jdwp:1") == 0
    assert await host.open("tcp:8080") == 0
    assert await host.open("") == 0


async def test_a_host_that_closes_ends_the_command(host: Host, phone: Phone) -> None:
    await host.greet()
    remote = await host.open("shell,v2,raw:sleep 1000; settings put global late 1")
    await until(lambda: phone.log.gauge.running == 1)
    host.send(Command.CLSE, 1, remote)
    await host.expect(Command.CLSE)
    await until(lambda: phone.log.gauge.running == 0)
    assert phone.settings.get("global", "late") is None


async def test_a_transport_that_is_lost_ends_all_its_commands(phone: Phone) -> None:
    async with host_of(phone.adbd) as host:
        await host.greet()
        for local in (1, 2, 3):
            await host.open("shell,v2,raw:sleep 1000", local)
        await until(lambda: phone.log.gauge.running == 3)
    await until(lambda: phone.log.gauge.running == 0)
    assert not phone.adbd.online


async def test_a_host_that_leaves_a_pipeline_in_the_middle_of_its_output_leaves_nothing_behind(phone: Phone) -> None:
    phone.files.write("/data/local/tmp/big", bytes(3 * MAX_PAYLOAD_BYTES), mtime=1)
    with structlog.testing.capture_logs() as logs:
        async with host_of(phone.adbd) as host:
            await host.greet()
            await host.open("exec:cat /data/local/tmp/big | cat | cat")
            await host.expect(Command.WRTE)
        await until(lambda: phone.log.gauge.running == 0)
        await phone.close()
    assert [entry for entry in logs if entry["log_level"] == "error"] == []


async def test_a_phone_that_hangs_answers_nothing_and_then_everything(host: Host, phone: Phone) -> None:
    await host.greet()
    phone.hang()
    host.send(Command.OPEN, 1, 0, b"shell,v2,raw:settings put global stale 1\0")
    host.send(Command.CLSE, 1, 0)
    assert await host.quiet()
    phone.thaw()
    await host.expect(Command.OKAY)
    # The host's CLSE named no stream: as on a phone, a command that was cancelled while it hung runs all the same.
    await until(lambda: phone.settings.get("global", "stale") == "1")


async def test_a_silent_phone_takes_the_connection_and_says_nothing(host: Host, phone: Phone) -> None:
    phone.adbd.is_silent = True
    host.connect()
    assert await host.quiet()


@pytest.mark.parametrize(
    "attack",
    [
        b"GET / HTTP/1.1\r\n\r\n0123456789",
        bytes(24),
        b"\xff" * 24,
    ],
)
async def test_bytes_that_are_no_adb_end_the_transport(host: Host, attack: bytes) -> None:
    host.send_raw(attack)
    assert await host.receive() is None


@pytest.mark.parametrize(
    ("command", "arg0", "data"),
    [
        (Command.OPEN, 1, b"shell:ls\0"),
        (Command.WRTE, 1, b"x"),
        (Command.STLS, 1, b""),
        (Command.AUTH, 2, b"x"),
        (Command.CNXN, VERSION_CHECKED - 1, b""),
    ],
)
async def test_a_host_that_does_not_greet_properly_is_dropped(
    host: Host, command: Command, arg0: int, data: bytes
) -> None:
    host.send(command, arg0, 0, data)
    assert await host.receive() is None


async def test_a_second_write_before_the_first_was_taken_ends_the_transport(host: Host) -> None:
    await host.greet()
    remote = await host.open("shell,v2,raw:sleep 1000")
    host.send(Command.WRTE, 1, remote, b"a")
    host.send(Command.WRTE, 1, remote, b"b")
    assert await host.receive() is None


async def test_reboot_drops_the_transport_and_the_phone_comes_back_on_its_port() -> None:
    clock = ManualClock()
    phone = make_phone(clock=clock)
    await phone.adbd.start()
    try:
        port = phone.adbd.port
        async with host_of(phone.adbd) as host:
            await host.greet()
            await host.open("reboot:")
            while await host.receive() is not None:
                pass
        await clock.advance(1)
        await until(lambda: phone.booted and phone.adbd.listening)
        assert phone.adbd.port == port
        async with host_of(phone.adbd) as host:
            await host.greet()
    finally:
        await phone.close()


async def test_tcpip_says_so_and_restarts_the_daemon(host: Host, phone: Phone) -> None:
    await host.greet()
    remote = await host.open("tcpip:5555")
    assert (await host.expect(Command.WRTE)).data == b"restarting in TCP mode port: 5555\n"
    host.send(Command.OKAY, 1, remote)
    while await host.receive() is not None:
        pass
    assert phone.properties.get("service.adb.tcp.port") == "5555"
    assert phone.adbd.listening
