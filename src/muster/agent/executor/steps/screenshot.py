"""`screenshot`: a picture of the phone, verified to be whole, safe on this node's disk before the step ends."""

import asyncio

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.pictures import PictureError, VerifyPicture
from muster.agent.ports import SpoolError
from muster.domain.failure import FailureReason
from muster.recipe.model import ScreenshotStep


class Screenshots:
    """Takes screenshots. Decoding takes a CPU for a tenth of a second, so only `decoders` at once do."""

    def __init__(self, verify: VerifyPicture, decoders: int = 2) -> None:
        self._verify = verify
        self._decoding = asyncio.Semaphore(decoders)

    async def __call__(self, step: ScreenshotStep, context: TaskContext) -> StepResult:
        """Fails as `screenshot_error` when what came is no whole picture.

        As `upload_error` when this node cannot keep it for its upload: that is the node's fault, and not the phone's.
        """
        data = await context.phone().screenshot(left_sec=context.left_sec)
        try:
            async with self._decoding:
                png = await self._verify(data)
        except PictureError as error:
            return StepResult(FailureReason.SCREENSHOT_ERROR, f"no whole picture came: {error}")
        try:
            artifact = await context.spool.add(context.task, step.id, png)
        except SpoolError as error:
            return StepResult(FailureReason.UPLOAD_ERROR, str(error))
        context.pictures[step.id] = artifact
        return StepResult(snippet=f"{artifact.size} bytes, sha256 {artifact.sha256}")
