"""What a step works with, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from muster.agent.phone_clock import FENCE_SEC_MIN, PhoneClock
from muster.agent.ports import (
    ExecutorSettings,
    Phone,
    Phones,
    PhoneTooLate,
    ShellOutput,
    Spool,
    SpooledArtifact,
    StoredArtifact,
    Task,
)
from muster.agent.preflight.absence import gone
from muster.domain.failure import FailureReason
from muster.recipe.model import AssertStep, StepBase
from muster.recipe.render import Values, layered
from muster.runtime.clock import Clock
from muster.runtime.masking import Mask


@dataclass(frozen=True, slots=True)
class StepResult:
    """How one try ended. `reason` None: it succeeded. `fate_unknown`: it may have happened all the same."""

    reason: FailureReason | None = None
    message: str | None = None
    exit_code: int | None = None
    snippet: str | None = None
    fate_unknown: bool = False


@dataclass(slots=True)
class TaskContext:
    """One task's own things while its steps run: what earlier steps said and took is here for later ones."""

    task: Task
    phones: Phones
    spool: Spool
    settings: ExecutorSettings
    mask: Mask
    clock: Clock
    # Monotonic: when the task's time is up, and when that of the try that is going on.
    task_deadline: float
    deadline: float = 0.0
    # What the try waits for, told when its time is up.
    waits_for: str | None = None
    phone_clock: PhoneClock | None = None
    outputs: dict[str, ShellOutput] = field(default_factory=dict)
    pictures: dict[str, SpooledArtifact] = field(default_factory=dict)
    stored: StoredArtifact | None = None

    def phone(self) -> Phone:
        """The phone where it is attached *now*: it may have come back under another handle. Raises PhoneError."""
        phone = self.phones.find(self.task.device_id)
        if phone is None:
            raise gone(self.phones.status(self.task.device_id))
        return phone

    def begin_try(self, limit_ms: int) -> None:
        """A try of a step begins, with so much time."""
        self.waits_for = None
        self.deadline = min(self.clock.monotonic() + limit_ms / 1000, self.task_deadline)

    async def shell(self, command: str) -> ShellOutput:
        """Runs a command that does not start after this try's time, even on a phone that hangs. Raises PhoneError."""
        try:
            return await self._fenced(command)
        except PhoneTooLate as late:
            if self.phone_clock is None:
                raise
            # In time, as this node counts: so somebody has set the phone's clock since it was read. Nothing has run.
            has_timeout = self.phone_clock.has_timeout
            self.phone_clock = PhoneClock.read(late.phone_sec, self.clock.monotonic(), has_timeout=has_timeout)
        try:
            return await self._fenced(command)
        except PhoneTooLate:
            if self.left_sec >= FENCE_SEC_MIN:
                raise
            # Too little time was left for a command to be let start, as coarse as clocks are read: it runs out.
            await self.clock.sleep(max(self.left_sec, 0.0) + FENCE_SEC_MIN)
            raise

    async def _fenced(self, command: str) -> ShellOutput:
        fence = self.phone_clock and self.phone_clock.fence(self.deadline, self.clock.monotonic())
        phone = self.phone()
        return await (phone.shell(command, fence=fence) if fence else phone.shell(command))

    @property
    def left_sec(self) -> float:
        """How long this try still has."""
        return self.deadline - self.clock.monotonic()

    def values(self, step: StepBase | None) -> Values:
        """What placeholders stand for in this step (spec/02, Parameters); None: without any step's own params."""
        run = self.task.run
        own = step.params if step else {}
        params = layered(run.recipe.params, own, run.params, self._built_ins())
        return Values(params, self.settings.secrets.of(self.task.device_id))

    def keep_output(self, step_id: str, output: ShellOutput) -> None:
        """Remembers an output that a later `assert` names; others would only fill memory."""
        if any(isinstance(step, AssertStep) and step.expect.step == step_id for step in self.task.run.recipe.steps):
            self.outputs[step_id] = output

    def _built_ins(self) -> Mapping[str, str]:
        task, status = self.task, self.phones.status(self.task.device_id)
        values = {
            "RUN_ID": task.run.run_id,
            "NODE_ID": self.settings.node_id,
            "DEVICE_ID": task.device_id,
            "AUTO_SCREENSHOT_PATH": f"/sdcard/Pictures/muster-{task.task_id}.png",
        }
        if task.run.video_id is not None:
            values["VIDEO_ID"] = task.run.video_id
        if status is not None:
            values["RUNTIME_HANDLE"] = status.runtime_handle
        return values
