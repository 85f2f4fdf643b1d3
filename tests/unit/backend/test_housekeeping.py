from sqlalchemy import func, select
from tests.support.backend import Rig

from muster.backend.housekeeping import PORTION, forget
from muster.store.tables import callback_events

DAY_SEC = 24 * 3600


async def remembered(rig: Rig) -> int:
    async with rig.parts.database.reading() as tx:
        found: int = (await tx.execute(select(func.count()).select_from(callback_events))).scalar_one()
        return found


async def test_events_are_forgotten_after_thirty_days_and_not_before(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (task,) = await rig.take_tasks()
    await rig.tell(rig.started(task), *(rig.progress(task, seq, "wake", "running") for seq in range(2, 150)))
    late = rig.progress(task, 200, "launch", "running")
    await rig.clock.advance(20 * DAY_SEC)
    await rig.tell(late)
    assert await forget(rig.parts.database, rig.clock.now_ms()) == 0
    await rig.clock.advance(10 * DAY_SEC - 1)
    assert await forget(rig.parts.database, rig.clock.now_ms()) == 0
    await rig.advance_until(until_few(rig), step_sec=600)
    # Its id is as old as the others', but it came later: a node's clock does not decide what we remember.
    assert await remembered(rig) == 1
    results = (await rig.callback(late, late)).json()["results"]
    assert [result["duplicate"] for result in results] == [True, True]


async def test_more_than_a_portion_is_forgotten_in_several(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (task,) = await rig.take_tasks()
    for start in range(0, PORTION + 200, 200):
        await rig.tell(*(rig.progress(task, start + seq, "wake", "running") for seq in range(1, 201)))
    assert await forget(rig.parts.database, rig.clock.now_ms() + 31 * DAY_SEC * 1000) == PORTION + 200


async def until_few(rig: Rig) -> None:
    while await remembered(rig) > 1:
        pass
