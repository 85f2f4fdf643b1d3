"""`muster doctor`: adb, the phones behind it, and the vendor tool."""

import asyncio
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from muster.adb.binary import AdbBinaryMissing, find_adb
from muster.adb.client import AdbClient
from muster.adb.errors import AdbError, AdbServerGone
from muster.adb.protocol import AttachedDevice, DeviceState
from muster.agent.identity_file import PHONES_FILE, IdentityFile
from muster.cli.finding import Finding, counted, named
from muster.runtime.settings import Settings
from muster.vendor.errors import VendorError
from muster.vendor.pool import VendorPool
from muster.vendor.tool import VendorTool

ADB_VERSION_SEC: Final = 5.0
WORDS_BYTES_MAX: Final = 10_000
PHONE_ANSWER_SEC: Final = 4.0
PHONES_AT_ONCE: Final = 8
PHONES_ASKED_MAX: Final = 100
# Beyond it services begin to refuse what the phone's apps send; our own fences take the phone's clock as it is.
PHONE_CLOCK_SEC_MAX: Final = 300.0
_VERSION: Final = re.compile(r"Android Debug Bridge version 1\.0\.(\d+)")
_RELEASE: Final = re.compile(r"^Version (\S+)", re.MULTILINE)


async def check_adb_program(_settings: Settings) -> Sequence[Finding]:
    """It is there and runs."""
    try:
        return [(await look_at_adb(await asyncio.to_thread(find_adb)))[0]]
    except AdbBinaryMissing as error:
        return [Finding("adb program", "bad", str(error), "install Android's platform-tools, or pip install adbutils")]


async def look_at_adb(program: Path, *, answer_sec: float = ADB_VERSION_SEC) -> tuple[Finding, int | None]:
    """What is to be said of it, and the protocol version that it speaks."""
    try:
        text = await _said_by(program, "version", answer_sec)
    except (OSError, TimeoutError) as error:
        why = f"{program} does not run: {str(error) or 'no answer'}"
        return Finding("adb program", "bad", why, "install Android's platform-tools anew"), None
    version, release = _VERSION.search(text), _RELEASE.search(text)
    if version is None:
        told = f"{program} is not Android's adb: it says {text[:60]!r}"
        return Finding("adb program", "bad", told, "put Android's platform-tools first in PATH"), None
    return Finding("adb program", "ok", f"{program}, {release[1] if release else version[0]}"), int(version[1])


async def _said_by(program: Path, argument: str, answer_sec: float) -> str:
    process = await asyncio.create_subprocess_exec(
        str(program), argument, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(answer_sec):
            assert process.stdout is not None
            text = b""
            while len(text) < WORDS_BYTES_MAX and (piece := await process.stdout.read(WORDS_BYTES_MAX)):
                text += piece
            await process.wait()
            return text.decode("utf-8", "replace")
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise


async def check_adb_server(settings: Settings) -> Sequence[Finding]:
    """It answers, it is of the program's version, and how the phones are that it has."""
    address = settings.adb_server
    client = AdbClient(address.host, address.port)
    try:
        version, phones = await client.version(), await client.devices()
    except AdbServerGone as error:
        return [
            Finding(
                "adb server",
                "warning",
                str(error),
                "nothing to do if it is on this PC: the agent starts it; else start it there, or see ADB_SERVER",
            )
        ]
    except AdbError as error:
        advice = "another program has this port: end it, or give the agent another one with ADB_SERVER"
        return [Finding("adb server", "bad", f"{address}: {error}", advice)]
    called = await _names(settings)
    in_order = [replace(phone, serial=called.get(phone.serial, phone.serial)) for phone in phones]
    clocks = await _of_clocks(client, phones, called)
    return [await _of_version(version, str(address)), *_of_phones(in_order), *clocks]


async def _names(settings: Settings) -> Mapping[str, str]:
    """What the agent of this PC calls the phone at each handle: by that its label, the console and the log know it."""
    file = IdentityFile(settings.data / "agent" / PHONES_FILE)
    handles = (await asyncio.to_thread(file.load)).handles
    return {handle: f"{name} at {handle}" for handle, name in handles.items() if name != handle}


async def _of_version(version: int, address: str) -> Finding:
    try:
        _, own = await look_at_adb(find_adb())
    except AdbBinaryMissing:
        own = None
    detail = f"version {version} at {address}"
    if own is not None and own != version:
        # Seen with every second tool that brings an adb of its own: each command ends the server of the other.
        return Finding(
            "adb server",
            "warning",
            f"{detail}, but the adb program of this PC is version {own}: each use of it ends this server",
            "let every program on this PC use one adb (one PATH, one platform-tools)",
        )
    return Finding("adb server", "ok", detail)


def _of_phones(phones: Sequence[AttachedDevice]) -> list[Finding]:
    if not phones:
        advice = "connect phones by cable, hub and port that carry data; switch on USB debugging on each"
        return [Finding("phones", "warning", "adb sees none", advice)]
    ready = [phone.serial for phone in phones if phone.state is DeviceState.DEVICE]
    found = [Finding("phones", "ok", f"{len(ready)} of {len(phones)} ready")] if ready else []
    for what, advice, serials in _groups(phones):
        if serials:
            found.append(Finding("phones", "warning", f"{counted(len(serials), what)}: {named(serials)}", advice))
    return found


def _groups(phones: Sequence[AttachedDevice]) -> list[tuple[str, str, list[str]]]:
    """(what they are, what to do, which) of the phones that cannot be used."""
    forbidden = [phone.serial for phone in phones if "permission" in phone.state_text]
    in_state = {state: [phone.serial for phone in phones if phone.state is state] for state in DeviceState}
    unauthorized = in_state[DeviceState.UNAUTHORIZED] + in_state[DeviceState.AUTHORIZING]
    other = [
        f"{phone.serial} ({phone.state_text})"
        for phone in phones
        if phone.state in (DeviceState.RECOVERY, DeviceState.BOOTLOADER, DeviceState.CONNECTING, DeviceState.OTHER)
        and phone.serial not in forbidden
    ]
    return [
        ("unauthorized phone", "accept the USB debugging prompt on each, with 'always allow'", unauthorized),
        (
            "offline phone",
            "plug it in again, or switch USB debugging off and on; `muster device reconnect` does the same from afar",
            in_state[DeviceState.OFFLINE],
        ),
        ("phone that this user may not open", _USB_ADVICE, forbidden),
        ("phone in another state", "start it normally", other),
    ]


if sys.platform == "linux":
    _USB_ADVICE: Final = (
        "install the udev rules (package android-sdk-platform-tools-common), add this user to group plugdev, "
        "log in anew, `adb kill-server`, and plug the phones in again"
    )
else:
    _USB_ADVICE: Final = "install the maker's USB driver, and plug the phones in again"


async def _of_clocks(client: AdbClient, phones: Sequence[AttachedDevice], called: Mapping[str, str]) -> list[Finding]:
    """Phones are compared with this PC, whose own clock is compared with the backend's elsewhere."""
    ready = [phone.serial for phone in phones if phone.state is DeviceState.DEVICE][:PHONES_ASKED_MAX]
    slots = asyncio.Semaphore(PHONES_AT_ONCE)
    ahead = dict(
        zip(ready, await asyncio.gather(*(_ahead_sec(client, serial, slots) for serial in ready)), strict=True)
    )
    told = {serial: seconds for serial, seconds in ahead.items() if seconds is not None}
    silent = sorted(ahead.keys() - told.keys())
    wrong = [f"{serial} ({off:+.0f} s)" for serial, off in told.items() if abs(off) > PHONE_CLOCK_SEC_MAX]
    found = []
    if silent:
        advice = "look at each: is it frozen, or starting? `muster device reboot` starts it anew"
        told_of = f"{counted(len(silent), 'phone')} gave no answer within {PHONE_ANSWER_SEC:g} s: {named(silent)}"
        found.append(Finding("phones", "warning", told_of, advice))
    if wrong:
        advice = "set automatic date and time on each: with a wrong date, apps and sites refuse to log in"
        if len(wrong) == len(told) > 1:
            off = statistics.median(told.values())
            advice = f"all differ by about {off:+.0f} s: it is this PC's clock that is wrong"
        found.append(Finding("phone clocks", "warning", f"off by more than five minutes: {named(wrong)}", advice))
    elif told:
        found.append(Finding("phone clocks", "ok", f"{counted(len(told), 'phone')} within five minutes of this PC"))
    return found


async def _ahead_sec(client: AdbClient, serial: str, slots: asyncio.Semaphore) -> float | None:
    """How far its clock is ahead of this PC's; None: it does not say."""
    try:
        async with slots, asyncio.timeout(PHONE_ANSWER_SEC):
            asked = time.time()
            answer = await client.shell(serial, "date +%s")
            return int(answer.stdout) - (asked + time.time()) / 2
    except (AdbError, TimeoutError, ValueError):
        return None


async def check_vendor_tool(settings: Settings) -> Sequence[Finding]:
    """It answers a list."""
    if settings.vendor_url is None:
        return [Finding("vendor tool", "ok", "turned off: devices by adb, pictures by screencap")]
    try:
        async with VendorPool(settings.vendor_url, size=1) as pool:
            listed = await VendorTool(pool).list()
    except VendorError as error:
        advice = "start the vendor tool; or turn it off with --vendor-url none, then adb alone does its work"
        return [Finding("vendor tool", "warning", str(error), advice)]
    if listed.problems:
        told = f"it lists phones that cannot be used: {named(listed.problems)}"
        return [Finding("vendor tool", "warning", told, "give each phone a serial of its own in the tool")]
    return [Finding("vendor tool", "ok", f"{counted(len(listed.devices), 'phone')} at {settings.vendor_url}")]
