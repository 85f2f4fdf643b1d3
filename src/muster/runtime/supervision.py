"""Background tasks with a name, an owner and an end."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, NoReturn


class Background:
    """Owns a set of named tasks. `async with` it: leaving cancels what still runs and waits for it.

    A task that dies of an exception is a bug: the exception is raised where the owner waits (`async with` ends),
    never swallowed, because the underlying TaskGroup cancels its siblings and re-raises. An error of the owner's own is
    raised as it is.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> "Background":
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            if group.exceptions != (error,):
                raise

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs `work` until it ends or the owner does."""
        task = self._group.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def __len__(self) -> int:
        return len(self._tasks)


def raise_first(failed: ExceptionGroup[Exception]) -> NoReturn:
    """Raises what went wrong first in a TaskGroup (the others were cancelled for it), or the cancellation of its owner.

    A group that fails at the moment when its owner is cancelled raises the errors alone (Python 3.11, TaskGroup): who
    then handled them and went on would never end.
    """
    owner = asyncio.current_task()
    if owner is not None and owner.cancelling():
        raise asyncio.CancelledError from failed
    raise failed.exceptions[0] from None
