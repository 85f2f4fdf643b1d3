import asyncio
from pathlib import Path

from tests.support.backend import NODE_HEADERS, Rig, eventually, open_rig


async def test_an_empty_poll_is_answered_when_its_time_is_over(rig: Rig) -> None:
    before = rig.clock.monotonic()
    answer = await rig.advance_until(rig.pull(wait_ms=25_000))
    assert answer.json()["commands"] == []
    assert rig.clock.monotonic() - before >= 25


async def test_pending_runs_is_another_name_for_pull(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    answer = await rig.http.get(
        "/api/nodes/pending-runs",
        params={"node_id": "PC-01", "instance_id": "one", "wait_ms": 0},
        headers=NODE_HEADERS,
    )
    assert len(answer.json()["commands"]) == 1


async def test_a_poll_makes_an_unknown_node_known_and_offline(rig: Rig) -> None:
    await rig.pull("PC-07")
    answer = await rig.http.get("/api/nodes/PC-07")
    assert (answer.status_code, answer.json()["status"]) == (200, "offline")


async def test_a_command_comes_again_to_the_same_instance_only_after_a_while(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (first,) = (await rig.pull()).json()["commands"]
    assert (await rig.pull()).json()["commands"] == []
    before = rig.clock.monotonic()
    again = await rig.advance_until(rig.pull(wait_ms=25_000), step_sec=0.25)
    assert again.json()["commands"] == [first]
    assert rig.clock.monotonic() - before >= 4.5


async def test_a_clock_that_is_set_back_holds_no_command_back(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (first,) = (await rig.pull()).json()["commands"]
    rig.clock.set_wall(-3600)
    assert (await rig.pull()).json()["commands"] == [first], "better once too often than an hour late"
    assert (await rig.pull()).json()["commands"] == [], "and then as ever"


async def test_an_acknowledged_command_never_comes_again(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (task,) = await rig.take_tasks()
    await rig.tell(rig.event("command_ack", command_id=task.command_id))
    await rig.clock.advance(10)
    assert (await rig.pull()).json()["commands"] == []


async def test_a_command_comes_at_once_to_a_new_instance(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (first,) = (await rig.pull(instance_id="one")).json()["commands"]
    await rig.pull(instance_id="one", leaving="true")
    assert (await rig.pull(instance_id="two")).json()["commands"] == [first]


async def test_commands_outlive_a_restart_of_the_backend(tmp_path: Path) -> None:
    async with open_rig(tmp_path / "data") as rig:
        await rig.heartbeat("PC-01", ["A"])
        run_id = await rig.start_run()
    async with open_rig(tmp_path / "data", clock=rig.clock) as rig:
        assert [task.run_id for task in await rig.take_tasks()] == [run_id]


async def test_a_second_agent_under_the_same_name_is_told_so(rig: Rig) -> None:
    await rig.pull(instance_id="one")
    answer = await rig.pull(instance_id="two")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:muster:problem:node-already-connected"
    assert "PC-01" in answer.json()["detail"]
    await rig.clock.advance(59)
    assert (await rig.pull(instance_id="two")).status_code == 409
    await rig.clock.advance(2)
    assert (await rig.pull(instance_id="two")).status_code == 200
    assert (await rig.pull(instance_id="one")).status_code == 409


async def test_a_poll_under_way_keeps_the_seat_however_long_it_lasts(rig: Rig) -> None:
    poll = asyncio.create_task(rig.pull(instance_id="one", wait_ms=60_000))
    await eventually(lambda: "PC-01" in rig.parts.bus.listened_to())
    assert (await rig.pull(instance_id="two")).status_code == 409
    assert (await rig.advance_until(poll, step_sec=20)).status_code == 200


async def test_an_agent_that_stops_in_good_order_leaves_its_seat_at_once(rig: Rig) -> None:
    poll = asyncio.create_task(rig.pull(instance_id="one", wait_ms=60_000))
    await eventually(lambda: "PC-01" in rig.parts.bus.listened_to())
    assert (await rig.pull(instance_id="two", leaving="true")).status_code == 200
    assert (await rig.pull(instance_id="two")).status_code == 409
    assert (await rig.pull(instance_id="one", leaving="true")).json()["commands"] == []
    assert (await asyncio.wait_for(poll, 20)).json()["commands"] == []
    assert (await rig.pull(instance_id="two")).status_code == 200


async def test_a_poll_that_its_client_gave_up_ends_when_the_same_agent_asks_again(rig: Rig) -> None:
    asked = asyncio.create_task(rig.pull(instance_id="one", wait_ms=60_000))
    await eventually(lambda: "PC-01" in rig.parts.bus.listened_to())
    assert (await rig.pull(instance_id="one")).status_code == 200
    assert (await asyncio.wait_for(asked, 20)).json()["commands"] == []


async def test_the_successor_of_a_killed_agent_has_its_seat_at_once(rig: Rig) -> None:
    asked = asyncio.create_task(rig.pull(instance_id="one", wait_ms=60_000))
    await eventually(lambda: "PC-01" in rig.parts.bus.listened_to())
    assert (await rig.pull(instance_id="two", replaces="one")).status_code == 200
    assert (await asyncio.wait_for(asked, 20)).json()["commands"] == []
    assert (await rig.pull(instance_id="one")).status_code == 409


async def test_a_copied_data_folder_displaces_its_original_once_and_not_again(rig: Rig) -> None:
    await rig.pull(instance_id="original")
    assert (await rig.pull(instance_id="copy", replaces="original")).status_code == 200
    assert (await rig.pull(instance_id="restarted", replaces="original")).status_code == 409


async def test_a_client_that_is_gone_ends_its_poll_and_soon_gives_its_seat_free(rig: Rig) -> None:
    gone = asyncio.Event()

    async def until_gone() -> None:
        await gone.wait()

    poll = asyncio.create_task(rig.parts.hand_out.pull("PC-01", "killed", 60_000, until_gone))
    await eventually(lambda: "PC-01" in rig.parts.bus.listened_to())
    gone.set()
    assert await asyncio.wait_for(poll, 20) == []
    assert (await rig.pull(instance_id="new")).status_code == 409
    await rig.clock.advance(5)
    assert (await rig.pull(instance_id="new")).status_code == 200


async def test_closing_the_backend_ends_every_poll_at_once(rig: Rig) -> None:
    poll = asyncio.create_task(rig.pull(wait_ms=60_000))
    await eventually(lambda: "PC-01" in rig.parts.bus.listened_to())
    rig.parts.bus.close()
    assert (await asyncio.wait_for(poll, 20)).json()["commands"] == []
