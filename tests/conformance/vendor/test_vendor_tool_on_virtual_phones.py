"""The imitated tool over the rack's own phones (no adb server needed): each action has its effect on the phone."""

import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.manual_clock import ManualClock

from muster.runtime.clock import SystemClock
from muster.sim.casting import CastRack
from muster.sim.display import make_screen
from muster.sim.latency import NoPace
from muster.sim.models import draw_identities
from muster.sim.phone import Phone
from muster.sim.vendor import VendorServer
from muster.sim.vendor.actions import OWN_KEYBOARD
from muster.sim.vendor.quirks import INSTANT
from muster.vendor.pool import VendorPool
from muster.vendor.protocol import Json
from muster.vendor.tool import VendorTool


@pytest.fixture
async def phones() -> AsyncIterator[list[Phone]]:
    clock = ManualClock()
    made = [
        Phone(identity, clock=clock, pace=NoPace(), make_screen=make_screen) for identity in draw_identities(3, seed=1)
    ]
    for phone in made:
        await phone.adbd.start()
    yield made
    for phone in made:
        await phone.close()


@pytest.fixture
async def pool(phones: list[Phone], tmp_path: Path) -> AsyncIterator[VendorPool]:
    server = VendorServer(CastRack(phones, tmp_path / "rack"), pace=INSTANT, clock=SystemClock())
    port = await server.start()
    async with VendorPool(f"ws://127.0.0.1:{port}/") as pool:
        yield pool
    await server.stop()


async def done(pool: VendorPool, action: str, phone: Phone, data: dict[str, str] | None = None) -> Json:
    answer = await pool.request(action, [phone.serial], data)
    assert answer.code == 10_000, answer
    return answer.data


async def test_the_rack_is_listed_and_every_phone_s_picture_is_its_own(
    pool: VendorPool, phones: list[Phone], tmp_path: Path
) -> None:
    tool = VendorTool(pool)
    listed = await tool.list()
    assert listed.problems == ()
    assert [(d.only_serial, d.serial, d.is_online) for d in listed.devices] == [
        (phone.device_id, phone.serial, True) for phone in phones
    ]
    pictures = [await tool.screen(device.serial, tmp_path / "shots") for device in listed.devices]
    assert pictures == [await phone.display.picture() for phone in phones]
    assert len(set(pictures)) == len(phones)


async def test_an_app_is_started_typed_into_and_stopped(pool: VendorPool, phones: list[Phone]) -> None:
    phone = phones[0]
    await done(pool, "startApk", phone, {"apk": "com.example.app"})
    assert phone.display.screen.current_focus() == "com.example.app/.SignInActivity"
    await done(pool, "selectIme", phone, {"ime": OWN_KEYBOARD})
    await done(pool, "inputText", phone, {"content": "계정"})
    assert 'text="계정"' in phone.display.screen.dump()
    await done(pool, "stopApk", phone, {"apk": "com.example.app"})
    assert phone.display.screen.current_focus() == "com.android.launcher3/.Launcher"


async def test_adb_tells_what_the_phone_s_shell_says(pool: VendorPool, phones: list[Phone]) -> None:
    said = await done(pool, "adb", phones[1], {"command": "adb shell getprop ro.product.model"})
    assert said == {phones[1].serial: phones[1].identity.model.model + "\n"}


async def test_percent_are_percent_of_the_size_that_wm_has_set(pool: VendorPool, phones: list[Phone]) -> None:
    phone = phones[0]
    await done(pool, "adb_shell", phone, {"command": "wm size 540x1170 && wm density 240"})
    await done(pool, "startApk", phone, {"apk": "com.android.settings"})
    for kind in ("0", "1"):
        await done(pool, "pointerEvent", phone, {"type": kind, "x": "50", "y": "16"})
    assert phone.display.screen.current_focus() == "com.android.settings/.SubSettings"


async def test_files_go_to_the_phone_and_back(pool: VendorPool, phones: list[Phone], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"read me")
    await done(pool, "uploadFile", phones[0], {"filePath": str(tmp_path / "notes.txt")})
    source, back = "/sdcard/Download/notes.txt", tmp_path / "back"
    await done(pool, "pullFile", phones[0], {"filePath": source, "savePath": str(back)})
    assert [path.read_bytes() for path in back.iterdir()] == [b"read me"]


async def test_apps_are_listed_removed_and_installed_again(
    pool: VendorPool, phones: list[Phone], tmp_path: Path
) -> None:
    phone = phones[0]
    listed = await done(pool, "apkList", phone)
    assert listed == {phone.serial: ["com.example.app", "com.google.android.youtube"]}
    await done(pool, "uninstallApk", phone, {"apk": "com.example.app"})
    assert await done(pool, "apkList", phone) == {phone.serial: ["com.google.android.youtube"]}
    assert "com.example.app" not in phone.display.screen.packages()
    apk = tmp_path / "example app.apk"
    with zipfile.ZipFile(apk, "w") as archive:
        archive.writestr("AndroidManifest.xml", '<manifest package="com.example.app"/>')
    await done(pool, "installApk", phone, {"filePath": str(apk)})
    await done(pool, "startApk", phone, {"apk": "com.example.app"})
    assert phone.display.screen.current_focus() == "com.example.app/.SignInActivity"
