"""Actions that wait for a node that is away: of those that say what a phone is kept for, the last one counts."""

from typing import Any

import pytest
from tests.support.backend import Rig

from muster.domain.limits import COMMAND_REDELIVERY_SEC

Words = dict[str, Any]
QUARANTINE: Words = {"action": "quarantine"}
RELEASE: Words = {"action": "release"}
KIM: Words = {"action": "reserve", "owner": "Kim", "minutes": 5}
LEE: Words = {"action": "reserve", "owner": "Lee", "minutes": 5}
REBOOT: Words = {"action": "reboot"}


async def waiting(rig: Rig, *asked: Words) -> list[str]:
    """What the node gets of phone A, in order, when it is back."""
    for body in asked:
        answer = await rig.http.post("/api/devices/A/actions", json=body)
        assert answer.status_code == 202, answer.text
    found = (await rig.pull("PC-01")).json()["commands"]
    return [one.get("owner", one["action"]) for one in found if one["device_id"] == "A"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([QUARANTINE, RELEASE, QUARANTINE], ["quarantine", "release", "quarantine"]),
        ([RELEASE, QUARANTINE, RELEASE], ["release", "quarantine", "release"]),
        ([KIM, LEE, KIM], ["Kim", "Lee", "Kim"]),
        ([KIM, RELEASE, KIM, KIM], ["Kim", "release", "Kim"]),
        ([QUARANTINE, QUARANTINE], ["quarantine"]),
        ([REBOOT, QUARANTINE, RELEASE, REBOOT], ["reboot", "quarantine", "release"]),
    ],
)
async def test_the_last_word_on_a_phone_is_the_last_that_its_node_gets(
    rig: Rig, asked: list[Words], told: list[str]
) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    assert await waiting(rig, *asked) == told


async def test_a_word_that_was_lost_on_the_way_comes_again_before_the_one_that_takes_it_back(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    await rig.http.post("/api/devices/B/actions", json=QUARANTINE)
    assert await waiting(rig, QUARANTINE) == ["quarantine"]  # and the node never gets this
    assert await waiting(rig, RELEASE) == ["quarantine", "release"]
    rig.clock.jump(COMMAND_REDELIVERY_SEC)
    assert await waiting(rig) == ["quarantine", "release"]


async def test_what_another_phone_was_asked_is_not_handed_out_again_for_it(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    assert await waiting(rig, QUARANTINE) == ["quarantine"]
    await rig.http.post("/api/devices/B/actions", json=RELEASE)
    assert await waiting(rig) == []


async def test_what_is_asked_of_another_phone_takes_nothing_back(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"])
    await rig.http.post("/api/devices/A/actions", json=QUARANTINE)
    await rig.http.post("/api/devices/B/actions", json=RELEASE)
    assert await waiting(rig, QUARANTINE) == ["quarantine"]


async def test_an_action_that_the_clock_makes_one_of_the_future_is_dropped_and_not_kept_for_hours(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.http.post("/api/devices/A/actions", json=REBOOT)
    rig.clock.set_wall(-4 * 3600)
    await rig.http.post("/api/devices/A/actions", json=QUARANTINE)
    await rig.parts.watch.look()
    assert await waiting(rig) == ["quarantine"]
