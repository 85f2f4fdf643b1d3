"""What an operator asked of a phone is done by the next agent when this one is killed after it has taken note of it."""

import asyncio
from pathlib import Path

import pytest
from tests.support.processes import muster
from tests.support.waiting import until
from tests.support.whole_rack import LOOK_SEC, WholeRack, whole_rack

from muster.contracts.commands import DeviceActionKind
from muster.domain.limits import RECOVERIES_AT_ONCE
from muster.sim.phone import Phone
from muster.sim.settings import RackSettings
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


async def taken(site: WholeRack, phones: list[Phone]) -> None:
    """The node has taken note of what was asked of each."""
    async with asyncio.timeout(60):
        for phone in phones:
            while not all(entry.answered_at for entry in (await site.client.device(phone.device_id)).actions):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(LOOK_SEC)


async def test_a_phone_is_rebooted_by_the_next_agent_when_this_one_is_killed_before_it_came_to_it(
    tmp_path: Path,
) -> None:
    # Three rounds of phones that hang, each in the way for as long as a repair may take: time to take note of all.
    rack = RackSettings(
        devices=3 * RECOVERIES_AT_ONCE + 1,
        latency="none",
        control_port=None,
        vendor_port=None,
        data_dir=tmp_path / "sim",
    )
    async with whole_rack(tmp_path, rack) as site:
        *hung, last = site.phones
        uptime = last.uptime_sec()
        for phone in hung:
            await set_state(phone, PhoneState.HUNG, site.rack)
        for phone in site.phones:
            await site.client.act_on_device(phone.device_id, DeviceActionKind.REBOOT)
        await taken(site, site.phones)
        site.agent.process.kill()
        await site.agent.ended()
        assert last.booted and last.uptime_sec() >= uptime, "nothing has happened to it yet"
        for phone in hung:
            phone.thaw()
        options = ["--backend", site.client.base_url, "--node-id", "PC-01", "--data", str(tmp_path / "node")]
        options += ["--adb-server", "{}:{}".format(*site.rack.adb_address), "--vendor-url", "none"]
        async with muster("agent", *options, cwd=tmp_path) as again:
            await until(lambda: last.uptime_sec() < min(uptime, 60), within_sec=60)
            await again.wait_for_line(rf"device_id={last.device_id}\] Device action done")
        (entry,) = (await site.client.device(last.device_id)).actions
        assert (entry.action, entry.error_message) == ("device.reboot", None)
