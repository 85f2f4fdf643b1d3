"""Grace, stopping and silence with a whole agent and backend: phones fall silent before and in the middle of tasks."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.waiting import until
from tests.support.whole_rack import WholeRack, is_waiting, most_at_once, task_of, whole_rack

from muster.contracts.api import RunDetail
from muster.domain.failure import FailureReason
from muster.domain.run import RunState
from muster.domain.task import TaskState
from muster.sim.files import normalise
from muster.sim.phone import Phone
from muster.sim.settings import RackSettings
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

GRACE_SEC = 8
FLAG = "/sdcard/go-on"
# Ends when the test lets it. Idempotent: it may be begun again after the phone was away.
HELD = {
    "workflow_id": "held",
    "globalTimeoutMs": 300_000,
    "steps": [
        {"id": "hold", "kind": "adb", "command": f"while [ ! -e {FLAG} ]; do sleep 0.1; done", "timeoutMs": 200_000,
         "idempotent": True},
    ],
}  # fmt: skip


def let_go(*phones: Phone) -> None:
    for phone in phones:
        phone.files.write(normalise(FLAG), b"", mtime=phone.now_sec())


def at_work(phone: Phone, run: RunDetail) -> bool:
    """The phone runs the step that holds it."""
    task = task_of(run, phone)
    return task.status is TaskState.RUNNING and task.step_id == "hold" and phone.log.gauge.running > 0


async def goes(site: WholeRack, phone: Phone, state: PhoneState) -> None:
    await set_state(phone, state, site.rack)


def rack(folder: Path, phones: int) -> RackSettings:
    return RackSettings(devices=phones, latency="none", control_port=None, vendor_port=None, data_dir=folder / "sim")


def grace(seconds: float) -> dict[str, str]:
    return {"DEVICE_GRACE_WAIT_MS": str(round(seconds * 1000))}


async def test_a_silent_phone_gives_its_slot_away_before_its_workflow_and_keeps_it_within(tmp_path: Path) -> None:
    """One slot, four phones. Of two that fall silent before their turn one comes back, the other does not; then one
    falls silent twice in the middle of a step, the second time for good."""
    async with whole_rack(tmp_path, rack(tmp_path, 4), HELD, slots=1, environment=grace(GRACE_SEC)) as site:
        back, lost, holder, last = site.phones
        for phone in (back, lost):
            await goes(site, phone, PhoneState.OFFLINE)
        run_id = await site.start("held")
        run = await site.run_until(run_id, lambda run: at_work(holder, run) and is_waiting(task_of(run, back)))
        assert is_waiting(task_of(run, lost))
        assert [(task_of(run, phone).phase, task_of(run, phone).step_id) for phone in (back, lost)] == [
            ("PREFLIGHT", "device-preflight")
        ] * 2
        assert task_of(run, last).status is TaskState.QUEUED
        await goes(site, back, PhoneState.DEVICE)
        await until(lambda: site.logged("The phone answers again"), within_sec=60)
        let_go(holder)
        await site.run_until(run_id, lambda run: at_work(back, run))
        assert last.log.gauge.running == 0, "the one slot is first given to the phone that was waited for"
        let_go(back)
        run = await site.run_until(run_id, lambda run: at_work(last, run) and task_of(run, lost).status.is_terminal)
        gone = task_of(run, lost)
        assert (gone.status, gone.failure_reason) == (TaskState.FAILED, FailureReason.ADB_OFFLINE)

        await goes(site, last, PhoneState.OFFLINE)
        run = await site.run_until(run_id, lambda run: is_waiting(task_of(run, last)))
        assert task_of(run, last).step_id == "hold"
        await goes(site, last, PhoneState.DEVICE)
        await site.run_until(run_id, lambda run: at_work(last, run))
        let_go(last)
        run = await site.ended(run_id)

        uses = site.uses(run_id)
        assert [(use.device_id, use.then) for use in uses] == [
            (back.device_id, "park"),
            (lost.device_id, "park"),
            (holder.device_id, "finished"),
            (back.device_id, "finished"),
            (last.device_id, "finished"),
        ]
        assert most_at_once(uses) == 1, "never more phones worked on than there are slots"
        ended = next(line["at"] for line in site.logged("Task finished status=failed"))
        assert GRACE_SEC <= ended - uses[1].ended < GRACE_SEC + 30
        assert [task_of(run, phone).status for phone in (back, holder, last)] == [TaskState.SUCCEEDED] * 3


async def test_a_phone_lost_for_good_in_the_middle_of_a_step_fails_after_its_grace_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    async with whole_rack(tmp_path, rack(tmp_path, 2), HELD, slots=1, environment=grace(2)) as site:
        lost, following = site.phones
        let_go(following)
        run_id = await site.start("held")
        await site.run_until(run_id, partial(at_work, lost))
        await goes(site, lost, PhoneState.MISSING)
        run = await site.run_until(run_id, lambda run: is_waiting(task_of(run, lost)))
        assert task_of(run, following).status is TaskState.QUEUED, "a workflow that has begun keeps its slot"
        run = await site.ended(run_id)
        assert (task_of(run, lost).status, task_of(run, lost).failed_steps) == (TaskState.FAILED, ["hold"])
        assert task_of(run, lost).failure_reason is FailureReason.ADB_OFFLINE, "its connection broke in a command"
        assert task_of(run, following).status is TaskState.SUCCEEDED
        assert most_at_once(site.uses(run_id)) == 1


async def test_stopping_a_run_ends_what_runs_what_waits_and_what_is_queued_even_after_its_node_was_silent(
    tmp_path: Path,
) -> None:
    settings: dict[str, Any] = {**grace(300), "ONLINE_WINDOW_SEC": "21"}
    async with whole_rack(tmp_path, rack(tmp_path, 3), HELD, slots=1, environment=settings) as site:
        parked, running, queued = site.phones
        await goes(site, parked, PhoneState.OFFLINE)
        run_id = await site.start("held")
        await site.run_until(run_id, lambda run: at_work(running, run) and is_waiting(task_of(run, parked)))

        agent = psutil.Process(site.agent.process.pid)
        agent.suspend()
        try:
            run = await site.run_until(run_id, lambda run: all(task.unreachable for task in run.tasks))
        finally:
            agent.resume()
        assert [task_of(run, phone).status for phone in site.phones] == ["waiting", "running", "queued"]
        assert run.nodes[0].unreachable
        await site.run_until(run_id, lambda run: not any(task.unreachable for task in run.tasks))

        asked = time.monotonic()
        stopped = await site.client.stop_run(run_id)
        run = await site.ended(run_id)
        print(f"stopped {time.monotonic() - asked:.2f} s after it was asked for")  # noqa: T201
        assert stopped.nodes == ["PC-01"]
        assert run.status is RunState.STOPPED
        assert {(task.status, task.failure_reason) for task in run.tasks} == {
            (TaskState.CANCELLED, FailureReason.CANCELLED)
        }
        await until(lambda: running.log.gauge.running == 0)
        assert running.log.records()[-1].exit_status is None, "its command was cut off, it did not end by itself"
        assert not any(FLAG in record.text for record in queued.log.records())
