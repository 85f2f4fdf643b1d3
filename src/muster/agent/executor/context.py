"""What a step works with, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from muster.agent.executor.words import Mask
from muster.agent.ports import (
    ExecutorSettings,
    Phone,
    Phones,
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
    outputs: dict[str, ShellOutput] = field(default_factory=dict)
    pictures: dict[str, SpooledArtifact] = field(default_factory=dict)
    stored: StoredArtifact | None = None

    def phone(self) -> Phone:
        """The phone where it is attached *now*: it may have come back under another handle. Raises PhoneError."""
        phone = self.phones.find(self.task.device_id)
        if phone is None:
            raise gone(self.phones.status(self.task.device_id))
        return phone

    def values(self, step: StepBase) -> Values:
        """What placeholders stand for in this step (spec/02, Parameters)."""
        run = self.task.run
        params = layered(run.recipe.params, step.params, run.params, self._built_ins())
        return Values(params, self.settings.secrets)

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
