"""Waiting for a condition that no signal announces, e.g. a file that another thread writes."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_LOOK_SEC = 0.005


async def until(condition: Callable[[], T], *, within_sec: float = 60.0) -> T:
    """The first truthy result of `condition`. Raises TimeoutError."""
    async with asyncio.timeout(within_sec):
        while not (result := condition()):  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(_LOOK_SEC)
        return result
