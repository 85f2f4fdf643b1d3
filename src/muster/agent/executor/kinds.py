"""Which runner does which kind of step."""

from typing import assert_never

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.pictures import VerifyPicture
from muster.agent.executor.steps.adb import run_adb
from muster.agent.executor.steps.assert_ import run_assert
from muster.agent.executor.steps.screenshot import Screenshots
from muster.agent.executor.steps.upload import run_upload
from muster.recipe.model import AdbStep, AssertStep, ScreenshotStep, Step, UploadStep


class StepKinds:
    """The kinds that this node can run; the type checker sees to it that none of the language is forgotten."""

    def __init__(self, verify: VerifyPicture) -> None:
        self._screenshots = Screenshots(verify)

    async def run(self, step: Step, context: TaskContext) -> StepResult:
        """One try of a step. Raises PhoneError, RenderError, TemplateError."""
        match step:
            case AdbStep():
                return await run_adb(step, context)
            case ScreenshotStep():
                return await self._screenshots(step, context)
            case UploadStep():
                return await run_upload(step, context)
            case AssertStep():
                return await run_assert(step, context)
        assert_never(step)
