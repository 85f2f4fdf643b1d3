"""`install`, `push`, `pull`: files between the node's library and the phone, by adb's file service.

The bytes of a file cannot be fenced; a transfer that was cut off may leave a part of it on the phone. `pm install` is a
command, and is fenced.
"""

import asyncio
from pathlib import Path, PurePosixPath

from muster.agent.executor.context import StepResult, TaskContext
from muster.agent.executor.words import exit_message, snippet
from muster.agent.file_library import FileLibrary, FileRefused
from muster.domain.failure import FailureReason
from muster.domain.limits import PULL_BYTES_MAX
from muster.recipe.file_names import why_no_phone_path
from muster.recipe.model import InstallStep, PullStep, PushStep
from muster.recipe.render import quote, render_text


async def run_install(step: InstallStep, context: TaskContext) -> StepResult:
    """`pm install -r -g`: a new app, or an update of one that is there, with its permissions granted."""
    source = await _library(context).find(render_text(step.source, context.values(step)), is_apk=True)
    # The same for each try, so that what a cut-off one has left is written over.
    remote = f"/data/local/tmp/muster-{step.id}.apk"
    await _push(context, source, remote)
    path = quote(remote)
    output = await context.shell(f"pm install -r -g {path}; status=$?; rm -f {path}; exit $status")
    words = snippet(output.stdout, output.stderr, truncated=output.truncated, mask=context.mask)
    # Phones before Android 7 end with 0 whatever happens; their words tell.
    if output.exit_code == 0 and b"Success" in output.stdout:
        return StepResult(exit_code=0, snippet=words)
    why = exit_message(output.exit_code, output.stdout, output.stderr, context.mask)
    return StepResult(
        FailureReason.STEP_FAILED, f"{source.name} was not installed: {why}", exit_code=output.exit_code, snippet=words
    )


async def run_push(step: PushStep, context: TaskContext) -> StepResult:
    """A file of the library to the phone; folders on its way are made by the phone."""
    values = context.values(step)
    source = await _library(context).find(render_text(step.source, values))
    size = await _push(context, source, _phone_path(render_text(step.target, values)))
    return StepResult(snippet=f"{size} bytes")


async def run_pull(step: PullStep, context: TaskContext) -> StepResult:
    """A file of the phone into the library, below `pulled/`, where no recipe can name it."""
    remote, library = _phone_path(render_text(step.source, context.values(step))), _library(context)
    task = context.task
    place = await library.place_for(task.run.run_id, task.device_id, step.id, PurePosixPath(step.source).suffix)
    try:
        size = await context.phone().pull(remote, place, bytes_max=PULL_BYTES_MAX)
    except OSError as error:
        raise FileRefused(f"this node's disk does not take the file: {error.strerror}") from error
    return StepResult(snippet=f"{size} bytes in {library.shown(place)}")


def _library(context: TaskContext) -> FileLibrary:
    return FileLibrary(context.settings.files_folder)


def _phone_path(path: str) -> str:
    if why := why_no_phone_path(path):
        raise FileRefused(why)
    return path


async def _push(context: TaskContext, source: Path, remote: str) -> int:
    try:
        size = (await asyncio.to_thread(source.stat)).st_size
        await context.phone().push(source, remote)
    except OSError as error:
        raise FileRefused(f"{source.name} cannot be read: {error.strerror}") from error
    return size
