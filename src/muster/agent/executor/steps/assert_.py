"""`assert`: what an earlier step said, against what the recipe expects."""

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.words import decode, tail
from muster.agent.ports import ShellOutput
from muster.domain.failure import FailureReason
from muster.recipe.model import AssertStep, OutputExpectation
from muster.recipe.patterns import compile_pattern
from muster.recipe.render import Values, render_text
from muster.runtime.masking import Mask

_SHOWN_CHARS_MAX = 200


async def run_assert(step: AssertStep, context: TaskContext) -> StepResult:
    """Fails as `assertion_failed`, with what was expected and what was there."""
    expect = step.expect
    output = context.outputs.get(expect.step)
    if output is None:
        return StepResult(FailureReason.ASSERTION_FAILED, f"step {expect.step} left no output to compare")
    if expect.exit_code is not None and output.exit_code != expect.exit_code:
        message = f"step {expect.step} ended with exit status {output.exit_code}, expected {expect.exit_code}"
        return StepResult(FailureReason.ASSERTION_FAILED, message)
    mismatch = expect.output and _mismatch(expect.output, output, context.values(step))
    if mismatch:
        message = f"the output of step {expect.step} {mismatch}; it is {_shown(output, context.mask)}"
        return StepResult(FailureReason.ASSERTION_FAILED, context.mask(message))
    return StepResult()


def _mismatch(expected: OutputExpectation, output: ShellOutput, values: Values) -> str | None:
    """What does not hold, in words; the text compared is stdout without trailing white space."""
    text = decode(output.stdout).rstrip()
    if expected.matches is not None:
        return None if compile_pattern(expected.matches).found_in(text) else f"does not match {expected.matches}"
    if expected.contains is not None:
        wanted = render_text(expected.contains, values)
        return None if wanted in text else f"does not contain “{wanted}”"
    wanted = render_text(expected.equals or "", values)
    return None if text == wanted.rstrip() else f"is not “{wanted}”"


def _shown(output: ShellOutput, mask: Mask) -> str:
    text = tail(mask(decode(output.stdout)), _SHOWN_CHARS_MAX)
    return f"“{text}”" if text else "empty"
