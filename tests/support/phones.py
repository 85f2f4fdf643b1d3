"""A rack in memory: implements the agent's ports without adb, vendor tool or backend."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from muster.agent.ports import (
    DeviceStatus,
    ExecutorSettings,
    Fence,
    Phone,
    PhoneError,
    RunPlan,
    ShellOutput,
    SpooledArtifact,
    StepProgress,
    StoredArtifact,
    Task,
    UploadError,
)
from muster.agent.preflight.device import PROBE
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.recipe.parse import parse_recipe

Answer = ShellOutput | PhoneError | float
"""What a command does: ends, breaks, or hangs for so many seconds (inf: for ever) and then ends with 0."""

HEALTHY_PROBE = ShellOutput(0, b"muster-probe\n1\n33\nSM-G991N\nsamsung\n", b"")


def ended(stdout: str = "", exit_code: int = 0, stderr: str = "") -> ShellOutput:
    """A command that ended."""
    return ShellOutput(exit_code, stdout.encode(), stderr.encode())


def picture(kind: str = "PNG", size: tuple[int, int] = (36, 80), color: str = "navy") -> bytes:
    """A whole picture."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, format=kind)
    return buffer.getvalue()


@dataclass
class MemoryPhone:
    """Implements `ports.Phone`. `answers`: command → what it does, one after another, the last one for ever."""

    device_id: str = "ABC123"
    runtime_handle: str = "192.168.0.11:5555"
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    pictures: list[bytes | PhoneError | float] = field(default_factory=lambda: [picture()])
    commands: list[str] = field(default_factory=list)
    fences: list[Fence | None] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    asked_for: list[str] = field(default_factory=list)
    faults: dict[str, list[PhoneError | float]] = field(default_factory=dict)
    vendor_answers: dict[str, object] = field(default_factory=dict)
    vendor_asked: list[tuple[str, dict[str, str], float]] = field(default_factory=list)
    hung: asyncio.Event = field(default_factory=asyncio.Event)
    in_flight: int = 0
    on_command: Callable[[str], None] = lambda _command: None

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        self.commands.append(command)
        self.on_command(command)
        self.fences.append(fence)
        queue = self.answers.get(command) or ([HEALTHY_PROBE] if command == PROBE else [ended()])
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, PhoneError):
            raise answer
        if isinstance(answer, float):
            await self._hang(answer)
            return ended()
        return answer

    async def push(self, source: Path, remote: str) -> None:
        await self._transfer(remote)
        self.files[remote] = await asyncio.to_thread(source.read_bytes)

    async def pull(self, remote: str, target: Path, *, bytes_max: int) -> int:
        await self._transfer(remote)
        if remote not in self.files:
            raise PhoneError(FailureReason.STEP_FAILED, f"adb: {remote}: No such file or directory", fate_unknown=False)
        if len(self.files[remote]) > bytes_max:
            raise PhoneError(FailureReason.STEP_FAILED, f"adb: {remote} is larger than {bytes_max} bytes")
        return await asyncio.to_thread(target.write_bytes, self.files[remote])

    async def vendor(self, action: str, data: Mapping[str, str], *, timeout_sec: float) -> object:
        self.vendor_asked.append((action, dict(data), timeout_sec))
        answer = self.vendor_answers.get(action)
        if isinstance(answer, PhoneError):
            raise answer
        if isinstance(answer, float):
            await self._hang(answer)
        return answer

    async def _transfer(self, remote: str) -> None:
        self.asked_for.append(remote)
        for fault in self.faults.get(remote, []):
            if isinstance(fault, PhoneError):
                raise fault
            await self._hang(fault)

    async def screenshot(self, *, left_sec: float) -> bytes:
        shot = self.pictures.pop(0) if len(self.pictures) > 1 else self.pictures[0]
        if isinstance(shot, PhoneError):
            raise shot
        if isinstance(shot, float):
            await self._hang(shot)
            return picture()
        return shot

    async def _hang(self, seconds: float) -> None:
        self.in_flight += 1
        self.hung.set()
        try:
            await asyncio.sleep(min(seconds, 3600))
        finally:
            self.in_flight -= 1

    @property
    def steps_commands(self) -> list[str]:
        """The commands after the probe."""
        return [command for command in self.commands if command != PROBE]


@dataclass
class MemoryPhones:
    """Implements `ports.Phones`."""

    attached: dict[str, MemoryPhone] = field(default_factory=dict)
    statuses: dict[str, DeviceStatus] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    def add(self, phone: MemoryPhone, *, state: AttachState = AttachState.DEVICE, **fields: Any) -> MemoryPhone:
        """Attaches a phone, or shows one in another state."""
        if state is AttachState.DEVICE:
            self.attached[phone.device_id] = phone
        known = {"last_seen": 0.0, **fields}
        self.statuses[phone.device_id] = DeviceStatus(phone.device_id, phone.runtime_handle, state, **known)
        return phone

    def lose(self, device_id: str, state: AttachState = AttachState.MISSING) -> None:
        """Takes a phone away."""
        self.attached.pop(device_id, None)
        self.statuses[device_id] = replace(self.statuses[device_id], state=state)

    def find(self, device_id: str) -> Phone | None:
        return self.attached.get(device_id)

    def status(self, device_id: str) -> DeviceStatus | None:
        return self.statuses.get(device_id)

    def all(self) -> Sequence[DeviceStatus]:
        return [self.statuses[device_id] for device_id in sorted(self.statuses)]

    def resolve(self, device_id: str) -> str:
        return self.aliases.get(device_id, device_id)


@dataclass
class MemorySpool:
    """Implements `ports.Spool`. `outcomes`: None uploads, an error is raised, seconds hang; the last one for ever."""

    outcomes: list[UploadError | float | None] = field(default_factory=lambda: [None])
    pictures: list[SpooledArtifact] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    uploads: int = 0

    async def add(self, task: Task, step_id: str, png: bytes) -> SpooledArtifact:
        self.contents.append(png)
        artifact = SpooledArtifact(
            task_id=task.task_id,
            run_id=task.run.run_id,
            device_id=task.device_id,
            attempt=task.attempt,
            step_id=step_id,
            taken_at_ms=1_739_012_345_000,
            path=Path(f"{step_id}.png"),
            sha256=hashlib.sha256(png).hexdigest(),
            size=len(png),
        )
        self.pictures.append(artifact)
        return artifact

    async def upload(self, artifact: SpooledArtifact) -> StoredArtifact:
        self.uploads += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, UploadError):
            raise outcome
        if isinstance(outcome, float):
            await asyncio.sleep(min(outcome, 3600))
        return StoredArtifact(artifact.step_id, f"v/n/{artifact.device_id}/r/1.png", artifact.sha256, artifact.size)


@dataclass
class Told:
    """Implements `ports.Reporter`: keeps what it is told."""

    handles: list[str] = field(default_factory=list)
    steps: list[StepProgress] = field(default_factory=list)

    async def started(self, runtime_handle: str) -> None:
        self.handles.append(runtime_handle)

    async def progress(self, step: StepProgress) -> None:
        self.steps.append(step)

    @property
    def story(self) -> list[str]:
        """`id:status` of each progress."""
        return [f"{step.step_id}:{step.status.value}" for step in self.steps]


def plan(*steps: Mapping[str, object], params: Mapping[str, str] | None = None, **head: Any) -> RunPlan:
    """A run of these steps. `head`: fields of the recipe, or of the run where RunPlan has them."""
    of_run = {
        name: head.pop(name) for name in ("timeout_overrides_ms", "global_timeout_ms", "video_id") if name in head
    }
    head["params"] = head.pop("recipe_params", {})
    parsed = parse_recipe({"workflow_id": "w", "steps": [dict(step) for step in steps], **head})
    assert parsed.recipe is not None, [str(error) for error in parsed.errors]
    return RunPlan(
        run_id="0190a000-0000-7000-8000-000000000001",
        workflow_id="w",
        recipe=parsed.recipe,
        video_id=of_run.get("video_id", "dQw4w9WgXcQ"),
        params=params or {},
        timeout_overrides_ms=of_run.get("timeout_overrides_ms", {}),
        global_timeout_ms=of_run.get("global_timeout_ms", 90_000),
    )


def task(run: RunPlan, device_id: str = "ABC123", attempt: int = 1) -> Task:
    """One device's part of it."""
    return Task(f"0190a000-0000-7000-8000-0000000000{attempt:02d}", device_id, attempt, run)


def executor_settings(**fields: Any) -> ExecutorSettings:
    """A node's settings."""
    known: dict[str, Any] = {"node_id": "PC-01", "upload_timeout_ms": 30_000, "preflight_timeout_ms": 15_000}
    return ExecutorSettings(**{**known, **fields})


NOT_SENT = PhoneError(FailureReason.ADB_MISSING, "adb: no such phone", fate_unknown=False)
CUT_OFF = PhoneError(FailureReason.ADB_OFFLINE, "adb: the stream ended", fate_unknown=True)
