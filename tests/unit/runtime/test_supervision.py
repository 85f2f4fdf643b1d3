"""Background tasks: what their owner says when it ends by an error of its own, or by one of theirs."""

import asyncio

import pytest

from muster.runtime.supervision import Background


class NotToBeDone(Exception):
    """Why, fit for an operator."""


async def test_an_error_of_the_owners_own_is_raised_as_it_is() -> None:
    with pytest.raises(NotToBeDone, match="the disk is full"):
        async with Background() as background:
            _ = background.start("waits", asyncio.Event().wait())
            raise NotToBeDone("the disk is full")


async def test_an_error_of_a_background_task_is_never_swallowed() -> None:
    async def breaks() -> None:
        raise KeyError("a bug")

    with pytest.raises(ExceptionGroup) as raised:
        async with Background() as background:
            _ = background.start("breaks", breaks())
            await asyncio.Event().wait()
    assert [type(error) for error in raised.value.exceptions] == [KeyError]


async def test_an_error_of_the_owner_does_not_hide_one_of_a_task() -> None:
    async def breaks_on_its_way_out() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("a bug")

    with pytest.raises(ExceptionGroup) as raised:
        async with Background() as background:
            _ = background.start("breaks", breaks_on_its_way_out())
            await asyncio.sleep(0)
            raise NotToBeDone("the disk is full")
    assert {type(error) for error in raised.value.exceptions} == {NotToBeDone, KeyError}
