"""A rack with phones of every bad character: each gets its right reason, the good ones succeed."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
import yaml
from tests.support.phones import MemorySpool, Told, executor_settings, plan
from tests.support.waiting import until

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import Task, TaskOutcome
from muster.agent.rack import AttachedRack
from muster.agent.rack import RackSettings as AgentRackSettings
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason as R
from muster.runtime.clock import SystemClock
from muster.sim.main import Rack, RackSettings
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

# Phone of the rack, its character, the reason why its task does not succeed (None: it does).
TABLE: list[tuple[int, dict[str, object], R | None]] = [
    (1, {"character": "healthy"}, None),
    (2, {"character": "slow", "factor": 3}, None),
    (3, {"character": "unauthorized"}, R.NEEDS_USB_AUTHORIZATION),
    (4, {"character": "offline"}, R.ADB_OFFLINE),
    (5, {"character": "missing"}, R.ADB_MISSING),
    (6, {"character": "no_adb"}, R.ADB_MISSING),
    (7, {"character": "not_booted"}, R.DEVICE_UNRESPONSIVE),
    (8, {"character": "hanging", "at": {"programs": ["input*"]}}, R.LOGIN_FLOW_TIMEOUT),
    (9, {"character": "crashing", "what": "adbd", "at": {"programs": ["input*"]}}, R.ADB_OFFLINE),
    (10, {"character": "healthy", "battery": 9}, R.BATTERY_LOW),
    (11, {"character": "healthy", "temperature": 52}, R.OVERHEATED),
    (12, {"character": "healthy", "battery": 15, "temperature": 45}, None),
    (13, {"character": "healthy"}, R.ADB_OFFLINE),
    (14, {"character": "healthy"}, R.ADB_MISSING),
    (15, {"character": "healthy"}, R.DEVICE_UNRESPONSIVE),
]
# What becomes of phones that were well when the node first saw them.
LATER = {13: PhoneState.OFFLINE, 14: PhoneState.MISSING, 15: PhoneState.HUNG}
RECIPE = plan(
    {"id": "tap", "kind": "adb", "command": "input tap 10 10", "timeoutMs": 6_000},
    {"id": "shot", "kind": "screenshot"},
)


def is_shown(seen: AttachedRack, name: str, state: AttachState) -> bool:
    status = seen.status(name)
    return status is not None and status.state is state


async def test_every_bad_character_has_its_own_reason_and_takes_no_good_phone_along(tmp_path: Path) -> None:
    entries = [{"numbers": [number], **character} for number, character, _ in TABLE]
    profile = tmp_path / "profile.yaml"
    profile.write_text(yaml.safe_dump({"seed": 7, "phones": entries}))
    sim = RackSettings(
        devices=len(TABLE), profile=profile, latency="none", control_port=None, data_dir=tmp_path / "sim"
    )
    async with Rack(sim) as rack:
        settings = AgentRackSettings(*rack.adb_address, rack.vendor_url, tmp_path / "agent")
        async with AttachedRack(settings, SystemClock()) as seen:
            await seen.wait_settled()
            names = list(rack.phones)
            told = [
                names[number - 1] for number, character, _ in TABLE if character["character"] in ("healthy", "slow")
            ]
            await until(lambda: all((status := seen.status(name)) and status.battery is not None for name in told))
            for number, state in LATER.items():
                await set_state(rack.phones[names[number - 1]], state, rack)
            for number, shown in ((4, AttachState.OFFLINE), (13, AttachState.OFFLINE), (14, AttachState.MISSING)):
                await until(partial(is_shown, seen, names[number - 1], shown))
            executor = TaskExecutor(
                seen.phones, MemorySpool(), executor_settings(preflight_timeout_ms=4_000), SystemClock()
            )
            outcomes = await asyncio.gather(
                *(executor.execute(Task(f"task-{name}", name, 1, RECIPE), Told()) for name in names)
            )
    found = [
        (number, character["character"], outcome.failure_reason if isinstance(outcome, TaskOutcome) else outcome.reason)
        for (number, character, _), outcome in zip(TABLE, outcomes, strict=True)
    ]
    assert found == [(number, character["character"], reason) for number, character, reason in TABLE]
