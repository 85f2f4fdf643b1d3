"""Actions on a phone are commands to its node: asked for once, handed out until acknowledged, dropped when too late."""

from typing import Any

import pytest
from tests.support.backend import Rig

from muster.domain.limits import DEVICE_ACTION_EXPIRY_SEC


async def ask(rig: Rig, device_id: str, action: str) -> dict[str, Any]:
    answer = await rig.http.post(f"/api/devices/{device_id}/actions", json={"action": action})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def pulled(rig: Rig) -> list[dict[str, Any]]:
    return list((await rig.pull("PC-01")).json()["commands"])


@pytest.fixture(autouse=True)
async def phones(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "rack/7"])


@pytest.mark.parametrize("action", ["reboot", "reconnect", "quarantine", "release"])
async def test_an_action_is_a_command_to_the_phone_s_node(rig: Rig, action: str) -> None:
    accepted = await ask(rig, "A", action)
    assert (accepted["node_id"], accepted["device_id"], accepted["action"]) == ("PC-01", "A", action)
    (command,) = await pulled(rig)
    assert command == {
        "type": "device_action",
        "command_id": accepted["command_id"],
        "device_id": "A",
        "action": action,
    }


async def test_a_phone_is_named_by_whatever_id_it_has(rig: Rig) -> None:
    await ask(rig, "rack/7", "reboot")
    assert [command["device_id"] for command in await pulled(rig)] == ["rack/7"]


async def test_asked_twice_before_the_node_has_it_is_asked_once(rig: Rig) -> None:
    first, again = await ask(rig, "A", "reboot"), await ask(rig, "A", "reboot")
    other = await ask(rig, "A", "reconnect")
    assert first == again
    assert [command["command_id"] for command in await pulled(rig)] == [first["command_id"], other["command_id"]]
    await rig.tell(rig.event("command_ack", command_id=first["command_id"]))
    assert (await ask(rig, "A", "reboot"))["command_id"] != first["command_id"]


async def test_a_node_that_refuses_an_action_loses_no_run(rig: Rig) -> None:
    accepted = await ask(rig, "A", "release")
    await rig.tell(rig.event("command_ack", command_id=accepted["command_id"], error_message="not quarantined"))
    await rig.clock.advance(10)
    assert await pulled(rig) == []


async def test_an_action_that_nobody_fetched_in_time_is_dropped(rig: Rig) -> None:
    await ask(rig, "A", "reboot")
    rig.clock.jump(DEVICE_ACTION_EXPIRY_SEC)
    await rig.parts.watch.look()
    rig.clock.jump(61)
    await rig.parts.watch.look()
    assert await pulled(rig) == []


async def test_an_action_that_was_lost_on_its_way_does_not_come_when_the_node_is_back_hours_later(rig: Rig) -> None:
    await ask(rig, "A", "reboot")
    assert len(await pulled(rig)) == 1, "fetched, and the node ended before it had journaled it"
    for _ in range(2):
        rig.clock.jump(DEVICE_ACTION_EXPIRY_SEC + 1)
        await rig.parts.watch.look()
    assert (await rig.pull("PC-01", instance_id="two", replaces="one")).json()["commands"] == []
    (entry,) = await history(rig, "A")
    assert entry["error_message"] == "expired: the node did not fetch it in time"


async def test_an_action_that_a_node_fetches_again_and_again_is_not_dropped(rig: Rig) -> None:
    """Its disk is full, for example: it is there, and acknowledges when it can."""
    await ask(rig, "A", "reboot")
    for _ in range(3):
        assert len(await pulled(rig)) == 1
        rig.clock.jump(DEVICE_ACTION_EXPIRY_SEC / 2)
        await rig.parts.watch.look()


async def test_a_reservation_goes_to_the_node_with_its_terms(rig: Rig) -> None:
    terms: dict[str, Any] = {"action": "reserve", "owner": "kim", "minutes": 30, "reason": "debugging"}
    first = (await rig.http.post("/api/devices/A/actions", json=terms)).json()
    again = (await rig.http.post("/api/devices/A/actions", json=terms)).json()
    longer = (await rig.http.post("/api/devices/A/actions", json=terms | {"minutes": 60})).json()
    assert first == again != longer
    found = await pulled(rig)
    assert [command["command_id"] for command in found] == [first["command_id"], longer["command_id"]]
    assert found[0] == {"type": "device_action", "device_id": "A", "command_id": first["command_id"]} | terms
    (_, entry) = await history(rig, "A")
    assert (entry["action"], entry["detail"]) == (
        "device.reserve",
        {"owner": "kim", "minutes": 30, "reason": "debugging"},
    )


async def history(rig: Rig, device_id: str) -> list[dict[str, Any]]:
    return list((await rig.http.get(f"/api/devices/{device_id}")).json()["actions"])


async def test_who_asked_for_what_and_what_came_of_it_is_kept(rig: Rig) -> None:
    body = {"action": "quarantine", "reason": "it restarts by itself"}
    first = (await rig.http.post("/api/devices/A/actions", json=body, headers={"User-Agent": "muster/1"})).json()
    (entry,) = await history(rig, "A")
    assert entry == {
        "at": rig.clock.now_ms(),
        "actor": "127.0.0.1 muster/1",
        "action": "device.quarantine",
        "node_id": "PC-01",
        "detail": {"reason": "it restarts by itself"},
        "answered_at": None,
        "error_message": None,
    }
    await rig.clock.advance(3)
    refused = await ask(rig, "A", "release")
    acks = [
        rig.event("command_ack", command_id=first["command_id"]),
        rig.event("command_ack", command_id=refused["command_id"], error_message="the phone is not in quarantine"),
    ]
    await rig.tell(*acks)
    assert [(one["action"], one["answered_at"], one["error_message"]) for one in await history(rig, "A")] == [
        ("device.release", rig.clock.now_ms(), "the phone is not in quarantine"),
        ("device.quarantine", rig.clock.now_ms(), None),
    ]
    assert await history(rig, "rack/7") == []


async def test_what_a_node_took_and_could_not_do_after_all_is_told_in_the_history(rig: Rig) -> None:
    asked = await ask(rig, "A", "reboot")
    taken = rig.event("command_ack", command_id=asked["command_id"])
    await rig.tell(taken)
    taken_at = rig.clock.now_ms()
    await rig.clock.advance(30)
    for reason in (None, "the phone is not attached", "something else", None):
        fields = {} if reason is None else {"error_message": reason}
        await rig.tell(rig.event("command_ack", command_id=asked["command_id"], **fields))
    (entry,) = await history(rig, "A")
    assert (entry["answered_at"], entry["error_message"]) == (taken_at, "the phone is not attached")


async def test_what_was_dropped_is_told_in_the_history(rig: Rig) -> None:
    await ask(rig, "A", "reboot")
    for _ in range(2):
        rig.clock.jump(DEVICE_ACTION_EXPIRY_SEC)
        await rig.parts.watch.look()
    (entry,) = await history(rig, "A")
    assert (entry["answered_at"], entry["error_message"]) == (
        rig.clock.now_ms(),
        "expired: the node did not fetch it in time",
    )


async def test_the_history_tells_the_last_ten(rig: Rig) -> None:
    for number in range(12):
        await rig.http.post("/api/devices/A/actions", json={"action": "reboot", "reason": f"try {number}"})
    assert [entry["detail"]["reason"] for entry in await history(rig, "A")] == [f"try {n}" for n in range(11, 1, -1)]


@pytest.mark.parametrize(
    ("device_id", "body", "status", "field"),
    [
        ("ghost", {"action": "reboot"}, 404, None),
        ("A", {"action": "explode"}, 422, "action"),
        ("A", {}, 422, "action"),
        ("A", {"action": "reboot", "force": True}, 422, "force"),
        ("A", {"action": "reserve"}, 422, "owner"),
        ("A", {"action": "reserve", "owner": "kim", "minutes": 0}, 422, "minutes"),
        ("A", {"action": "reserve", "owner": "kim", "minutes": 7 * 24 * 60 + 1}, 422, "minutes"),
        ("A", {"action": "reboot", "owner": "kim"}, 422, "owner"),
        ("A", {"action": "release", "minutes": 5}, 422, "minutes"),
        ("A", {"action": "reboot", "reason": "two\nlines"}, 422, "reason"),
        ("A", {"action": "reboot", "reason": "x" * 201}, 422, "reason"),
    ],
)
async def test_a_bad_request_queues_nothing(
    rig: Rig, device_id: str, body: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await rig.http.post(f"/api/devices/{device_id}/actions", json=body)
    assert answer.status_code == status
    assert [error["field"] for error in answer.json()["errors"]] == ([field] if field else [])
    assert await pulled(rig) == []
