"""A phone that somebody reserves, and a node that comes back without its journal: with a whole agent and backend."""

import asyncio
import shutil
from pathlib import Path

import pytest
from tests.support.processes import muster
from tests.support.whole_rack import LOOK_SEC, WholeRack, task_of, whole_rack

from muster.contracts.commands import DeviceActionKind
from muster.domain.failure import FailureReason
from muster.domain.run import RunState
from muster.domain.task import TaskState
from muster.domain.trouble import Trouble
from muster.sim.phone import Phone
from muster.sim.settings import RackSettings

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

QUICK = {"workflow_id": "quick", "steps": [{"id": "hello", "kind": "adb", "command": "echo hello"}]}
LONG = {
    "workflow_id": "long",
    "globalTimeoutMs": 300_000,
    "steps": [{"id": "hold", "kind": "adb", "command": "sleep 200", "timeoutMs": 250_000}],
}


def rack(folder: Path) -> RackSettings:
    return RackSettings(devices=2, latency="none", control_port=None, vendor_port=None, data_dir=folder / "sim")


async def told(site: WholeRack, phone: Phone, words: str) -> None:
    """The backend shows these words as the phone's last error, or none when there are none."""
    async with asyncio.timeout(60):
        while ((await site.devices())[phone.device_id].last_error_message or "").partition(" for ")[0] != words:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(LOOK_SEC)


async def troubles(site: WholeRack) -> set[str]:
    """What is wrong with the node, by its own word."""
    (node,) = (await site.client.nodes()).nodes
    return {trouble.reason for trouble in node.troubles}


async def test_a_phone_that_an_operator_keeps_is_left_alone_until_it_is_released_and_says_why(tmp_path: Path) -> None:
    async with whole_rack(tmp_path, rack(tmp_path), QUICK) as site:
        reserved, free = site.phones
        await site.client.act_on_device(
            reserved.device_id, DeviceActionKind.RESERVE, owner="kim", minutes=30, reason="debugging"
        )
        await told(site, reserved, "reserved by kim")
        asked = len(reserved.log.records())
        run = await site.ended(await site.start("quick"))
        kept, worked = task_of(run, reserved), task_of(run, free)
        assert (kept.status, kept.failure_reason) == (TaskState.FAILED, FailureReason.DEVICE_RESERVED)
        assert kept.error_message == "reserved by kim for 30 min more: debugging"
        assert worked.status is TaskState.SUCCEEDED
        assert not any("hello" in record.text for record in reserved.log.records()[asked:])
        await site.client.act_on_device(reserved.device_id, DeviceActionKind.RELEASE)
        await told(site, reserved, "")
        run = await site.ended(await site.start("quick"))
        assert run.status is RunState.COMPLETED
        actions = (await site.client.device(reserved.device_id)).actions
        assert [(entry.action, entry.error_message) for entry in actions] == [
            ("device.release", None),
            ("device.reserve", None),
        ]
        assert all(entry.answered_at for entry in actions)
        await site.client.act_on_device(free.device_id, DeviceActionKind.QUARANTINE, reason="swollen battery")
        await told(site, free, "in quarantine: an operator put it into quarantine: swollen battery")
        run = await site.ended(await site.start("quick"))
        assert "swollen battery" in (task_of(run, free).error_message or "")


async def test_a_node_that_cannot_read_who_has_which_phone_says_so_and_keeps_off_those_that_nobody_has_released(
    tmp_path: Path,
) -> None:
    file = tmp_path / "node" / "agent" / "reservations.json"
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_text('{"held": {"', encoding="utf-8")
    async with whole_rack(tmp_path, rack(tmp_path), QUICK) as site:
        released, kept = site.phones
        for phone in site.phones:
            await told(site, phone, "perhaps reserved,")
        await site.client.act_on_device(released.device_id, DeviceActionKind.RELEASE)
        await told(site, released, "")
        run = await site.ended(await site.start("quick"))
        assert task_of(run, released).status is TaskState.SUCCEEDED
        assert task_of(run, kept).failure_reason is FailureReason.DEVICE_RESERVED
        async with asyncio.timeout(60):
            while Trouble.BOOK_LOST not in await troubles(site):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(LOOK_SEC)


async def test_a_run_whose_node_comes_back_without_its_journal_ends(tmp_path: Path) -> None:
    async with whole_rack(tmp_path, rack(tmp_path), LONG) as site:
        run_id = await site.start("long")
        await site.run_until(run_id, lambda run: run.counts.running == 2)
        site.agent.process.kill()
        await site.agent.ended()
        shutil.rmtree(tmp_path / "node")
        options = ["--backend", site.client.base_url, "--node-id", "PC-01", "--data", str(tmp_path / "node")]
        options += ["--adb-server", "{}:{}".format(*site.rack.adb_address), "--vendor-url", "none"]
        async with muster("agent", *options, cwd=tmp_path) as again:
            run = await site.run_until(run_id, lambda run: run.status.is_terminal)
            assert {(task.failure_reason, task.presumed) for task in run.tasks} == {(FailureReason.NODE_LOST, True)}
            assert all("came back without its journal" in (task.error_message or "") for task in run.tasks)
            await again.wait_for_line("muster agent PC-01 ready")
