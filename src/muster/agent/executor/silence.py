"""What is wrong with a task's phone since it last answered one of its steps (R8.3, spec/10, docs/adr/0024).

A phone that hangs stays `device` for adb until a repair takes its connection down: what it is called later, `offline`
or missing, tells less than what it was found to be first.
"""

from dataclasses import dataclass, replace
from typing import Final

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.kinds import asks_phone
from muster.agent.ports import NotReady
from muster.agent.preflight.device import TRANSIENT, Answers
from muster.agent.preflight.gate import Subject, Wait
from muster.agent.readiness import Readiness, more_telling
from muster.domain.failure import FailureReason
from muster.domain.limits import GRACE_PROBE_TIMEOUT_MS
from muster.recipe.conditions import DeviceFacts
from muster.recipe.model import Step
from muster.runtime.clock import Clock

# Between the end of the question and that of the task's time.
_MARGIN_SEC: Final = 1.0


@dataclass(slots=True)
class Silence:
    """`fault` None: the phone answered when it was last asked anything."""

    context: TaskContext
    readiness: Readiness
    clock: Clock
    fault: NotReady | None = None

    async def examine(self, step: Step, result: StepResult, *, timed_out: bool) -> StepResult:
        """What the end of a step's try says of the phone; one that ran out of time while its phone hangs says so."""
        if timed_out:
            return await self._after_time_out(step, result)
        if result.reason in TRANSIENT:
            self._note(NotReady(result.reason, result.message or "the phone went away"))
        elif asks_phone(step) and (result.reason is None or result.exit_code is not None):
            self.fault = None
        return result

    async def has_ended(self, seconds: float) -> bool:
        """Waits for the phone to answer, for so long at most."""
        assert self.fault is not None, "there is something to wait for"
        fault = await self.readiness.wait_ready(self.context.task.device_id, self.fault, seconds)
        if fault is None:
            self.fault = None
        else:
            self._note(fault)
        return fault is None

    def explain(self, result: StepResult) -> StepResult:
        """The result of a step whose phone is not there, by the sign that tells most."""
        if self.fault is None or result.reason not in TRANSIENT or result.reason is self.fault.reason:
            return result
        seen = f"; then: {result.message}" if result.message else ""
        return replace(result, reason=self.fault.reason, message=f"{self.fault.message}{seen}")

    async def _after_time_out(self, step: Step, result: StepResult) -> StepResult:
        """A time-out means *unknown* (spec/10). Only an answer tells a slow command from a phone that hangs."""
        if not asks_phone(step) or (silent := await self._silent()) is None:
            return result
        self._note(silent)
        told = f"{result.message}; {silent.message}"
        return replace(result, reason=silent.reason, message=told, fate_unknown=True)

    async def _silent(self) -> NotReady | None:
        """Asks as the preflight does, and briefly whoever was silent before. None: it answers, or nobody knows."""
        context = self.context
        is_known = self.fault is not None and self.fault.reason is FailureReason.DEVICE_UNRESPONSIVE
        long_ms = context.settings.preflight_timeout_ms
        brief_ms = min(GRACE_PROBE_TIMEOUT_MS, long_ms)
        left_ms = round(1000 * (context.task_deadline - self.clock.monotonic() - _MARGIN_SEC))
        if left_ms < brief_ms:
            return None
        device_id, limit_ms = context.task.device_id, min(brief_ms if is_known else long_ms, left_ms)
        asked = Subject(device_id, context.phones, self.clock, limit_ms, DeviceFacts(device_id))
        verdict = await Answers().check(asked)
        if not isinstance(verdict, Wait) or verdict.reason is not FailureReason.DEVICE_UNRESPONSIVE:
            return None
        return NotReady(verdict.reason, verdict.message)

    def _note(self, fault: NotReady) -> None:
        self.fault = fault if self.fault is None else more_telling(self.fault, fault)
