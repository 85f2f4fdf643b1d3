"""The virtual rack behind the real adb server, driven by the real `adb` program and Muster's own client."""

import asyncio
import hashlib
import io
import random
import re
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from muster.adb.binary import find_adb
from muster.sim.main import Rack, RackSettings
from muster.sim.phone import Phone
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

ADB_SEC_MAX = 60.0


@dataclass(frozen=True)
class Ended:
    """How an adb program ended."""

    status: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode()


class Adb:
    """The adb program, talking to the rack's server."""

    def __init__(self, rack: Rack) -> None:
        self._start = [str(find_adb()), "-P", str(rack.adb_address[1])]

    async def __call__(self, *arguments: str, serial: str | None = None, stdin: bytes | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *self._start,
            *(["-s", serial] if serial else []),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(ADB_SEC_MAX):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Ended(process.returncode, out, err)


@pytest.fixture
async def rack(tmp_path: Path) -> AsyncIterator[Rack]:
    settings = RackSettings(devices=4, seed=3, latency="none", vendor_port=None, control_port=None, data_dir=tmp_path)
    async with Rack(settings) as one:
        yield one


@pytest.fixture
def adb(rack: Rack) -> Adb:
    return Adb(rack)


@pytest.fixture
def phone(rack: Rack) -> Phone:
    return next(iter(rack.phones.values()))


async def in_state(rack: Rack, phone: Phone, state: str | None) -> None:
    async with asyncio.timeout(30):
        await rack.wait_until(lambda: rack.adb_state(phone) == state)


async def test_devices_lists_every_phone_with_its_model(rack: Rack, adb: Adb) -> None:
    listed = (await adb("devices", "-l")).text
    for phone in rack.phones.values():
        model = re.sub(r"\W", "_", phone.identity.model.model)
        assert re.search(rf"^{re.escape(phone.serial)} +device product:\S+ model:{model} device:", listed, re.MULTILINE)


async def test_every_phone_answers_with_its_own_serial_number(rack: Rack, adb: Adb) -> None:
    for phone in rack.phones.values():
        assert (await adb("shell", "getprop", "ro.serialno", serial=phone.serial)).text == phone.device_id + "\n"
    assert len({phone.device_id for phone in rack.phones.values()}) == 4


async def test_exit_status_and_stderr_come_through_the_program(phone: Phone, adb: Adb) -> None:
    ended = await adb("shell", "echo out; nope; exit 7", serial=phone.serial)
    assert (ended.status, ended.out) == (7, b"out\n")
    assert ended.err == b"/system/bin/sh: nope: inaccessible or not found\n"
    piped = await adb("shell", "cat | tr a-z A-Z", serial=phone.serial, stdin=b"hello\n")
    assert piped.out == b"HELLO\n"
    scripted = await adb("shell", serial=phone.serial, stdin=b"X=1\necho $X\nexit 5\n")
    assert (scripted.status, scripted.out) == (5, b"1\n")


async def test_fifty_megabytes_come_back_as_they_went(phone: Phone, adb: Adb, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(50 * 1024 * 1024)
    source, back = tmp_path / "source.bin", tmp_path / "back.bin"
    source.write_bytes(data)
    pushed = await adb("push", str(source), "/sdcard/Download/new/big.bin", serial=phone.serial)
    assert pushed.status == 0, pushed.err
    on_phone = await adb("shell", "sha256sum -b /sdcard/Download/new/big.bin", serial=phone.serial)
    assert on_phone.text.strip() == hashlib.sha256(data).hexdigest()
    pulled = await adb("pull", "/sdcard/Download/new/big.bin", str(back), serial=phone.serial)
    assert pulled.status == 0, pulled.err
    assert back.read_bytes() == data


async def test_folders_go_both_ways(phone: Phone, adb: Adb, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "a.txt").write_bytes(b"a")
    (tree / "deep" / "b.txt").write_bytes(b"b" * 100_000)
    assert (await adb("push", str(tree), "/sdcard/", serial=phone.serial)).status == 0
    assert (await adb("shell", "find /sdcard/tree -type f", serial=phone.serial)).text.split() == [
        "/sdcard/tree/a.txt",
        "/sdcard/tree/deep/b.txt",
    ]
    assert (await adb("pull", "/sdcard/tree", str(tmp_path / "back"), serial=phone.serial)).status == 0
    assert (tmp_path / "back" / "deep" / "b.txt").read_bytes() == b"b" * 100_000
    missing = await adb("pull", "/sdcard/none", str(tmp_path / "none"), serial=phone.serial)
    assert missing.status == 1
    assert b"No such file" in missing.err
    assert "tree" in (await adb("ls", "/sdcard", serial=phone.serial)).text


async def test_exec_out_brings_a_picture_that_opens(phone: Phone, adb: Adb) -> None:
    ended = await adb("exec-out", "screencap", "-p", serial=phone.serial)
    with Image.open(io.BytesIO(ended.out)) as picture:
        picture.load()
        assert picture.size == phone.display.size
    dumped = await adb("exec-out", "uiautomator", "dump", "/dev/tty", serial=phone.serial)
    assert dumped.out.startswith(b"<?xml")


async def test_install_streams_an_apk(phone: Phone, adb: Adb, tmp_path: Path) -> None:
    apk = tmp_path / "tool.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("AndroidManifest.xml", '<manifest package="org.example.tool"/>')
        archive.writestr("classes.dex", bytes(300_000))
    installed = await adb("install", "-r", str(apk), serial=phone.serial)
    assert (installed.status, "Success" in installed.text) == (0, True), installed.err
    assert "org.example.tool" in (await adb("shell", "pm", "list", "packages", "-3", serial=phone.serial)).text
    assert (await adb("uninstall", "org.example.tool", serial=phone.serial)).status == 0


async def test_a_reboot_takes_the_phone_away_and_brings_it_back(rack: Rack, phone: Phone, adb: Adb) -> None:
    before = phone.uptime_sec()
    assert (await adb("reboot", serial=phone.serial)).status == 0
    await in_state(rack, phone, "device")
    booted = await adb("shell", "while [ -z $(getprop sys.boot_completed) ]; do sleep 0.1; done", serial=phone.serial)
    assert booted.status == 0
    assert phone.uptime_sec() < before


@pytest.mark.parametrize(
    ("state", "shown"),
    [(PhoneState.UNAUTHORIZED, "unauthorized"), (PhoneState.OFFLINE, "offline"), (PhoneState.MISSING, None)],
)
async def test_a_state_is_what_adb_shows_and_goes_away_again(
    rack: Rack, phone: Phone, adb: Adb, state: PhoneState, shown: str | None
) -> None:
    await set_state(phone, state, rack)
    await in_state(rack, phone, shown)
    failed = await adb("shell", "echo x", serial=phone.serial)
    assert failed.status == 1
    assert failed.out == b""
    others = [other for other in rack.phones.values() if other is not phone]
    assert [rack.adb_state(other) for other in others] == ["device"] * 3
    await set_state(phone, PhoneState.DEVICE, rack)
    await in_state(rack, phone, "device")
    assert (await adb("shell", "echo x", serial=phone.serial)).out == b"x\n"


async def test_a_kicked_phone_comes_back_by_itself(rack: Rack, phone: Phone) -> None:
    phone.adbd.kick()
    await in_state(rack, phone, "offline")
    await in_state(rack, phone, "device")


async def test_a_hung_phone_stays_device_and_runs_the_stale_command_when_it_thaws(
    rack: Rack, phone: Phone, adb: Adb
) -> None:
    for patience in (0.5, 2.0, 8.0, 30.0):  # nothing tells when the program has sent its command
        await set_state(phone, PhoneState.HUNG, rack)
        task = asyncio.create_task(adb("shell", "settings put global stale 1", serial=phone.serial))
        done, _ = await asyncio.wait([task], timeout=patience)
        assert not done
        assert rack.adb_state(phone) == "device"
        task.cancel()
        await asyncio.wait([task])
        assert phone.settings.get("global", "stale") is None
        await set_state(phone, PhoneState.DEVICE, rack)
        for _ in range(10):
            if (await adb("shell", "settings get global stale", serial=phone.serial)).text == "1\n":
                return
    raise AssertionError("the stale command never ran")


async def test_the_rack_attaches_its_phones_again_when_the_server_has_been_killed(rack: Rack, adb: Adb) -> None:
    address = rack.adb_address
    assert (await adb("kill-server")).status == 0
    async with asyncio.timeout(30):
        await rack.wait_until(lambda: all(rack.adb_state(p) is None for p in rack.phones.values()))
        await rack.wait_online()
    assert rack.adb_address == address
    assert (await adb("devices")).text.count("\tdevice") == 4
