"""`wait`: a pause, or until a condition on the phone holds."""

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.words import exit_message
from muster.agent.ports import PhoneError
from muster.recipe.model import WaitStep
from muster.recipe.render import render_command


async def run_wait(step: WaitStep, context: TaskContext) -> StepResult:
    """Ends when the pause is over or the condition holds; its step's limit ends it otherwise."""
    if step.until is None:
        await context.clock.sleep((step.duration_ms or 0) / 1000)
        return StepResult()
    command = render_command(step.until, context.values(step), allow_raw=context.settings.allow_raw_shell)
    looks = 1
    while (missing := await _missing(command, context)) is not None:
        context.waits_for = f"the condition does not hold after {looks} looks: {missing}"
        await context.clock.sleep(step.interval_ms / 1000)
        looks += 1
    return StepResult(exit_code=0, snippet=f"it held at look {looks}")


async def _missing(command: str, context: TaskContext) -> str | None:
    """Why it does not hold; None when it does. A phone that is away (it boots) does not fulfil it."""
    try:
        output = await context.shell(command)
    except PhoneError as error:
        return str(error)
    if output.exit_code == 0:
        return None
    return exit_message(output.exit_code, output.stdout, output.stderr, context.mask)
