"""`vendor`: an action of the vendor tool on this phone (spec/05).

Nothing of the vendor tool can be fenced: an action that was cut off may still happen, later, and is not tried again
unless its step says `idempotent: true`.
"""

import json
from typing import Final

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.words import snippet
from muster.agent.ports import ShellOutput
from muster.domain.failure import FailureReason
from muster.domain.limits import COMMAND_OUTPUT_BYTES_MAX
from muster.recipe.model import VendorStep
from muster.recipe.render import render_command, render_text
from muster.recipe.vendor_actions import COMMAND_PARAM, VendorAction, find_action, why_not

_MARGIN_SEC: Final = 0.5
"""So that a tool that never answers is told as such, and not as a step that took too long."""
_WAIT_SEC_MIN: Final = 0.1


async def run_vendor(step: VendorStep, context: TaskContext) -> StepResult:
    """Fails as `vendor_ws_error` or `vendor_command_error`; what the tool answers is kept as JSON for `assert`."""
    action = find_action(step.action)
    if action is None:
        return StepResult(FailureReason.VENDOR_COMMAND_ERROR, why_not(step.action))
    if action.is_raw and not context.settings.allow_raw_shell:
        message = f"{action.name} is not allowed on this node; its own settings decide (ALLOW_RAW_SHELL)"
        return StepResult(FailureReason.RAW_NOT_ALLOWED, message)
    data = _data(step, action, context)
    timeout_sec = max(context.left_sec - _MARGIN_SEC, _WAIT_SEC_MIN)
    answer = await context.phone().vendor(action.name, data, timeout_sec=timeout_sec)
    output = _output(answer)
    context.keep_output(step.id, output)
    return StepResult(
        exit_code=0,
        snippet=snippet(output.stdout, b"", truncated=output.truncated, mask=context.mask) if answer else None,
    )


def _data(step: VendorStep, action: VendorAction, context: TaskContext) -> dict[str, str]:
    """The step's params with their values, which come from everywhere but these params themselves."""
    values = context.values(None)
    data = {name: render_text(text, values) for name, text in step.params.items() if name != COMMAND_PARAM}
    if COMMAND_PARAM in step.params:
        command = step.params[COMMAND_PARAM]
        if not action.is_raw:
            return {**data, COMMAND_PARAM: render_text(command, values)}
        bare = render_command(command, values, allow_raw=context.settings.allow_raw_shell)
        # The tool's `adb` takes a line of the PC's adb: only its shell, never `push` or `-s` somewhere else.
        data[COMMAND_PARAM] = f"adb shell {bare}" if action.name == "adb" else bare
    return data


def _output(answer: object) -> ShellOutput:
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    data = text.encode("utf-8", "replace")
    return ShellOutput(0, data[:COMMAND_OUTPUT_BYTES_MAX], b"", truncated=len(data) > COMMAND_OUTPUT_BYTES_MAX)
