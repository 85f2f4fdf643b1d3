"""The stand-in emulator as a program of its own, seen by a real adb server."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from muster.adb.client import AdbClient
from muster.adb.errors import AdbError
from muster.adb.server import AdbServer, ensure_server
from muster.adb.tracker import track
from muster.sim.emulator import EmulatorFailure, install, list_avds, load_avd, parse_arguments

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AdbServer]:
    one = await ensure_server("127.0.0.1", 0, private=True, home=tmp_path / "adb")
    yield one
    await one.stop()


def make_avd(home: Path, name: str, text: str = "") -> None:
    (home / f"{name}.avd").mkdir(parents=True)
    (home / f"{name}.avd" / "muster.yaml").write_text(text)


def free_pair() -> int:
    """An even port that is free, and the odd one after it too."""
    for _ in range(1_000):
        with socket.socket() as any_port, socket.socket() as neighbour:
            any_port.bind(("127.0.0.1", 0))
            port: int = any_port.getsockname()[1]
            try:
                neighbour.bind(("127.0.0.1", port ^ 1))
            except OSError:
                continue
            return port & ~1
    raise AssertionError("no pair of free ports")


@asynccontextmanager
async def emulator(tmp_path: Path, server_port: int, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "ANDROID_AVD_HOME": str(tmp_path / "avd"), "ANDROID_ADB_SERVER_PORT": str(server_port)}
    process = await asyncio.create_subprocess_exec(
        str(install(tmp_path / "bin")),
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def seen(client: AdbClient, serial: str, holds: Callable[[str | None], bool]) -> None:
    """Waits until the adb server shows the serial in such a state."""
    async with asyncio.timeout(60):
        async for devices in track(client):
            states = {device.serial: device.state.value for device in devices}
            if holds(states.get(serial)):
                return


async def test_an_emulator_shows_up_boots_and_goes_when_it_is_told_to(tmp_path: Path, server: AdbServer) -> None:
    make_avd(tmp_path / "avd", "Pixel_7", "{adb_after: 0.1, boot_after: 0.5}")
    port = free_pair()
    client, serial = server.client(), f"emulator-{port}"
    async with emulator(tmp_path, server.port, "-avd", "Pixel_7", "-port", str(port), "-no-window") as process:
        await seen(client, serial, lambda state: state == "device")
        booted = await client.shell(
            serial, "while [ -z $(getprop sys.boot_completed) ]; do sleep 0.05; done; getprop ro.kernel.qemu"
        )
        assert booted.stdout == b"1\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"avd name\nkill\n")
        console = (await reader.read(200)) + (await reader.read())
        writer.close()
        assert b"Pixel_7\r\nOK\r\n" in console
        assert (await ended(process))[0] == 0
        await seen(client, serial, lambda state: state != "device")


async def test_an_emulator_that_never_boots_stays_in_its_boot(tmp_path: Path, server: AdbServer) -> None:
    make_avd(tmp_path / "avd", "stuck", "{adb_after: 0, never_boots: true}")
    port = free_pair()
    async with emulator(tmp_path, server.port, "@stuck", "-port", str(port)) as process:
        client, serial = server.client(), f"emulator-{port}"
        await seen(client, serial, lambda state: state == "device")
        assert (await client.shell(serial, "getprop sys.boot_completed; settings get global x")).exit_code == 20
        if sys.platform != "win32":
            process.send_signal(signal.SIGTERM)
            assert (await ended(process))[0] == 0


async def test_an_emulator_that_dies_takes_its_phone_with_it(tmp_path: Path, server: AdbServer) -> None:
    make_avd(tmp_path / "avd", "frail", "{adb_after: 0, boot_after: 0, dies_after: 1, exit_status: 9}")
    port = free_pair()
    async with emulator(tmp_path, server.port, "-avd", "frail", "-port", str(port)) as process:
        status, _, err = await ended(process)
        assert status == 9
        assert "has died" in err
    with pytest.raises(AdbError):
        await server.client().shell(f"emulator-{port}", "true")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-avd", "none"], "Unknown AVD name [none]"),
        ([], "No AVD specified"),
        (["-avd", "broken"], "muster.yaml"),
        (["-avd", "refusing"], "PANIC: Missing emulator engine"),
    ],
)
async def test_an_emulator_that_cannot_start_says_why(tmp_path: Path, arguments: list[str], words: str) -> None:
    make_avd(tmp_path / "avd", "broken", "{boot_after: soon}")
    make_avd(tmp_path / "avd", "refusing", "{refuses: 'PANIC: Missing emulator engine'}")
    async with emulator(tmp_path, 1, *arguments) as process:
        status, _, err = await ended(process)
    assert status == 1
    assert words in err


async def test_an_emulator_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    make_avd(tmp_path / "avd", "a")
    with socket.socket() as taken:
        port = free_pair()
        taken.bind(("127.0.0.1", port))
        taken.listen()
        async with emulator(tmp_path, 1, "-avd", "a", "-port", str(port)) as process:
            status, _, err = await ended(process)
    assert (status, f"port {port} is in use" in err) == (1, True)


async def test_the_list_of_avds(tmp_path: Path) -> None:
    make_avd(tmp_path / "avd", "b")
    make_avd(tmp_path / "avd", "a")
    async with emulator(tmp_path, 1, "-list-avds") as process:
        assert await ended(process) == (0, "a\nb\n", "")
    assert list_avds(tmp_path / "nothing") == []
    assert load_avd(tmp_path / "avd", "a").boot_after == 2.0


@pytest.mark.parametrize("arguments", [["-port", "5555"], ["-port", "x"], ["-port"], ["what"]])
def test_arguments_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    with pytest.raises(EmulatorFailure):
        parse_arguments(arguments)


def test_options_of_the_real_program_are_let_through() -> None:
    wanted = parse_arguments(
        ["-avd", "x", "-gpu", "swiftshader_indirect", "-no-snapshot", "-memory", "2048", "-port", "5556"]
    )
    assert (wanted.avd, wanted.port) == ("x", 5556)
