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


@pytest.mark.parametrize(
    ("device_id", "body", "status", "field"),
    [
        ("ghost", {"action": "reboot"}, 404, None),
        ("A", {"action": "explode"}, 422, "action"),
        ("A", {}, 422, "action"),
        ("A", {"action": "reboot", "force": True}, 422, "force"),
    ],
)
async def test_a_bad_request_queues_nothing(
    rig: Rig, device_id: str, body: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await rig.http.post(f"/api/devices/{device_id}/actions", json=body)
    assert answer.status_code == status
    assert [error["field"] for error in answer.json()["errors"]] == ([field] if field else [])
    assert await pulled(rig) == []
