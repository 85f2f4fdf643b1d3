"""`muster doctor` and what hangs on this PC: a real adb server with virtual phones, and scripted servers."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.adb import Peer, Script, scripted_server
from tests.support.processes import run_muster

from muster.adb.client import AdbClient
from muster.adb.protocol import DeviceState
from muster.agent.identities import Identities
from muster.agent.identity_file import PHONES_FILE, IdentityFile
from muster.cli.check_phones import check_adb_program, check_adb_server, check_vendor_tool, look_at_adb
from muster.cli.finding import Finding
from muster.runtime.settings import Settings, load_settings
from muster.sim.main import Rack, RackSettings
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def settings(port: int, **variables: Any) -> Settings:
    return load_settings({"ADB_SERVER": f"127.0.0.1:{port}", **variables}, {}, Path("nowhere"))


@asynccontextmanager
async def virtual_rack(folder: Path, devices: int) -> AsyncIterator[Rack]:
    async with Rack(RackSettings(devices=devices, latency="none", control_port=None, data_dir=folder / "sim")) as rack:
        yield rack


def block(text: str) -> bytes:
    return b"OKAY" + f"{len(text):04x}{text}".encode()


def adb_of(version: int, devices: str) -> Script:
    """An adb server of this version with this list of phones, none of which answers."""

    async def script(peer: Peer) -> None:
        asked = await peer.request()
        if asked.startswith("host:transport"):
            peer.send(b"FAIL0004gone")
        else:
            peer.send(block(f"{version:04x}") if asked == "host:version" else block(devices))

    return script


async def seen(version: int, devices: str, **variables: Any) -> Sequence[Finding]:
    """What is found there."""
    async with scripted_server(adb_of(version, devices)) as server:
        return await check_adb_server(settings(server.port, **variables))


async def test_a_rack_that_is_well_has_no_advice(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path, 2) as rack:
        here = settings(rack.adb_address[1], VENDOR_WS_URL=rack.vendor_url)
        found = [*await check_adb_program(here), *await check_adb_server(here), *await check_vendor_tool(here)]
    assert {(finding.check, finding.verdict, finding.advice) for finding in found} == {
        (check, "ok", "") for check in ("adb program", "adb server", "phones", "phone clocks", "vendor tool")
    }
    assert [finding.detail for finding in found if finding.check == "phones"] == ["2 of 2 ready"]


async def test_each_phone_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path, 5) as rack:
        well, asking, offline, hung, late = rack.phones.values()
        await set_state(asking, PhoneState.UNAUTHORIZED, rack)
        await set_state(offline, PhoneState.OFFLINE, rack)
        await set_state(hung, PhoneState.HUNG, rack)
        late.clock_offset_sec = -4_000
        client = AdbClient(*rack.adb_address)
        for phone, state in ((asking, DeviceState.UNAUTHORIZED), (offline, DeviceState.OFFLINE)):
            await until_state(client, phone.serial, state)
        found = await check_adb_server(settings(rack.adb_address[1]))
    details = [finding.detail for finding in found if finding.verdict == "warning"]
    assert f"1 unauthorized phone: {asking.serial}" in details
    assert f"1 offline phone: {offline.serial}" in details
    assert f"1 phone gave no answer within 4 s: {hung.serial}" in details
    (clock,) = [finding for finding in found if finding.check == "phone clocks"]
    assert late.serial in clock.detail and well.serial not in clock.detail
    assert "-4000 s" in clock.detail or "-3999 s" in clock.detail or "-4001 s" in clock.detail
    assert all(finding.advice for finding in found if finding.verdict != "ok")


async def test_phones_are_called_as_their_agent_calls_them(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    identities = Identities()
    identities.remember_handle("192.168.0.11:5555", "LABEL-7")
    identities.remember_handle("ABC123", "ABC123")
    await IdentityFile(tmp_path / "agent" / PHONES_FILE).save(identities)
    found = await seen(41, "192.168.0.11:5555\tunauthorized\nABC123\tunauthorized\n", MUSTER_DATA=tmp_path)
    assert found[1].detail == "2 unauthorized phones: ABC123, LABEL-7 at 192.168.0.11:5555"


async def test_what_the_parts_log_never_gets_into_the_answer(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / PHONES_FILE).write_text("rubbish")
    async with scripted_server(adb_of(41, "ABC\tdevice\n")) as server:
        places = ["--data", str(tmp_path), "--adb-server", f"127.0.0.1:{server.port}", "--vendor-url", "none"]
        ran = await run_muster("doctor", "--node", *places, "--json", cwd=tmp_path)
    assert "phones" in {finding["check"] for finding in json.loads(ran.stdout)}
    assert "cannot be read" in ran.stderr


async def until_state(client: AdbClient, serial: str, state: DeviceState) -> None:
    async with asyncio.timeout(60):
        while (serial, state) not in {(phone.serial, phone.state) for phone in await client.devices()}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins are shell scripts")
@pytest.mark.parametrize(
    ("script", "words"),
    [("echo hello", "is not Android's adb: it says 'hello"), ("exec sleep 60", "no answer"), (None, "does not run")],
)
async def test_a_program_called_adb_that_is_none_is_bad(tmp_path: Path, script: str | None, words: str) -> None:
    program = tmp_path / "adb"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    found, version = await look_at_adb(program, answer_sec=20.0 if script == "echo hello" else 0.1)
    assert (found.verdict, version, words in found.detail) == ("bad", None, True), found
    assert found.advice


async def test_a_phone_that_this_user_may_not_open_is_told_from_other_states() -> None:
    found = await seen(41, "ABC\tno permissions (missing udev rules?); see [http://x]\nDEF\trecovery\n")
    details = {finding.detail: finding.advice for finding in found if finding.check == "phones"}
    assert "udev" in details["1 phone that this user may not open: ABC"]
    assert "1 phone in another state: DEF (recovery)" in details


async def test_an_adb_of_another_version_is_told_before_it_ends_the_server() -> None:
    server, phones = await seen(39, "")
    assert server.verdict == "warning"
    assert "each use of it ends this server" in server.detail
    assert (phones.verdict, phones.detail) == ("warning", "adb sees none")
    assert (await seen(41, ""))[0].verdict == "ok"


async def test_something_else_on_adbs_port_is_bad() -> None:
    async def script(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with scripted_server(script) as server:
        (found,) = await check_adb_server(settings(server.port))
    assert (found.verdict, "ADB_SERVER" in found.advice) == ("bad", True)


async def test_a_vendor_tool_that_is_gone_is_a_warning_and_one_turned_off_is_none(tmp_path: Path) -> None:
    (gone,) = await check_vendor_tool(settings(1, VENDOR_WS_URL="ws://127.0.0.1:1"))
    assert (gone.verdict, "--vendor-url none" in gone.advice) == ("warning", True)
    (off,) = await check_vendor_tool(settings(1, VENDOR_WS_URL="none"))
    assert off.verdict == "ok"
