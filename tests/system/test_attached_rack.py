"""The agent's rack against the real adb server, the imitated vendor tool and virtual phones behind both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.phones import MemorySpool, Told, executor_settings
from tests.support.waiting import until

from muster.adb.binary import find_adb
from muster.agent.attached import ADB_PICTURE_SEC_MIN, TOOL_PICTURE_SEC_MIN
from muster.agent.executor.pictures import whole_png
from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import PhoneError, RunPlan, Task, TaskOutcome
from muster.agent.rack import AttachedRack
from muster.agent.rack import RackSettings as AgentRackSettings
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.recipe.parse import parse_recipe
from muster.recipe.seeds import seed_documents
from muster.runtime.clock import SystemClock
from muster.sim.main import Rack, RackSettings
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
PATIENCE_SEC = 60.0


@asynccontextmanager
async def virtual_rack(folder: Path, *, devices: int = 3) -> AsyncIterator[Rack]:
    async with Rack(RackSettings(devices=devices, latency="none", control_port=None, data_dir=folder / "sim")) as rack:
        yield rack


@asynccontextmanager
async def watched(rack: Rack, folder: Path, *, vendor: bool = True) -> AsyncIterator[AttachedRack]:
    url = rack.vendor_url if vendor else None
    async with AttachedRack(AgentRackSettings(*rack.adb_address, url, folder / "agent"), SystemClock()) as attached:
        await attached.wait_settled()
        yield attached


async def wait_for(attached: AttachedRack, holds: Callable[[], bool]) -> None:
    await until(holds, within_sec=PATIENCE_SEC)


def state_of(attached: AttachedRack, device_id: str) -> AttachState | None:
    status = attached.status(device_id)
    return status.state if status else None


@pytest.mark.parametrize("vendor", [True, False], ids=["vendor", "adb alone"])
async def test_a_settled_rack_knows_every_phone_by_its_id(tmp_path: Path, vendor: bool) -> None:
    async with virtual_rack(tmp_path) as rack, watched(rack, tmp_path, vendor=vendor) as attached:
        assert attached.vendor_ok is vendor
        assert (attached.last_vendor_ok_ms is not None) is vendor
        assert len(attached.all()) == 3
        for phone in rack.phones.values():
            name = phone.device_id if vendor else phone.properties.get("ro.serialno")
            status = attached.status(name)
            assert status is not None and status.device_id == name
            assert (status.runtime_handle, status.state) == (phone.serial, AttachState.DEVICE)
            found = attached.phones.find(name)
            assert found is not None
            output = await found.shell("echo hi; echo no >&2; exit 3")
            assert (output.exit_code, output.stdout, output.stderr) == (3, b"hi\n", b"no\n")
            assert whole_png(await found.screenshot(left_sec=60.0))


async def test_the_phone_tells_its_model_and_battery(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path) as rack, watched(rack, tmp_path) as attached:
        phone = next(iter(rack.phones.values()))
        # The vendor tool may name a phone before it was asked.
        await wait_for(
            attached, lambda: (found := attached.status(phone.device_id)) is not None and found.battery is not None
        )
        status = attached.status(phone.device_id)
        assert status is not None
        assert (status.model, status.battery) == (phone.properties.get("ro.product.model"), phone.battery.level)


async def test_phones_that_change_are_seen_and_their_errors_have_a_reason(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path) as rack, watched(rack, tmp_path) as attached:
        asking, gone, hung = rack.phones.values()
        changed = asyncio.Event()
        attached.subscribe(changed)
        before = attached.find(gone.device_id)
        assert before is not None
        await set_state(asking, PhoneState.UNAUTHORIZED, rack)
        await set_state(gone, PhoneState.MISSING, rack)
        await wait_for(attached, lambda: state_of(attached, asking.device_id) is AttachState.UNAUTHORIZED)
        await wait_for(attached, lambda: state_of(attached, gone.device_id) is AttachState.MISSING)
        assert changed.is_set()
        assert attached.find(asking.device_id) is None and attached.find(gone.device_id) is None
        with pytest.raises(PhoneError) as lost:
            await before.shell("id")
        assert lost.value.reason is FailureReason.ADB_MISSING and not lost.value.fate_unknown
        await set_state(hung, PhoneState.HUNG, rack)
        assert state_of(attached, hung.device_id) is AttachState.DEVICE, "adb cannot tell"
        await set_state(gone, PhoneState.DEVICE, rack)
        await wait_for(attached, lambda: attached.find(gone.device_id) is not None)
        await set_state(hung, PhoneState.DEVICE, rack)


async def test_an_adb_server_that_is_killed_is_started_again_with_its_phones(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path) as rack, watched(rack, tmp_path) as attached:
        ids = [status.device_id for status in attached.all()]
        lost = asyncio.Event()
        attached.subscribe(lost)
        killer = await asyncio.create_subprocess_exec(
            str(find_adb()), "-P", str(rack.adb_address[1]), "kill-server", stderr=asyncio.subprocess.DEVNULL
        )
        assert await killer.wait() == 0
        async with asyncio.timeout(PATIENCE_SEC):
            await lost.wait()
        await wait_for(attached, lambda: all(attached.find(device_id) is not None for device_id in ids))
        assert [status.device_id for status in attached.all()] == ids


async def test_without_the_tool_that_was_there_adb_takes_the_pictures(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path, devices=1) as rack, watched(rack, tmp_path) as attached:
        device_id = next(iter(rack.phones))
        assert attached.vendor_for(next(iter(rack.phones.values())).serial) is not None
        assert rack.vendor is not None
        await rack.vendor.stop()
        phone = attached.find(device_id)
        assert phone is not None
        assert whole_png(await phone.screenshot(left_sec=60.0))
        assert attached.vendor_ok is False
        assert [status.device_id for status in attached.all()] == [device_id]


async def test_one_phone_that_hangs_costs_the_others_no_picture_by_the_tool(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path) as rack, watched(rack, tmp_path) as attached:
        hung, *others = rack.phones.values()
        await set_state(hung, PhoneState.HUNG, rack)
        phone = attached.find(hung.device_id)
        assert phone is not None
        shot = asyncio.create_task(phone.screenshot(left_sec=ADB_PICTURE_SEC_MIN + TOOL_PICTURE_SEC_MIN))
        await wait_for(attached, lambda: attached.pictures_by(hung.serial) is None)
        assert attached.vendor_ok, "it is one phone that is silent"
        assert all(attached.pictures_by(phone.serial) is not None for phone in others)
        assert not shot.done(), "it is adb's turn"
        shot.cancel()
        await asyncio.wait([shot])
        await set_state(hung, PhoneState.DEVICE, rack)


async def test_ids_given_without_the_vendor_tool_stay_when_it_comes(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path) as rack:
        async with watched(rack, tmp_path, vendor=False) as attached:
            first = [status.device_id for status in attached.all()]
        async with watched(rack, tmp_path, vendor=True) as attached:
            assert [status.device_id for status in attached.all()] == first
            assert all(attached.find(device_id) is not None for device_id in rack.phones), "the aliases find them"
            assert sorted(map(attached.resolve, rack.phones)) == first, "one queue a phone, whatever it is called"


async def test_leaving_a_rack_leaves_no_task_behind(tmp_path: Path) -> None:
    async with virtual_rack(tmp_path) as rack:
        before = asyncio.all_tasks()
        async with watched(rack, tmp_path):
            assert len(asyncio.all_tasks()) > len(before)
        await until(lambda: not {task for task in asyncio.all_tasks() - before if task.get_name().startswith("rack")})


@pytest.mark.parametrize("document", seed_documents(), ids=lambda document: str(document["workflow_id"]))
async def test_every_seed_recipe_succeeds_twice_on_every_virtual_phone(
    tmp_path: Path, document: dict[str, object]
) -> None:
    recipe = parse_recipe(document).recipe
    assert recipe is not None
    run = RunPlan("0190a000-0000-7000-8000-000000000001", recipe.workflow_id, recipe, "dQw4w9WgXcQ", {}, {},
                  recipe.global_timeout_ms)  # fmt: skip
    async with virtual_rack(tmp_path) as rack, watched(rack, tmp_path) as attached:
        spool = MemorySpool()
        executor = TaskExecutor(attached.phones, spool, executor_settings(), SystemClock())
        for attempt in (1, 2):
            tasks = [Task(f"task-{attempt}", device_id, attempt, run) for device_id in rack.phones]
            answers = await asyncio.gather(*(executor.execute(task, Told()) for task in tasks))
            outcomes = [answer for answer in answers if isinstance(answer, TaskOutcome)]
            assert [(outcome.status, outcome.failed_steps, outcome.error_message) for outcome in outcomes] == [
                (TaskState.SUCCEEDED, (), None)
            ] * 3
        shots = sum(step.kind == "screenshot" for step in recipe.steps)
        assert len(spool.contents) == 2 * 3 * shots
        if shots:
            last = spool.pictures[-3:]
            assert len({picture.sha256 for picture in last}) == 3, "each phone's picture is its own"
