"""Files, apps, waits, the vendor tool and thawing phones: virtual ones, behind the real adb server."""

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.phones import MemorySpool, Told, executor_settings, plan

from muster.adb.fence import REFUSED_STATUS
from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import Task, TaskOutcome
from muster.agent.preflight.device import Present
from muster.agent.preflight.gate import Gate
from muster.agent.preflight.gates import GATES
from muster.agent.rack import AttachedRack
from muster.agent.rack import RackSettings as AgentRackSettings
from muster.domain.failure import FailureReason
from muster.domain.limits import PREFLIGHT_TIMEOUT_MS
from muster.domain.task import TaskState
from muster.runtime.clock import SystemClock
from muster.sim.main import Rack, RackSettings
from muster.sim.phone import Phone
from muster.sim.vendor.quirks import VendorQuirks

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def apk(package: str) -> bytes:
    """An app as the virtual phones read it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("AndroidManifest.xml", f'<manifest package="{package}"/>')
    return buffer.getvalue()


@dataclass
class Site:
    """One virtual phone behind a real adb server, and an agent's executor for it."""

    rack: Rack
    attached: AttachedRack
    files: Path

    @property
    def phone(self) -> Phone:
        (phone,) = self.rack.phones.values()
        return phone

    async def run(
        self,
        *steps: dict[str, Any],
        told: Told | None = None,
        gates: Sequence[Gate] = GATES,
        preflight_timeout_ms: int = PREFLIGHT_TIMEOUT_MS,
        **head: Any,
    ) -> TaskOutcome:
        settings = executor_settings(files_folder=self.files, preflight_timeout_ms=preflight_timeout_ms)
        executor = TaskExecutor(self.attached.phones, MemorySpool(), settings, SystemClock(), gates=gates)
        numbered = [{"id": f"s{index}", "phase": "STEPS", **step} for index, step in enumerate(steps)]
        task = Task("a-task", self.phone.device_id, 1, plan(*numbered, **head))
        outcome = await executor.execute(task, told or Told())
        assert isinstance(outcome, TaskOutcome)
        return outcome


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    settings = RackSettings(devices=1, latency="none", control_port=None, data_dir=folder / "sim")
    files = folder / "files"
    files.mkdir(parents=True)
    async with Rack(settings) as rack:
        attached_settings = AgentRackSettings(*rack.adb_address, rack.vendor_url, folder / "agent")
        async with AttachedRack(attached_settings, SystemClock()) as attached:
            await attached.wait_settled()
            yield Site(rack, attached, files)


async def test_an_app_is_installed_and_files_go_to_the_phone_and_back(tmp_path: Path) -> None:
    async with site(tmp_path) as rig:
        (rig.files / "new.apk").write_bytes(apk("com.example.fresh"))
        (rig.files / "bad.apk").write_bytes(b"no app")
        content = bytes(range(256)) * 4_000
        (rig.files / "list.bin").write_bytes(content)
        outcome = await rig.run(
            {"kind": "install", "source": "new.apk"},
            {"kind": "adb", "command": "pm path com.example.fresh && ! ls /data/local/tmp/muster-s0.apk"},
            {"kind": "push", "source": "list.bin", "target": "/sdcard/some folder/it's.bin"},
            {"kind": "pull", "source": "/sdcard/some folder/it's.bin"},
            {"kind": "wait", "until": "test -s '/sdcard/some folder/it'\\''s.bin'"},
            {"kind": "wait", "durationMs": 50},
        )
        assert (outcome.status, outcome.error_message) == (TaskState.SUCCEEDED, None)
        (pulled,) = (path for path in (rig.files / "pulled").rglob("*") if path.is_file())
        assert pulled.read_bytes() == content
        refused = await rig.run({"kind": "install", "source": "bad.apk"})
        assert refused.failure_reason is FailureReason.STEP_FAILED
        assert "INSTALL_PARSE_FAILED" in (refused.error_message or "")
        absent = await rig.run({"kind": "pull", "source": "/sdcard/absent"})
        assert absent.failure_reason is FailureReason.STEP_FAILED
        assert "No such file" in (absent.error_message or "")


async def test_the_vendor_tool_acts_on_this_phone_and_its_errors_have_their_reasons(tmp_path: Path) -> None:
    async with site(tmp_path) as rig:
        acted = await rig.run(
            {"kind": "vendor", "action": "startApk", "params": {"apk": "{{APP}}"}},
            {"kind": "wait", "until": "dumpsys window | grep -F mCurrentFocus | grep -F {{APP}}"},
            {"kind": "vendor", "action": "apkList"},
            {"kind": "assert", "assert": {"step": "s2", "output": {"matches": r'^\[".*com\.example\.app'}}},
            params={"APP": "com.example.app"},
        )
        assert (acted.status, acted.error_message) == (TaskState.SUCCEEDED, None)
        refused = await rig.run({"kind": "vendor", "action": "startApk", "params": {"apk": "com.absent"}})
        assert refused.failure_reason is FailureReason.VENDOR_COMMAND_ERROR
        assert rig.rack.vendor is not None
        rig.rack.vendor.quirks = VendorQuirks(silent_share=1.0)
        silent = await rig.run({"kind": "vendor", "action": "imeList", "timeoutMs": 5_000})
        assert silent.failure_reason is FailureReason.VENDOR_WS_ERROR
        await rig.rack.vendor.stop()
        gone = await rig.run({"kind": "vendor", "action": "imeList", "timeoutMs": 5_000})
        assert gone.failure_reason is FailureReason.VENDOR_WS_ERROR


@pytest.mark.parametrize("quirks", [VendorQuirks(silent_share=1.0), VendorQuirks(picture_missing_share=1.0)])
async def test_a_vendor_tool_that_hangs_costs_no_picture_even_with_the_least_limit(
    tmp_path: Path, quirks: VendorQuirks
) -> None:
    async with site(tmp_path) as rig:
        assert rig.rack.vendor is not None
        rig.rack.vendor.quirks = quirks
        shot = await rig.run({"kind": "screenshot", "timeoutMs": 5_000})
        assert (shot.status, shot.error_message) == (TaskState.SUCCEEDED, None)


@dataclass
class Started:
    """A phone's `Hazard`: notes each program and the phone's own clock when it starts; freezes once under one."""

    phone: Phone
    freezes_at: str | None
    programs: list[tuple[str, int]] = field(default_factory=list)

    async def meet(self, line: str) -> None:
        self.programs.append((line, self.phone.now_sec()))
        if line == self.freezes_at:
            self.freezes_at = None
            self.phone.hang()

    def at(self, line: str) -> list[int]:
        return [second for program, second in self.programs if program == line]


async def freeze_and_thaw(rig: Site, gates: Sequence[Gate]) -> Started:
    """A first task freezes under a command, tries it again in vain and fails; it thaws while a second task works."""
    phone, told = rig.phone, Told()
    phone.hazard = started = Started(phone, freezes_at="sleep 0.2")
    stuck = {"kind": "adb", "command": "sleep 0.2; input tap 2 2", "timeoutMs": 5_000, "onFailure": "retry",
             "retryCount": 1, "idempotent": True}  # fmt: skip
    before = {"kind": "adb", "command": "input tap 1 1"}
    first = await rig.run(before, stuck, told=told, gates=gates, preflight_timeout_ms=5_000)
    assert first.failure_reason is FailureReason.DEVICE_UNRESPONSIVE
    assert [step.try_number for step in told.steps if step.step_id == "s1" and step.ended_at_ms] == [1, 2]
    second = asyncio.create_task(rig.run({"kind": "adb", "command": "input tap 9 9"}))
    phone.thaw()
    assert (await second).status is TaskState.SUCCEEDED
    assert (await rig.run({"kind": "wait", "durationMs": 500})).status is TaskState.SUCCEEDED
    assert started.at("input tap 1 1") and started.at("input tap 9 9"), "what is in time runs"
    return started


async def test_a_thawed_phone_starts_no_fenced_command_after_its_deadline(tmp_path: Path) -> None:
    """Counted at the phone, beside one whose clock nobody has read: there the late try starts, so the test sees it."""
    async with site(tmp_path / "fenced") as fenced, site(tmp_path / "bare") as bare:
        with_fence, without = await asyncio.gather(freeze_and_thaw(fenced, GATES), freeze_and_thaw(bare, [Present()]))
    assert len(with_fence.at("sleep 0.2")) == 1, "the try that began in time, and no other"
    assert len(without.at("sleep 0.2")) == 2, "spec/10: a cancelled command still runs when the phone thaws"
    refused = [record for record in fenced.phone.log.records() if record.exit_status == REFUSED_STATUS]
    assert len(refused) <= 1
