from pathlib import Path

from sqlalchemy import Table, func, select
from tests.support.backend import Rig, open_rig
from tests.support.manual_clock import ManualClock

from muster.backend.housekeeping import PORTION, forget
from muster.store.tables import audit_log, callback_events, node_commands

START_MS = 1_800_000_000_000
DAY_MS = 24 * 3600 * 1000


async def remembered(rig: Rig) -> int:
    async with rig.parts.database.reading() as tx:
        found: int = (await tx.execute(select(func.count()).select_from(callback_events))).scalar_one()
        return found


async def test_events_are_forgotten_thirty_days_after_they_came_and_not_before(tmp_path: Path) -> None:
    async with open_rig(tmp_path, clock=ManualClock(START_MS)) as rig:
        await rig.heartbeat("PC-01", ["A"])
        await rig.start_run()
        (task,) = await rig.take_tasks()
        await rig.tell(rig.started(task), *(rig.progress(task, seq, "wake", "running") for seq in range(2, 150)))
        held_back = rig.progress(task, 200, "launch", "running")
    async with open_rig(tmp_path, clock=ManualClock(START_MS + 20 * DAY_MS)) as rig:
        await rig.tell(held_back)
        assert await forget(rig.parts.database, START_MS + 30 * DAY_MS) == 0
        assert await forget(rig.parts.database, START_MS + 30 * DAY_MS + 1) == 149
        # Its id is as old as the others', but it came later: a node's clock does not decide what we remember.
        assert await remembered(rig) == 1
        assert (await rig.callback(held_back, held_back)).json()["results"][0]["duplicate"] is True


async def test_a_backend_that_is_started_anew_forgets_at_once_and_then_every_hour(tmp_path: Path) -> None:
    async with open_rig(tmp_path, clock=ManualClock(START_MS)) as rig:
        await rig.heartbeat("PC-01", ["A"])
        await rig.start_run()
        (task,) = await rig.take_tasks()
        await rig.tell(rig.started(task))
    clock = ManualClock(START_MS + 30 * DAY_MS - 60_000)
    async with open_rig(tmp_path, clock=clock) as rig:
        await rig.tell(rig.progress(task, 2, "wake", "running"))
        assert await remembered(rig) == 2
        await rig.advance_until(until_one(rig), step_sec=600)


async def test_more_than_a_portion_is_forgotten_in_several(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (task,) = await rig.take_tasks()
    for start in range(0, PORTION + 200, 200):
        await rig.tell(*(rig.progress(task, start + seq, "wake", "running") for seq in range(1, 201)))
    assert await forget(rig.parts.database, rig.clock.now_ms() + 31 * DAY_MS) == PORTION + 200


async def rows(rig: Rig, table: Table) -> int:
    async with rig.parts.database.reading() as tx:
        found: int = (await tx.execute(select(func.count()).select_from(table))).scalar_one()
        return found


async def test_commands_are_forgotten_when_they_were_taken_and_their_run_has_ended(tmp_path: Path) -> None:
    async with open_rig(tmp_path, clock=ManualClock(START_MS)) as rig:
        await rig.heartbeat("PC-01", ["A", "B"])
        await rig.start_run(target={"device_ids": ["A"]})
        await rig.start_run(target={"device_ids": ["B"]})
        ended, still_open = await rig.take_tasks()
        acks = [rig.event("command_ack", command_id=task.command_id) for task in (ended, still_open)]
        await rig.tell(*acks, rig.finished(ended, 1), rig.started(still_open, 1))
        assert await rows(rig, node_commands) == 2
        await forget(rig.parts.database, START_MS + 30 * DAY_MS)
        assert await rows(rig, node_commands) == 2, "thirty days are not over"
        await forget(rig.parts.database, START_MS + 30 * DAY_MS + 1_000)
        assert await rows(rig, node_commands) == 1
        await rig.tell(rig.finished(still_open, 2))
        await rig.start_run(target={"device_ids": ["A"]})
        await forget(rig.parts.database, START_MS + 31 * DAY_MS)
        assert await rows(rig, node_commands) == 1, "what nobody has taken is kept"


async def test_the_audit_log_is_kept_for_a_year(tmp_path: Path) -> None:
    async with open_rig(tmp_path, clock=ManualClock(START_MS)) as rig:
        await rig.heartbeat("PC-01", ["A"])
        await rig.http.post("/api/devices/A/actions", json={"action": "reboot"})
        await forget(rig.parts.database, START_MS + 365 * DAY_MS)
        assert await rows(rig, audit_log) == 1
        await forget(rig.parts.database, START_MS + 365 * DAY_MS + 1_000)
        assert await rows(rig, audit_log) == 0


async def until_one(rig: Rig) -> None:
    while await remembered(rig) > 1:
        pass
