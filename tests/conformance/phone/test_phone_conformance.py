"""What Muster takes for granted about an Android phone, asked of the virtual rack and of a real phone alike.

`MUSTER_REAL_SERIAL=R58M… pytest tests/conformance/phone` runs the same against a phone on this PC. Nothing here changes
the phone for good: what is set is set back, what is written lies in /data/local/tmp and is removed.
"""

import io
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image
from tests.support.adb_phones import AttachedPhone, real_phone, virtual_phone

from muster.adb.protocol import ShellResult

REAL_SERIAL = os.environ.get("MUSTER_REAL_SERIAL")
PHONES = ["virtual", "real"] if REAL_SERIAL else ["virtual"]


@pytest.fixture(params=PHONES)
async def phone(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AttachedPhone]:
    source = virtual_phone(tmp_path / "adb") if request.param == "virtual" else real_phone(REAL_SERIAL or "")
    async with source as attached:
        yield attached


async def ask(phone: AttachedPhone, command: str) -> ShellResult:
    return await phone.client.shell(phone.serial, command, stdout_bytes_max=16 * 1024 * 1024)


async def text(phone: AttachedPhone, command: str) -> str:
    return (await ask(phone, command)).stdout.decode()


# ---- the shell -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("X='a  b'; echo \"$X\" $X", "a  b a b\n"),
        ("echo $((2147483647 + 1))", "-2147483648\n"),
        ("false && echo a || echo b; echo $?", "b\n0\n"),
        ("for i in 1 2 3; do echo $i; done | tail -n 1", "3\n"),
        ("case abc in a*) echo yes;; esac", "yes\n"),
        ("X=a.tar.gz; echo ${X%.*} ${X##*.}", "a.tar gz\n"),
        ("printf '%s|' a 'b c'; echo", "a|b c|\n"),
        ("timeout 0.2 sleep 5; echo $?", "124\n"),
        ("echo abc | md5sum", "0bee89b07a248e27c83fc3d5951213c1  -\n"),
        ("[ -d /sdcard/ ] && [ ! -e /none ] && echo ok", "ok\n"),
        ("(exit 3); echo $?; sh -c 'exit 4'; echo $?", "3\n4\n"),
        ("whoami; id -u", "shell\n2000\n"),
    ],
)
async def test_the_shell_says(phone: AttachedPhone, command: str, out: str) -> None:
    assert await text(phone, command) == out


async def test_a_shell_has_no_terminal_and_uiautomator_still_claims_to_have_written_to_it(phone: AttachedPhone) -> None:
    assert (await ask(phone, "echo x > /dev/tty")).exit_code != 0
    said = await text(phone, "uiautomator dump /dev/tty")
    assert "<hierarchy" not in said


async def test_an_unknown_property_is_an_empty_line_and_ends_well(phone: AttachedPhone) -> None:
    result = await ask(phone, "getprop no.such.property")
    assert (result.exit_code, result.stdout) == (0, b"\n")


async def test_the_phone_has_a_clock_of_its_own_in_seconds(phone: AttachedPhone) -> None:
    assert re.fullmatch(r"\d{10}\n", await text(phone, "date +%s"))


# ---- the system ------------------------------------------------------------------------------------------------------


async def test_an_unknown_setting_is_null_and_a_set_one_comes_back(phone: AttachedPhone) -> None:
    assert await text(phone, "settings get global muster_conformance") == "null\n"
    assert (
        await text(phone, "settings put global muster_conformance 7; settings get global muster_conformance") == "7\n"
    )
    await ask(phone, "settings delete global muster_conformance")
    assert await text(phone, "settings get global muster_conformance") == "null\n"


async def test_wm_tells_the_physical_size_first_and_an_override_after_it(phone: AttachedPhone) -> None:
    assert re.match(r"Physical size: \d+x\d+\n", await text(phone, "wm size"))
    assert re.match(r"Physical density: \d+\n", await text(phone, "wm density"))
    try:
        assert "Override density: 300\n" in await text(phone, "wm density 300; wm density")
    finally:
        await ask(phone, "wm density reset")
    assert "Override" not in await text(phone, "wm density")


async def test_the_battery_tells_its_level_and_its_temperature_in_tenths(phone: AttachedPhone) -> None:
    said = await text(phone, "dumpsys battery")
    level = re.search(r"^  level: (\d+)$", said, re.MULTILINE)
    temperature = re.search(r"^  temperature: (-?\d+)$", said, re.MULTILINE)
    assert level is not None
    assert temperature is not None
    assert 0 <= int(level[1]) <= 100
    assert -300 < int(temperature[1]) < 1000


async def test_a_package_that_is_not_there_is_status_1_and_no_word(phone: AttachedPhone) -> None:
    result = await ask(phone, "pm path no.such.package")
    assert (result.exit_code, result.stdout) == (1, b"")
    assert "package:com.android.settings\n" in await text(phone, "pm list packages")


async def test_monkey_without_an_app_aborts_with_its_own_status(phone: AttachedPhone) -> None:
    result = await ask(phone, "monkey -p no.such.package 1")
    assert result.exit_code == 252
    assert b"No activities found to run, monkey aborted." in result.stdout + result.stderr


async def test_an_activity_that_is_not_there_is_told_in_words(phone: AttachedPhone) -> None:
    result = await ask(phone, "am start -n no.such.package/.Nothing")
    assert b"does not exist" in result.stdout + result.stderr


async def test_the_screen_is_a_png_of_the_size_that_wm_tells(phone: AttachedPhone) -> None:
    await ask(phone, "input keyevent KEYCODE_WAKEUP")
    size = re.findall(r"(\d+)x(\d+)", await text(phone, "wm size"))[-1]
    result = await ask(phone, "screencap -p")
    with Image.open(io.BytesIO(result.stdout)) as picture:
        assert picture.format == "PNG"
        assert sorted(map(str, picture.size)) == sorted(size)  # a real phone may lie on its side


async def test_the_dump_is_xml_whose_nodes_have_bounds_on_the_screen(phone: AttachedPhone) -> None:
    await ask(phone, "input keyevent KEYCODE_WAKEUP; wm dismiss-keyguard; input keyevent KEYCODE_HOME")
    path = "/data/local/tmp/muster-dump.xml"
    said = await text(phone, f"uiautomator dump {path}")
    assert f"UI hierchary dumped to: {path}" in said
    tree = ET.fromstring(await text(phone, f"cat {path}; rm {path}"))
    nodes = list(tree.iter("node"))
    assert nodes
    assert all(re.fullmatch(r"\[-?\d+,-?\d+\]\[-?\d+,-?\d+\]", node.attrib["bounds"]) for node in nodes)
    assert {"text", "resource-id", "class", "content-desc", "clickable", "package"} <= nodes[0].attrib.keys()


async def test_the_focused_window_is_named(phone: AttachedPhone) -> None:
    await ask(phone, "input keyevent KEYCODE_HOME")
    assert re.search(r"mCurrentFocus=Window\{\w+ u0 \S+\}", await text(phone, "dumpsys window"))
