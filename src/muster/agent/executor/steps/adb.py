"""`adb`: a command in the phone's shell."""

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.words import exit_message, snippet
from muster.domain.failure import FailureReason
from muster.recipe.model import AdbStep
from muster.recipe.render import render_command


async def run_adb(step: AdbStep, context: TaskContext) -> StepResult:
    """An exit status other than 0 is a failure; its output is kept for a later `assert` either way."""
    command = render_command(step.command, context.values(step), allow_raw=context.settings.allow_raw_shell)
    output = await context.shell(command)
    context.keep_output(step.id, output)
    words = snippet(output.stdout, output.stderr, truncated=output.truncated, mask=context.mask)
    if output.exit_code == 0:
        return StepResult(exit_code=0, snippet=words)
    message = exit_message(output.exit_code, output.stdout, output.stderr, context.mask)
    return StepResult(FailureReason.STEP_FAILED, message, exit_code=output.exit_code, snippet=words)
