from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.support.backend import Rig, open_rig
from tests.support.manual_clock import ManualClock

from muster.store.tables import devices, nodes


async def listed(rig: Rig, **params: Any) -> dict[str, Any]:
    answer: dict[str, Any] = (await rig.http.get("/api/devices", params=params)).json()
    return answer


async def test_a_phone_is_online_for_thirty_seconds_after_its_last_sign(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"], age_ms=10_000)
    seen_at = rig.clock.now_ms() - 10_000
    device = (await rig.http.get("/api/devices/A")).json()
    assert (device["online"], device["last_seen_at"]) == (True, seen_at)
    await rig.clock.advance(20)
    assert (await rig.http.get("/api/devices/A")).json()["online"] is True
    await rig.clock.advance(0.001)
    assert (await rig.http.get("/api/devices/A")).json()["online"] is False


async def test_a_nodes_own_clock_plays_no_part(rig: Rig) -> None:
    event = rig.heartbeat_event("PC-01", ["A"])
    for wrong in (0, rig.clock.now_ms() * 2):
        event = rig.heartbeat_event("PC-01", ["A"])
        event["payload"]["timestamp"] = wrong
        await rig.callback(event)
        assert (await rig.http.get("/api/devices/A")).json()["last_seen_at"] == rig.clock.now_ms()


async def test_a_backend_s_clock_that_is_put_back_keeps_no_lost_phone_online(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    rig.clock.set_wall(-3600)
    await rig.heartbeat("PC-01", ["A"], age_ms=5_000)
    assert (await rig.http.get("/api/devices/A")).json()["online"] is True
    await rig.clock.advance(31)
    await rig.heartbeat("PC-01", ["A"], age_ms=36_000)
    assert (await rig.http.get("/api/devices/A")).json()["online"] is False


@pytest.mark.parametrize("set_by", [-3600, 3600])
async def test_a_node_that_is_gone_is_offline_within_the_window_whoever_sets_the_clock(rig: Rig, set_by: int) -> None:
    await rig.heartbeat("PC-01", ["A"])
    rig.clock.set_wall(set_by)
    assert (await rig.http.get("/api/nodes/PC-01")).json()["status"] == "online"
    await rig.clock.advance(31)
    assert (await rig.http.get("/api/nodes/PC-01")).json()["status"] == "offline"
    assert (await rig.http.get("/api/devices/A")).json()["online"] is False
    run = await rig.run(await rig.start_run())
    assert run.tasks[0].error_message == "offline: last seen 31 s before the run was created"
    page = (await rig.http.get("/metrics")).text
    assert 'muster_backend_node_heartbeat_age_seconds{node_id="PC-01"} 31.0' in page


async def test_what_was_written_down_by_a_clock_put_back_since_is_not_from_the_future(tmp_path: Path) -> None:
    clock = ManualClock()
    async with open_rig(tmp_path / "data", clock=clock) as rig:
        await rig.heartbeat("PC-01", ["A"])
    clock.set_wall(-3600)
    async with open_rig(tmp_path / "data", clock=clock) as rig:
        await clock.advance(31)
        assert (await rig.http.get("/api/nodes/PC-01")).json()["status"] == "offline"
        assert (await rig.http.get("/api/devices/A")).json()["online"] is False


async def test_a_heartbeat_that_comes_twice_makes_nobody_younger(rig: Rig) -> None:
    event = rig.heartbeat_event("PC-01", ["A"])
    await rig.callback(event)
    await rig.clock.advance(40)
    answer = await rig.http.post(
        "/api/nodes/callback", json={"events": [event]}, headers={"X-Node-Auth": rig.parts.settings.secret}
    )
    assert answer.json()["results"][0]["duplicate"] is True
    assert (await rig.http.get("/api/devices/A")).json()["online"] is False
    assert (await rig.http.get("/api/nodes/PC-01")).json()["status"] == "offline"


async def test_a_phone_that_is_only_remembered_does_not_get_younger(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    seen_at = rig.clock.now_ms()
    await rig.clock.advance(20)
    await rig.heartbeat("PC-01", ["A"], age_ms=None)
    assert (await rig.http.get("/api/devices/A")).json()["last_seen_at"] == seen_at


async def test_a_phone_belongs_to_the_node_that_saw_it_last(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.clock.advance(5)
    await rig.heartbeat("PC-02", ["A"])
    await rig.heartbeat("PC-01", ["A"], age_ms=5_000)
    assert (await rig.http.get("/api/devices/A")).json()["node_id"] == "PC-02"
    await rig.clock.advance(5)
    await rig.heartbeat("PC-01", ["A"])
    assert (await rig.http.get("/api/devices/A")).json()["node_id"] == "PC-01"


async def test_a_node_tells_how_it_is(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"], running_devices_count=1, outbox_depth=7, vendor_ws_ok=False, degraded=True)
    node = (await rig.http.get("/api/nodes/PC-01")).json()
    assert (node["status"], node["outbox_depth"], node["vendor_ws_ok"]) == ("degraded", 7, False)
    assert node["last_heartbeat_at"] == rig.clock.now_ms()
    await rig.heartbeat("PC-01", ["A"])
    assert (await rig.http.get("/api/nodes/PC-01")).json()["status"] == "online"
    await rig.clock.advance(31)
    assert [node["status"] for node in (await rig.http.get("/api/nodes")).json()["nodes"]] == ["offline"]


async def test_a_node_whose_disk_is_full_says_so_until_its_next_word(rig: Rig) -> None:
    why = "no run is taken: 1 MB are free on the disk, 200 MB are kept free"
    await rig.heartbeat("PC-01", ["A"], degraded=True, last_error_message=why)
    await rig.parts.presence.flush(rig.parts.database)
    node = (await rig.http.get("/api/nodes/PC-01")).json()
    assert (node["status"], node["last_error_message"]) == ("degraded", why)


async def test_a_node_s_troubles_and_the_phones_it_keeps_back_are_told_until_its_next_word(rig: Rig) -> None:
    gone = {"reason": "adb_gone", "message": "the adb server does not answer", "stops_work": True}
    await rig.heartbeat(
        "PC-01", ["A"], degraded=True, troubles=[gone],
        quarantined_devices_count=2, reserved_devices_count=1, dead_letters=3,
    )  # fmt: skip
    node = (await rig.http.get("/api/nodes/PC-01")).json()
    assert (node["status"], node["troubles"]) == ("degraded", [gone])
    assert [node[f"{what}_devices_count"] for what in ("quarantined", "reserved")] == [2, 1]
    assert node["dead_letters"] == 3
    await rig.parts.presence.flush(rig.parts.database)
    await rig.heartbeat("PC-01", ["A"])
    assert (await rig.http.get("/api/nodes/PC-01")).json()["troubles"] == []
    await rig.heartbeat("PC-01", ["A"])
    node = (await rig.http.get("/api/nodes/PC-01")).json()
    assert (node["status"], node.get("last_error_message")) == ("online", None)


async def test_devices_are_listed_by_node_and_filtered_and_paged(rig: Rig) -> None:
    await rig.heartbeat("PC-02", ["c", "d"])
    await rig.heartbeat("PC-01", ["e", "b/1"], age_ms=60_000)
    await rig.heartbeat("PC-01", ["a"])
    page = await listed(rig)
    assert [device["device_id"] for device in page["devices"]] == ["a", "b/1", "e", "c", "d"]
    assert page["counts"] == {"online": 3, "offline": 2}
    assert [device["device_id"] for device in (await listed(rig, online_only=True))["devices"]] == ["a", "c", "d"]
    of_node = await listed(rig, node_id="PC-01")
    assert (len(of_node["devices"]), of_node["counts"]) == (3, {"online": 1, "offline": 2})
    seen, cursor = [], None
    for _ in range(3):
        page = await listed(rig, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [device["device_id"] for device in page["devices"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (["a", "b/1", "e", "c", "d"], None)
    assert (await rig.http.get("/api/devices/b%2F1")).json()["device_id"] == "b/1"


async def test_presence_is_written_in_bulk_and_taken_up_again(tmp_path: Path) -> None:
    async with open_rig(tmp_path / "data") as rig:
        await rig.heartbeat("PC-01", [f"phone-{number}" for number in range(50)])
        assert await saved(rig) == (0, 0)
        await rig.advance_until(until_saved(rig), step_sec=1)
        assert await saved(rig) == (1, 50)
        await rig.heartbeat("PC-02", ["last"])
    async with open_rig(tmp_path / "data", clock=rig.clock) as rig:
        assert await saved(rig) == (2, 51)
        assert (await rig.http.get("/api/devices/last")).json()["node_id"] == "PC-02"
        assert (await rig.http.get("/api/nodes/PC-02")).json()["agent_version"] == "0.1.0"
        assert [node["node_id"] for node in (await rig.http.get("/api/nodes")).json()["nodes"]] == ["PC-01", "PC-02"]


async def saved(rig: Rig) -> tuple[int, int]:
    async with rig.parts.database.reading() as tx:
        counts = [
            (await tx.execute(select(func.count()).select_from(table))).scalar_one() for table in (nodes, devices)
        ]
    return counts[0], counts[1]


async def until_saved(rig: Rig) -> None:
    while await saved(rig) == (0, 0):
        pass
