"""A rack of a hundred, thirty of them bad, each in its own way, through a whole agent and backend."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.character_table import BAD, GOOD, Row, document, with_healthy
from tests.support.waiting import until
from tests.support.whole_rack import LOOK_SEC, PATIENCE_SEC, WholeRack, describe, most_at_once, whole_rack

from muster.contracts.api import DeviceView, RunDetail
from muster.contracts.commands import DeviceActionKind
from muster.domain.failure import FailureReason
from muster.domain.limits import QUARANTINE_AFTER_FAILURES
from muster.sim.characters import delay
from muster.sim.conduct import move
from muster.sim.phone import Phone
from muster.sim.settings import RackSettings
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PHONES = int(os.environ.get("RACK_PHONES", "100"))
# Another seed puts the bad phones at other places in the queue; `make chaos` tries several, with a real node's grace.
SEEDS = range(11, 11 + int(os.environ.get("RACK_SEEDS", "1")))
GRACE_SEC = int(os.environ.get("RACK_GRACE_SEC", "3"))
SLOTS = 20
# On the bound. What it does not know of: how long a slot's release takes to become the next start, on a busy machine.
SLACK = 1.1
IN_USE_MIN = 0.95
TOUR: dict[str, Any] = {
    "workflow_id": "tour",
    "params": {"PACKAGE": "com.example.app", "ACCOUNT": "muster demo", "PASSWORD": "muster-demo"},
    "defaultStepTimeoutMs": 10_000,
    "steps": [
        {"id": "wake", "phase": "BOOTSTRAP", "kind": "adb",
         "command": "input keyevent KEYCODE_WAKEUP && wm dismiss-keyguard"},
        {"id": "note", "phase": "BOOTSTRAP", "kind": "adb", "command": "echo {{RUN_ID}} > /sdcard/muster-run"},
        {"id": "still", "phase": "BOOTSTRAP", "kind": "adb", "command": "settings put global window_animation_scale 0"},
        {"id": "launch", "phase": "LOGIN_FLOW", "kind": "adb", "command": "monkey -p {{PACKAGE}} 1"},
        {"id": "focus", "phase": "LOGIN_FLOW", "kind": "adb", "command": "dumpsys window | grep -F mCurrentFocus"},
        {"id": "in-front", "phase": "LOGIN_FLOW", "kind": "assert",
         "assert": {"step": "focus", "output": {"contains": "{{PACKAGE}}"}}},
        {"id": "sign-in", "phase": "LOGIN_FLOW", "kind": "adb",
         "command": "input text {{ACCOUNT|input}} && input keyevent 61 && input text {{PASSWORD|input}}"
                    " && input keyevent 66"},
        {"id": "signed-in", "phase": "LOGIN_FLOW", "kind": "wait", "intervalMs": 500,
         "until": "dumpsys window | grep -F mCurrentFocus | grep -F {{PACKAGE}} | grep -F .HomeActivity"},
        {"id": "settings", "phase": "TOUR", "kind": "adb", "command": "am start -W -a android.settings.SETTINGS"},
        {"id": "shot", "phase": "SCREENSHOT", "kind": "screenshot", "timeoutMs": 30_000, "onFailure": "retry",
         "retryCount": 1},
        {"id": "upload", "phase": "UPLOAD", "kind": "upload", "source": "shot", "timeoutMs": 60_000},
    ],
}  # fmt: skip
Placed = Sequence[tuple[Row, Sequence[Phone]]]


def profile(rows: Sequence[Row], seed: int, path: Path) -> Path:
    """The table as a file: which numbers are of which character."""
    entries, number = [], 1
    for row in rows:
        entries.append({"numbers": list(range(number, number + row.phones)), **row.entry})
        number += row.phones
    path.write_text(yaml.safe_dump({"seed": seed, "phones": entries}))
    return path


def placed(rows: Sequence[Row], site: WholeRack) -> Placed:
    phones = iter(site.rack.phones.values())
    return [(row, [next(phones) for _ in range(row.phones)]) for row in rows]


async def known(site: WholeRack, phones: Mapping[Phone, bool]) -> None:
    """Waits until the backend knows all of them where they are, and has had a sign of life of those that have True."""

    def is_known(phone: Phone, seen: DeviceView | None) -> bool:
        return seen is not None and (not phones[phone] or (seen.online and seen.runtime_handle == phone.serial))

    async with asyncio.timeout(PATIENCE_SEC):
        devices = await site.devices()
        while not all(is_known(phone, devices.get(phone.device_id)) for phone in phones):
            await asyncio.sleep(LOOK_SEC)
            devices = await site.devices()


async def prepare(site: WholeRack, table: Placed) -> None:
    """Every phone becomes known; then some move or are put into quarantine, and some that were well fall silent."""
    each = [(row, phone) for row, phones in table for phone in phones]
    await known(site, {phone: row.is_good or row.later is not None for row, phone in each})
    movers = [phone for row, phone in each if row.moves]
    for phone in movers:
        await move(phone, delay(0.2, 0.2, 0.2), site.rack)
    await known(site, dict.fromkeys(movers, True))
    for row, phone in each:
        if row.is_quarantined:
            await site.client.act_on_device(phone.device_id, DeviceActionKind.QUARANTINE)
            await until(partial(site.logged, "Device action"))
    for row, phone in each:
        if row.later is not None:
            await set_state(phone, row.later, site.rack)


def wrong_ends(run: RunDetail, table: Placed) -> list[str]:
    """Phones whose task did not end as the table says."""
    tasks = {task.device_id: task for task in run.tasks}
    return [
        f"{row.name} ({phone.device_id}): {task.status} {task.failure_reason} {task.error_message}"
        for row, phones in table
        for phone in phones
        if ((task := tasks[phone.device_id]).status, task.failure_reason) not in row.ends
    ]


def makespan_and_bound(site: WholeRack, run_id: str) -> tuple[float, float]:
    """Seconds from the first start to the last slot's release, and the bound of issue 4 on them.

    `total / m + (1 - 1/m) * longest`, for m slots. `total`: the time in which slots were held, all uses together. A
    chain is what one phone's own tasks take, one after another: the slots that it held, and its graces without one.
    Why that bounds any schedule that leaves no slot idle while a phone could use it: at each moment until the last
    phone is done it is either in a slot, or parked, or all m slots are held by others. A parked phone counts in its own
    chain, for nobody can serve it then, and not in `total`, for others have its slot.
    """
    uses, chains = site.uses(run_id), site.chains(run_id)
    total = sum(use.ended - use.began for use in uses)
    longest = max(chain.held + chain.parked for chain in chains)
    makespan = max(use.ended for use in uses) - min(use.began for use in uses)
    return makespan, total / SLOTS + (1 - 1 / SLOTS) * longest


def share_in_use(site: WholeRack, run_id: str) -> float:
    """Of the slots' time until the last phone had its first turn: the part in which they were held. Sharper than the
    bound, which a long chain makes wide: as long as a phone waits for its first turn no slot may stand idle."""
    uses = sorted(site.uses(run_id), key=lambda use: use.began)
    first_turns = {use.device_id: use.began for use in reversed(uses)}
    begin, end = min(first_turns.values()), max(first_turns.values())
    return sum(min(use.ended, end) - use.began for use in uses if use.began < end) / (SLOTS * (end - begin))


async def fails_into_quarantine(site: WholeRack, phone: Phone) -> None:
    """It has failed once: after as many failures in a row as are allowed, it gets no further task."""
    for reason in [FailureReason.BOOTSTRAP_CRITICAL_FAILED] * (QUARANTINE_AFTER_FAILURES - 1) + [
        FailureReason.QUARANTINED
    ]:
        run = await site.ended(await site.start("tour", [phone]))
        assert [task.failure_reason for task in run.tasks] == [reason], describe(run)


@pytest.mark.parametrize("seed", SEEDS)
async def test_seventy_good_phones_succeed_and_thirty_bad_ones_each_have_their_reason(
    tmp_path: Path, seed: int
) -> None:
    rows = with_healthy([*BAD, *GOOD], PHONES)
    file = profile(rows, seed, tmp_path / "rack.yaml")
    settings = RackSettings(devices=PHONES, control_port=None, data_dir=tmp_path / "sim", profile=file)
    environment = {"DEVICE_GRACE_WAIT_MS": str(GRACE_SEC * 1000)}
    async with whole_rack(tmp_path, settings, TOUR, slots=SLOTS, environment=environment, on_ready="no wait") as site:
        table = placed(rows, site)
        await prepare(site, table)
        run_id = await site.start("tour")
        run = await site.ended(run_id)
        assert not wrong_ends(run, table)
        assert sum(task.storage_path is not None for task in run.tasks) == run.counts.succeeded, "a picture of each"
        assert most_at_once(site.uses(run_id)) == SLOTS, "all slots, never more"
        makespan, bound = makespan_and_bound(site, run_id)
        in_use = share_in_use(site, run_id)
        print(f"makespan {makespan:.1f} s, bound {bound:.1f} s, slots in use {in_use:.2%}")  # noqa: T201
        assert makespan <= SLACK * bound
        assert in_use >= IN_USE_MIN
        (full,) = (phone for row, phones in table if row.entry["character"] == "full_disk" for phone in phones)
        await fails_into_quarantine(site, full)


async def test_without_the_casting_tool_two_phones_that_share_a_serialno_are_a_conflict_and_neither_works(
    tmp_path: Path,
) -> None:
    """The casting tool would tell them apart: with it, they are good phones of the table."""
    file = tmp_path / "rack.yaml"
    file.write_text(
        yaml.safe_dump({"phones": [{"character": "healthy", "count": 2, "serial_number": "0123456789ABCDEF"}]})
    )
    settings = RackSettings(
        devices=2, latency="none", vendor_port=None, control_port=None, data_dir=tmp_path / "sim", profile=file
    )
    async with whole_rack(tmp_path, settings, TOUR, on_ready="no wait") as site:
        run = await site.ended(await site.start("tour"))
        assert [(task.device_id, task.failure_reason) for task in run.tasks] == [
            ("0123456789ABCDEF", FailureReason.IDENTITY_CONFLICT)
        ]
        assert not any("muster-run" in record.text for phone in site.phones for record in phone.log.records())


def test_thirty_of_a_hundred_are_bad() -> None:
    rows = with_healthy([*BAD, *GOOD], 100)
    assert sum(row.phones for row in rows if not row.is_good) == 30
    assert {row.later for row in BAD} >= {PhoneState.OFFLINE, PhoneState.MISSING, PhoneState.HUNG}


def test_the_documented_table_is_the_one_that_is_tested() -> None:
    page = (Path(__file__).parents[2] / "docs" / "virtual-rack.md").read_text(encoding="utf-8")
    assert document([*BAD, *GOOD]) in page
