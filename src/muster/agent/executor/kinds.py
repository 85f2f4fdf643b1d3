"""Which runner does which kind of step."""

from typing import assert_never

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.pictures import VerifyPicture
from muster.agent.executor.steps.adb import run_adb
from muster.agent.executor.steps.assert_ import run_assert
from muster.agent.executor.steps.files import run_install, run_pull, run_push
from muster.agent.executor.steps.screenshot import Screenshots
from muster.agent.executor.steps.upload import run_upload
from muster.agent.executor.steps.vendor import run_vendor
from muster.agent.executor.steps.wait import run_wait
from muster.recipe.model import (
    AdbStep,
    AssertStep,
    InstallStep,
    PullStep,
    PushStep,
    ScreenshotStep,
    Step,
    UploadStep,
    VendorStep,
    WaitStep,
)


class StepKinds:
    """The kinds that this node can run; the type checker sees to it that none of the language is forgotten."""

    def __init__(self, verify: VerifyPicture) -> None:
        self._screenshots = Screenshots(verify)

    async def run(self, step: Step, context: TaskContext) -> StepResult:  # noqa: PLR0911 - one a kind
        """One try of a step. Raises PhoneError, RenderError, TemplateError, FileRefused."""
        match step:
            case AdbStep():
                return await run_adb(step, context)
            case ScreenshotStep():
                return await self._screenshots(step, context)
            case UploadStep():
                return await run_upload(step, context)
            case AssertStep():
                return await run_assert(step, context)
            case WaitStep():
                return await run_wait(step, context)
            case VendorStep():
                return await run_vendor(step, context)
            case InstallStep():
                return await run_install(step, context)
            case PushStep():
                return await run_push(step, context)
            case PullStep():
                return await run_pull(step, context)
        assert_never(step)


def asks_phone(step: Step) -> bool:
    """Whether its end says anything of the phone behind adb."""
    if isinstance(step, WaitStep):
        return step.until is not None
    return isinstance(step, (AdbStep, ScreenshotStep, InstallStep, PushStep, PullStep))
