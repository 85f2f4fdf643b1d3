"""The phone's programs, family by family: what they print, where, and how they end."""

import hashlib
import io
import zipfile

import pytest
from PIL import Image
from tests.support.manual_clock import ManualClock
from tests.support.sim_phone import DEVICE_ID, make_phone, say, say_bytes

from muster.sim.shell.commands.package import apk_package

TABLE = [
    # text
    ("printf 'a\\nb\\nc\\n' | head -n 2", 0, "a\nb\n"),
    ("printf 'a\\nb\\nc\\n' | tail -n +2", 0, "b\nc\n"),
    ("printf 'abc' | head -c 2", 0, "ab"),
    ("printf 'a1\\nb2\\n' | grep -E '[0-9]$' | wc -l", 0, "2\n"),
    ("printf 'Foo\\nbar\\n' | grep -i -n foo", 0, "1:Foo\n"),
    ("printf 'a.b\\naxb\\n' | grep -F a.b", 0, "a.b\n"),
    ("printf 'x=1 y=22\\n' | grep -o '[0-9]\\+'", 0, "1\n22\n"),
    ("printf 'a\\n' | grep -q a; echo $?; printf 'a\\n' | grep -v a; echo $?", 0, "0\n1\n"),
    ("printf 'b\\na\\nb\\n' | sort -u; printf '10\\n9\\n' | sort -n", 0, "a\nb\n9\n10\n"),
    ("printf 'a\\na\\nb\\n' | uniq -c", 0, "      2 a\n      1 b\n"),
    ("echo a:b:c | cut -d: -f1,3; echo abcdef | cut -c2-4", 0, "a:c\nbcd\n"),
    ("echo hello | tr a-z A-Z; echo aabb | tr -d a", 0, "HELLO\nbb\n"),
    ("echo level: 87 | sed 's/.*: //'; printf 'a\\nb\\n' | sed -n 2p; echo a/b | sed 's#/#-#g'", 0, "87\nb\na-b\n"),
    ("printf abc | md5sum", 0, hashlib.md5(b"abc").hexdigest() + "  -\n"),
    ("printf abc | sha256sum -b", 0, hashlib.sha256(b"abc").hexdigest() + "\n"),
    ("printf abc | base64; printf YWJj | base64 -d", 0, "YWJj\nabc"),
    ("seq 2 4; echo 1 2 | xargs echo x; echo a | tee /sdcard/t | cat; cat /sdcard/t", 0, "2\n3\n4\nx 1 2\na\na\n"),
    # files
    ("mkdir -p /sdcard/a/b; echo x > /sdcard/a/b/f; find /sdcard/a -type f", 0, "/sdcard/a/b/f\n"),
    ("echo x > /sdcard/f; cp /sdcard/f /sdcard/g; mv /sdcard/g /sdcard/Download/; ls /sdcard/Download", 0, "g\n"),
    ("echo abc > /sdcard/f; stat -c '%s %n %F %a' /sdcard/f", 0, "4 /sdcard/f regular file 660\n"),
    ("rm -f /sdcard/none; echo $?; basename /a/b.png .png; dirname /a/b", 0, "0\nb\n/a\n"),
    ("cat /storage/emulated/0/x 2>/dev/null; echo x > /sdcard/x; cat /storage/emulated/0/x", 0, "x\n"),
    # the phone
    ("getprop ro.serialno; getprop nothing.here", 0, f"{DEVICE_ID}\n\n"),
    ("setprop debug.x 5; getprop debug.x", 0, "5\n"),
    ("id -u; whoami", 0, "2000\nshell\n"),
    ("date -u -d @1700000000 '+%Y-%m-%d %H:%M:%S %s %Z'", 0, "2023-11-14 22:13:20 1700000000 UTC\n"),
    ("which ls", 0, "/system/bin/ls\n"),
    # settings
    ("settings get global nothing", 0, "null\n"),
    ("settings put global window_animation_scale 0; settings get global window_animation_scale", 0, "0\n"),
    ("settings put secure a 1; settings delete secure a; settings get secure a; settings delete secure a", 0,
     "Deleted 1 rows\nnull\nDeleted 0 rows\n"),
    ("settings --user 0 get system font_scale; settings list system | grep -c =", 0, "1.0\n8\n"),
    ("settings put system system_locales en-US; getprop persist.sys.locale", 0, "en-US\n"),
    ("svc power stayon usb; settings get global stay_on_while_plugged_in", 0, "2\n"),
    ("svc wifi disable; settings get global wifi_on", 0, "0\n"),
    ("locksettings get-disabled; locksettings set-disabled true", 0, "true\nLock screen disabled set to true\n"),
    # display
    ("wm size; wm density", 0, "Physical size: 1080x2340\nPhysical density: 480\n"),
    ("wm size 720x1560; wm density 320; wm size; wm density", 0,
     "Physical size: 1080x2340\nOverride size: 720x1560\nPhysical density: 480\nOverride density: 320\n"),
    ("wm size 720x1560; wm size reset; wm size", 0, "Physical size: 1080x2340\n"),
    ("dumpsys battery set level 12; dumpsys battery | grep level; dumpsys battery reset", 0, "  level: 12\n"),
    ("dumpsys power | grep mWakefulness=; input keyevent SLEEP; dumpsys power | grep mWakefulness=", 0,
     "  mWakefulness=Awake\n  mWakefulness=Asleep\n"),
    # apps
    ("pm path no.such.app; echo $?", 0, "1\n"),
    ("pm path com.example.app | cut -c1-17", 0, "package:/data/app\n"),
    ("pm list packages -3 com.example", 0, "package:com.example.app\n"),
    ("pm list packages | grep -c .", 0, "14\n"),
    ("pm grant com.example.app android.permission.CAMERA; dumpsys package com.example.app | grep CAMERA", 0,
     "        android.permission.CAMERA: granted=true, flags=[ USER_SENSITIVE_WHEN_GRANTED]\n"),
    ("pm clear com.example.app; pm clear no.such.app; echo $?", 0, "Success\nFailed\n1\n"),
    ("cmd package path no.such.app; echo $?; cmd nothing; echo $?", 0, "1\n20\n"),
    ("am force-stop com.example.app; echo $?", 0, "0\n"),
]  # fmt: skip


@pytest.mark.parametrize(("script", "status", "out"), TABLE, ids=[row[0][:60] for row in TABLE])
async def test_a_program_answers_as_on_a_phone(script: str, status: int, out: str) -> None:
    said = await say(make_phone(), script)
    assert (said.status, said.out) == (status, out)


ERRORS = [
    ("ls /none", 1, "ls: /none: No such file or directory"),
    ("cat /sdcard", 1, "cat: /sdcard: Is a directory"),
    ("rm /sdcard/none", 1, "rm: /sdcard/none: No such file or directory"),
    ("mkdir /sdcard", 1, "mkdir: '/sdcard': File exists"),
    ("cp /none /sdcard/x", 1, "No such file or directory"),
    ("setprop ro.serialno X", 1, "Read-only property was already set"),
    ("setprop not.allowed 1", 1, "Permission denied"),
    ("settings get nowhere x", 255, "Invalid namespace 'nowhere'"),
    ("settings frob", 255, "Unknown command: frob"),
    ("wm size big", 255, "bad size"),
    ("wm density 10", 255, "density must be >= 72"),
    ("input tap 1", 255, "Invalid arguments"),
    ("input keyevent KEYCODE_NOPE", 255, "Unknown keycode"),
    ("input frob", 255, "Unknown command: frob"),
    ("am frob", 255, "Unknown command: frob"),
    ("pm frob", 255, "Unknown command: frob"),
    ("pm grant no.such.app android.permission.CAMERA", 255, "Unknown package: no.such.app"),
    ("pm install /sdcard/none.apk", 255, "Unable to open file"),
    ("am start -n no.such/.Thing", 0, "Activity class {no.such/no.such.Thing} does not exist."),
    ("dumpsys nothing", 0, "Can't find service: nothing"),
    ("sleep x", 1, "sleep: bad number 'x'"),
    ("grep", 2, "no REGEX"),
    ("head -z", 1, "Unknown option 'z'"),
    ("[ 1 -eq one ]", 2, "bad number"),
    ("[ a", 2, "missing ]"),
    ("ping 10.0.0.1", 2, "Network is unreachable"),
    ("/system/bin", 126, "Is a directory"),
]


@pytest.mark.parametrize(("script", "status", "words"), ERRORS, ids=[row[0] for row in ERRORS])
async def test_what_cannot_be_done_is_told_on_stderr(script: str, status: int, words: str) -> None:
    said = await say(make_phone(), script)
    assert said.status == status
    assert words in said.err


async def test_monkey_starts_an_app_and_aborts_with_252_when_there_is_none() -> None:
    phone = make_phone()
    started = await say(phone, "monkey -p com.example.app -c android.intent.category.LAUNCHER 1")
    assert started.status == 0
    assert "Events injected: 1" in started.out
    assert (await say(phone, "dumpsys window | grep mCurrentFocus")).out.count("com.example.app/") == 1
    aborted = await say(phone, "monkey -p no.such.app 1")
    assert aborted.status == 252
    assert "** No activities found to run, monkey aborted." in aborted.out


async def test_am_start_waits_and_names_the_activity_and_stop_takes_it_away() -> None:
    phone = make_phone()
    said = await say(phone, "am start -W -n com.example.app/.SignInActivity")
    assert said.status == 0
    assert {"Status: ok", "Activity: com.example.app/.SignInActivity", "Complete"} <= set(said.lines)
    await say(phone, "am force-stop com.example.app")
    assert "com.example.app" not in (await say(phone, "dumpsys activity activities")).out


async def test_a_video_page_opens_by_its_address() -> None:
    phone = make_phone()
    await say(phone, "am start -a android.intent.action.VIEW -d 'https://www.youtube.com/watch?v=dQw4w9WgXcQ'")
    await say(phone, "uiautomator dump /sdcard/w.xml")
    assert "dQw4w9WgXcQ" in (await say(phone, "cat /sdcard/w.xml")).out


async def test_input_changes_what_the_dump_and_the_picture_show() -> None:
    phone = make_phone()
    await say(phone, "am start -n com.example.app/.SignInActivity")
    before = await phone.display.picture()
    await say(phone, "input tap 540 900; input text 'ab%scd'; input keyevent KEYCODE_TAB 66")
    assert await phone.display.picture() != before


async def test_screencap_writes_a_png_of_the_size_in_force() -> None:
    phone = make_phone()
    status, out, _err = await say_bytes(phone, "wm size 540x1170; screencap -p")
    assert status == 0
    with Image.open(io.BytesIO(out)) as picture:
        assert (picture.format, picture.size) == ("PNG", (540, 1170))
    assert (await say(phone, "screencap /sdcard/s.png; stat -c %s /sdcard/s.png")).out == f"{len(out)}\n"


async def test_uiautomator_has_no_terminal_under_shell_but_one_under_exec() -> None:
    phone = make_phone()
    without = await say(phone, "uiautomator dump /dev/tty")
    assert without.out == "UI hierchary dumped to: /dev/tty\n"
    with_one = await say(phone, "uiautomator dump /dev/tty", terminal=True)
    assert with_one.out.startswith("<?xml")
    assert with_one.out.endswith("UI hierchary dumped to: /dev/tty\n")


async def test_uiautomator_finds_nothing_on_a_dark_screen() -> None:
    said = await say(make_phone(), "input keyevent 223; uiautomator dump; ls /sdcard/window_dump.xml")
    assert "null root node" in said.out
    assert "No such file" in said.err


async def test_the_phones_clock_is_its_own() -> None:
    clock = ManualClock()
    phone = make_phone(clock=clock)
    assert phone.clock_offset_sec != 0
    assert (await say(phone, "date +%s")).out == f"{clock.now_ms() // 1000 + phone.clock_offset_sec}\n"
    assert (await say(phone, "date +%s%3N")).out == f"{phone.now_ms()}\n"


async def test_while_it_boots_the_system_services_are_missing() -> None:
    phone = make_phone()
    phone.go_down()
    said = await say(phone, "getprop sys.boot_completed; settings get global x; echo $?; am start -n a/.b")
    assert said.lines == ["", "20"]
    assert "cmd: Can't find service: settings" in said.err
    assert said.status == 20
    phone.finish_boot()
    assert (await say(phone, "getprop sys.boot_completed; settings get global wifi_on")).lines == ["1", "1"]


async def test_a_full_disk_takes_no_more() -> None:
    phone = make_phone()
    phone.files.reserved_bytes = phone.files.capacity_bytes - 3
    said = await say(
        phone, "echo 123 > /sdcard/x; echo $?; df /data | tail -1 | grep -c 100%; screencap /sdcard/y.png; echo $?"
    )
    assert said.lines == ["1", "1", "1"]
    assert "No space left on device" in said.err


def make_apk(package: str) -> bytes:
    """The least that an APK is: a zip with a manifest, here a text one."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("AndroidManifest.xml", f'<manifest package="{package}"/>')
    return packed.getvalue()


async def test_an_apk_is_installed_from_a_file_or_a_stream_and_gone_after_uninstall() -> None:
    phone = make_phone()
    apk = make_apk("org.example.tool")
    phone.files.write("/data/local/tmp/t.apk", apk, mtime=0)
    assert (await say(phone, "pm install -r /data/local/tmp/t.apk; pm list packages -3 org.example")).lines == [
        "Success",
        "package:org.example.tool",
    ]
    assert (await say(phone, "monkey -p org.example.tool 1")).status == 0
    assert "INSTALL_FAILED_ALREADY_EXISTS" in (await say(phone, "pm install /data/local/tmp/t.apk")).out
    assert (await say(phone, "pm uninstall org.example.tool; pm path org.example.tool")).out == "Success\n"
    streamed = await say(phone, f"cmd package install -S {len(apk)}", stdin=apk)
    assert (streamed.status, streamed.out) == (0, "Success\n")
    short = await say(phone, f"cmd package install -S {len(apk) + 1}", stdin=apk)
    assert "INSTALL_FAILED_INVALID_APK" in short.out
    assert "DELETE_FAILED" in (await say(phone, "pm uninstall com.android.settings")).out


def test_what_is_no_apk_has_no_package() -> None:
    assert apk_package(b"") is None
    assert apk_package(b"PK\x03\x04rubbish") is None
    assert apk_package(make_apk("a.b")) == "a.b"


async def test_logcat_tells_what_was_started_and_forgets_on_demand() -> None:
    phone = make_phone()
    await say(phone, "am start -n com.example.app/.SignInActivity")
    assert "START u0" in (await say(phone, "logcat -d -t 5")).out
    assert (await say(phone, "logcat -c; logcat -d")).lines == ["--------- beginning of main"]
