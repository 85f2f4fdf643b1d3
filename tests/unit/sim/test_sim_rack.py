"""The rack as a whole: its phones, its ready line, its control API, its end."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.waiting import until

from muster.adb.client import AdbClient
from muster.adb.errors import AdbError
from muster.sim.main import Rack, RackNotReady, RackSettings, run_rack
from muster.sim.states import PhoneState, state_of

PROFILE = """
phones:
  - {character: unauthorized, numbers: [1]}
  - {character: no_adb, numbers: [2]}
  - {character: hanging, numbers: [3], at: {programs: [getprop]}}
"""


@pytest.fixture
async def rack(tmp_path: Path) -> AsyncIterator[Rack]:
    (tmp_path / "profile.yaml").write_text(PROFILE)
    settings = RackSettings(devices=5, seed=2, latency="none", profile=tmp_path / "profile.yaml", data_dir=tmp_path)
    async with Rack(settings) as one:
        yield one


def ids(rack: Rack) -> list[str]:
    return list(rack.phones)


async def ask(rack: Rack, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """One request to the control API: status and document."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    plain = {"Content-Type": "application/json"} if data is not None else {}
    request = urllib.request.Request(f"{rack.control_url}{path}", data, {**plain, **headers})

    def send() -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text.decode()

    return await asyncio.to_thread(send)


async def test_healthy_phones_are_online_and_the_others_are_as_the_profile_says(rack: Rack) -> None:
    _, answer = await ask(rack, "/phones")
    shown = [(phone["device_id"], phone["state"], phone["character"]) for phone in answer["phones"]]
    assert shown == [
        (ids(rack)[0], "unauthorized", "unauthorized"),
        (ids(rack)[1], "no_adb", "no_adb"),
        (ids(rack)[2], "device", "hanging"),
        (ids(rack)[3], "device", "healthy"),
        (ids(rack)[4], "device", "healthy"),
    ]
    assert [phone["adb_state"] for phone in answer["phones"]][1:] == [None, "device", "device", "device"]


async def test_the_ready_line_tells_where_everything_is(rack: Rack) -> None:
    host, port = rack.adb_address
    assert rack.ready_text() == (
        f"muster sim ready: 5 devices, adb server {host}:{port}, vendor {rack.vendor_url}, control {rack.control_url}"
    )


async def test_what_a_phone_was_asked_to_do_can_be_read_from_outside(rack: Rack) -> None:
    phone = rack.phones[ids(rack)[3]]
    client = AdbClient(*rack.adb_address)
    await client.shell(phone.serial, "echo one")
    await client.shell(phone.serial, "exit 4")
    _, answer = await ask(rack, f"/phones/{phone.device_id}/commands")
    assert [(c["number"], c["text"], c["exit_status"]) for c in answer["commands"]] == [
        (1, "echo one", 0),
        (2, "exit 4", 4),
    ]
    assert all(c["started"] <= c["ended"] <= answer["now"] for c in answer["commands"])
    _, later = await ask(rack, f"/phones/{phone.device_id}/commands?after=1")
    assert [c["number"] for c in later["commands"]] == [2]
    _, whole = await ask(rack, "/rack")
    assert whole["commands"] == {"started": 2, "running": 0, "most_at_once": 1}


async def test_phones_are_changed_while_they_run(rack: Rack) -> None:
    device = ids(rack)[3]
    status, phone = await ask(
        rack,
        f"/phones/{device}",
        {
            "battery": 7,
            "temperature": 46.5,
            "free_bytes": 100,
            "dialog": "low_battery",
            "properties": {"debug.x": "1"},
            "accident": {"what": "hang", "at": {"programs": ["getprop"]}},
        },
    )
    assert (status, phone["battery"], phone["temperature"], phone["free_bytes"]) == (200, 7, 46.5, 100)
    client = AdbClient(*rack.adb_address)
    hanging = asyncio.create_task(client.shell(phone["serial"], "getprop debug.x"))
    await until(lambda: state_of(rack.phones[device]) is PhoneState.HUNG)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    _, phone = await ask(rack, f"/phones/{device}")
    assert phone["state"] == "hung"
    _, phone = await ask(rack, f"/phones/{device}", {"state": "device"})
    assert phone["state"] == "device"
    assert (await client.shell(phone["serial"], "getprop debug.x")).stdout == b"1\n"


async def test_an_unauthorized_phone_is_authorized_once(rack: Rack) -> None:
    device = ids(rack)[0]
    assert (await ask(rack, f"/phones/{device}/authorize", {}))[0] == 200
    async with asyncio.timeout(30):
        await rack.wait_online()
    assert rack.adb_state(rack.phones[device]) == "device"
    status, problem = await ask(rack, f"/phones/{device}/authorize", {})
    assert (status, "does not ask" in problem["error"]) == (409, True)


async def test_kick_and_reboot_are_two_ways_to_lose_a_phone_for_a_moment(rack: Rack) -> None:
    phone = rack.phones[ids(rack)[4]]
    for verb in ("kick", "reboot"):
        assert (await ask(rack, f"/phones/{phone.device_id}/{verb}", {}))[0] == 200
        async with asyncio.timeout(30):
            await rack.wait_until(lambda: rack.adb_state(phone) != "device")
            await rack.wait_until(lambda: rack.adb_state(phone) == "device")


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/phones/nobody", None, {}, 404, "no phone 'nobody'"),
        ("/phones/{id}/explode", {}, {}, 404, "no action 'explode'"),
        ("/phones/{id}", {"state": "tired"}, {}, 422, "state"),
        ("/phones/{id}", {"battery": 101, "colour": 1}, {}, 422, "battery"),
        ("/phones/{id}", b"{", {}, 400, "not JSON"),
        ("/phones/{id}", b"x" * 20_000, {}, 413, "bytes"),
        ("/phones/{id}", {"battery": 5}, {"Content-Type": "text/plain"}, 415, "application/json"),
        ("/phones/{id}/kick", {}, {"Content-Type": "text/plain"}, 415, "application/json"),
        ("/phones/{id}/commands?after=x", None, {}, 422, "after"),
        ("/phones", None, {"Host": "evil.example"}, 400, "host"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    rack: Rack, path: str, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    code, answer = await ask(rack, path.replace("{id}", ids(rack)[3]), body, **headers)
    assert code == status
    assert words in str(answer)


async def test_the_end_of_the_rack_is_the_end_of_all_it_started(tmp_path: Path) -> None:
    ready = asyncio.Event()
    lines: list[str] = []

    def on_ready(line: str) -> None:
        lines.append(line)
        ready.set()

    before = set(psutil.Process().children(recursive=True))
    task = asyncio.create_task(run_rack(RackSettings(devices=3, latency="none", data_dir=tmp_path), on_ready=on_ready))
    async with asyncio.timeout(60):
        await ready.wait()
    assert lines[0].startswith("muster sim ready: 3 devices, adb server 127.0.0.1:")
    port = int(lines[0].split("adb server 127.0.0.1:")[1].split(",")[0])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(AdbError):
        await AdbClient("127.0.0.1", port).version()
    assert set(psutil.Process().children(recursive=True)) <= before
    assert {other.get_name() for other in asyncio.all_tasks()} == {asyncio.current_task().get_name()}  # type: ignore[union-attr]


async def test_a_wrong_profile_is_told_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("phones: [{character: odd, share: 2}]")
    with pytest.raises(RackNotReady, match=r"p\.yaml is no profile:\n  phones\[0\]"):
        await run_rack(RackSettings(profile=tmp_path / "p.yaml"), on_ready=print)


async def test_the_same_seed_gives_the_same_rack(tmp_path: Path) -> None:
    def draw(seed: int) -> list[Any]:
        rack = Rack(RackSettings(devices=10, seed=seed, latency="none"))
        phones = rack.phones.values()
        return [(p.device_id, p.identity.model, p.battery.level, p.clock_offset_sec, p.rng.random()) for p in phones]

    assert draw(4) == draw(4)
    assert draw(4) != draw(5)


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"devices": 1_001}, {"speed": 0.0}])
def test_settings_out_of_bounds_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not between"):
        RackSettings(**wrong)


async def test_a_state_changed_in_a_hurry_ends_in_the_last_one(rack: Rack) -> None:
    device = ids(rack)[4]
    for state in (
        PhoneState.OFFLINE,
        PhoneState.MISSING,
        PhoneState.UNAUTHORIZED,
        PhoneState.BOOTING,
        PhoneState.DEVICE,
    ):
        _, phone = await ask(rack, f"/phones/{device}", {"state": state.value})
        assert phone["state"] == state.value
    async with asyncio.timeout(60):
        await rack.wait_online()
    assert rack.adb_state(rack.phones[device]) == "device"
