"""What the adb client promises, kept by the virtual rack and by a real phone alike, through the real adb server.

`MUSTER_REAL_SERIAL=R58M… pytest tests/conformance/adb` runs the same against a phone on this PC.
"""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from PIL import Image
from tests.support.adb_phones import AttachedPhone, real_phone, virtual_phone

from muster.adb.errors import AdbFileError
from muster.adb.protocol import DeviceState
from muster.adb.sync import AdbSync

REAL_SERIAL = os.environ.get("MUSTER_REAL_SERIAL")
PHONES = ["virtual", "real"] if REAL_SERIAL else ["virtual"]


@pytest.fixture(params=PHONES)
async def phone(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AttachedPhone]:
    source = virtual_phone(tmp_path / "adb") if request.param == "virtual" else real_phone(REAL_SERIAL or "")
    async with source as attached:
        yield attached


# ---- shell -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 255])
async def test_the_exit_status_is_the_commands_own(phone: AttachedPhone, status: int) -> None:
    assert (await phone.client.shell(phone.serial, f"exit {status}")).exit_code == status


async def test_an_unknown_command_is_127_with_words_on_stderr(phone: AttachedPhone) -> None:
    result = await phone.client.shell(phone.serial, "no-such-program")
    assert result.exit_code == 127
    assert b"no-such-program" in result.stderr
    assert result.stdout == b""


async def test_stdout_and_stderr_come_apart(phone: AttachedPhone) -> None:
    result = await phone.client.shell(phone.serial, "echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


async def test_text_in_any_script_goes_through(phone: AttachedPhone) -> None:
    assert (await phone.client.shell(phone.serial, "echo '안녕 手机 🙂'")).stdout == "안녕 手机 🙂\n".encode()


async def test_a_phone_has_a_serial_number_of_its_own(phone: AttachedPhone) -> None:
    assert len((await phone.client.shell(phone.serial, "getprop ro.serialno")).stdout.strip()) > 3


async def test_five_megabytes_of_any_bytes_come_back_as_they_are(phone: AttachedPhone) -> None:
    data = random.Random(5).randbytes(5_000_000)
    remote = f"{phone.folder}/muster-5mb"
    await AdbSync(phone.client, phone.serial).push(data, remote)
    whole = await phone.client.shell(phone.serial, f"cat {remote}", stdout_bytes_max=6_000_000)
    first = await phone.client.shell(phone.serial, f"cat {remote}; rm {remote}", stdout_bytes_max=1_000)
    assert hashlib.sha256(whole.stdout).digest() == hashlib.sha256(data).digest()
    assert (whole.exit_code, whole.truncated) == (0, False)
    assert (first.exit_code, first.truncated, first.stdout) == (0, True, data[:1_000])


async def test_a_screenshot_is_a_whole_png(phone: AttachedPhone) -> None:
    with Image.open(BytesIO(await phone.client.screencap(phone.serial))) as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 100


async def test_twenty_commands_at_once_each_get_their_own_answer(phone: AttachedPhone) -> None:
    results = await asyncio.gather(*(phone.client.shell(phone.serial, f"echo {number}") for number in range(20)))
    assert [int(result.stdout) for result in results] == list(range(20))


async def test_two_hundred_cancelled_commands_leave_nothing_on_this_pc(phone: AttachedPhone) -> None:
    async def limited() -> None:
        async with asyncio.timeout(0.05):
            await phone.client.shell(phone.serial, "sleep 60")

    await phone.client.shell(phone.serial, "true")
    process, tasks = psutil.Process(), set(asyncio.all_tasks())
    fds = process.num_fds()
    for _ in range(10):
        outcomes = await asyncio.gather(*(limited() for _ in range(20)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {TimeoutError}
    await asyncio.sleep(0)
    assert process.num_fds() <= fds
    assert {task for task in asyncio.all_tasks() - tasks if "shell" in repr(task.get_coro())} == set()
    assert (await phone.client.shell(phone.serial, "echo fine")).stdout == b"fine\n"


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_000_000])
async def test_a_pushed_file_is_pulled_back_as_it_was(phone: AttachedPhone, size: int, tmp_path: Path) -> None:
    data, remote = random.Random(size).randbytes(size), f"{phone.folder}/muster push, 한글.bin"
    local = tmp_path / "file"
    await asyncio.to_thread(local.write_bytes, data)
    sync = AdbSync(phone.client, phone.serial)
    await sync.push(local, remote, mode=0o640, mtime_sec=1_700_000_000)
    stat = await sync.stat(remote)
    assert stat is not None
    assert (stat.size, stat.mtime_sec, stat.is_folder) == (size, 1_700_000_000, False)
    assert await sync.pull(remote) == data
    assert (await phone.client.shell(phone.serial, f"rm '{remote}'")).exit_code == 0
    assert await sync.stat(remote) is None


async def test_a_folder_is_listed_without_itself_and_its_parent(phone: AttachedPhone) -> None:
    folder, sync = f"{phone.folder}/muster-list", AdbSync(phone.client, phone.serial)
    await sync.push(b"ab", f"{folder}/a.txt")
    await sync.push(b"", f"{folder}/b.txt")
    listed = {entry.name: entry.stat.size for entry in await sync.list(folder)}
    await phone.client.shell(phone.serial, f"rm -r {folder}")
    assert listed == {"a.txt": 2, "b.txt": 0}


async def test_a_file_that_is_not_there_cannot_be_pulled(phone: AttachedPhone) -> None:
    with pytest.raises(AdbFileError, match="No such file"):
        await AdbSync(phone.client, phone.serial).pull(f"{phone.folder}/muster-nothing")


async def test_a_folder_is_a_folder(phone: AttachedPhone) -> None:
    stat = await AdbSync(phone.client, phone.serial).stat(phone.folder)
    assert stat is not None
    assert stat.is_folder


# ---- the server's view -----------------------------------------------------------------------------------------------


async def test_the_server_lists_the_phone_and_its_features(phone: AttachedPhone) -> None:
    assert phone.serial in {device.serial for device in await phone.client.devices()}
    assert await phone.client.get_state(phone.serial) is DeviceState.DEVICE
    assert "shell_v2" in await phone.client.features(phone.serial)
    assert await phone.client.version() >= 41
