"""`upload`: a picture of this task to the object store. What does not get through stays in the spool (spec/07)."""

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.ports import UploadError
from muster.domain.failure import FailureReason
from muster.recipe.model import UploadStep


async def run_upload(step: UploadStep, context: TaskContext) -> StepResult:
    """The picture of step `source`; the task's outcome then carries where it lies."""
    picture = context.pictures.get(step.source)
    if picture is None:
        return StepResult(FailureReason.UPLOAD_ERROR, f"there is nothing to upload: step {step.source} took no picture")
    try:
        context.stored = await context.spool.upload(picture)
    except UploadError as error:
        return StepResult(
            FailureReason.UPLOAD_ERROR, f"{context.mask(str(error))}; the picture is kept and sent again later"
        )
    return StepResult(snippet=context.stored.storage_path)
