"""Files to the disk, and the deadline fence, through the real adb server: a virtual phone, or a real one too."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.adb_phones import AttachedPhone, real_phone, virtual_phone

from muster.adb.errors import AdbFileError, AdbTooLarge
from muster.adb.fence import REFUSED_STATUS, fenced, refused_at
from muster.adb.sync import AdbSync

REAL_SERIAL = os.environ.get("MUSTER_REAL_SERIAL")
PHONES = ["virtual", "real"] if REAL_SERIAL else ["virtual"]


@pytest.fixture(params=PHONES)
async def phone(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AttachedPhone]:
    source = virtual_phone(tmp_path / "adb") if request.param == "virtual" else real_phone(REAL_SERIAL or "")
    async with source as attached:
        yield attached


async def test_a_file_comes_whole_to_the_disk_or_not_at_all(phone: AttachedPhone, tmp_path: Path) -> None:
    sync, remote, folder = AdbSync(phone.client, phone.serial), f"{phone.folder}/muster-test", tmp_path / "here"
    folder.mkdir()
    content = os.urandom(300_000)
    await sync.push(content, remote)
    assert await sync.pull_to(remote, folder / "whole") == len(content)
    assert (folder / "whole").read_bytes() == content
    with pytest.raises(AdbTooLarge):
        await sync.pull_to(remote, folder / "large", bytes_max=len(content) - 1)
    with pytest.raises(AdbFileError):
        await sync.pull_to(f"{phone.folder}/no-such-file", folder / "absent")
    with pytest.raises(FileNotFoundError):
        await sync.pull_to(remote, folder / "no-folder" / "file")
    assert [path.name for path in folder.iterdir()] == ["whole"]
    await phone.client.shell(phone.serial, f"rm {remote}")


@pytest.mark.parametrize("timeout_sec", [None, 30])
async def test_the_phones_own_clock_decides_whether_a_command_starts(
    phone: AttachedPhone, timeout_sec: int | None
) -> None:
    marker = f"{phone.folder}/muster-canary"
    now = int((await phone.client.shell(phone.serial, "date +%s")).stdout)
    command = f"touch {marker}; echo 'it'\\''s on'; echo err >&2; exit 7"
    late = await phone.client.shell(phone.serial, fenced(command, now - 1, timeout_sec=timeout_sec))
    assert (late.exit_code, late.stdout) == (REFUSED_STATUS, b"")
    told = refused_at(late.exit_code, late.stderr)
    assert told is not None and now <= told <= now + 120
    assert (await phone.client.shell(phone.serial, f"ls {marker}")).exit_code != 0, "it did nothing"
    timely = await phone.client.shell(phone.serial, fenced(command, now + 600, timeout_sec=timeout_sec))
    assert (timely.exit_code, timely.stdout, timely.stderr) == (7, b"it's on\n", b"err\n")
    assert (await phone.client.shell(phone.serial, f"rm {marker}")).exit_code == 0


async def test_the_phone_itself_ends_a_long_command(phone: AttachedPhone) -> None:
    now = int((await phone.client.shell(phone.serial, "date +%s")).stdout)
    ended = await phone.client.shell(phone.serial, fenced("sleep 100", now + 600, timeout_sec=1))
    assert ended.exit_code != 0
    assert refused_at(ended.exit_code, ended.stderr) is None
