"""Background tasks: what their owner says when it ends by an error of its own, or by one of theirs."""

import asyncio

import pytest

from muster.runtime.supervision import Background, raise_first


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


async def group_that_fails(is_failing: asyncio.Event, may_end: asyncio.Event) -> None:
    begun = asyncio.Event()

    async def ends_slowly() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            is_failing.set()
            await may_end.wait()

    try:
        async with asyncio.TaskGroup() as group:
            _ = group.create_task(ends_slowly())
            await begun.wait()
            raise NotToBeDone("the disk is full")
    except ExceptionGroup as failed:
        raise_first(failed)


async def test_what_went_wrong_first_in_a_group_is_raised_by_its_own_name() -> None:
    may_end = asyncio.Event()
    may_end.set()
    with pytest.raises(NotToBeDone, match="the disk is full"):
        await group_that_fails(asyncio.Event(), may_end)


async def test_a_cancellation_is_not_lost_that_comes_while_a_group_is_failing() -> None:
    is_failing, may_end = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(group_that_fails(is_failing, may_end))
    await is_failing.wait()
    task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
