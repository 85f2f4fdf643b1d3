"""Waiting for a signal or for a time, whichever comes first, on a clock that is passed in."""

import asyncio

from muster.runtime.clock import Clock


async def set_within(event: asyncio.Event, seconds: float, clock: Clock) -> bool:
    """Whether `event` is set before `seconds` have passed; does not clear it."""
    if event.is_set() or seconds <= 0:
        return event.is_set()
    signal = asyncio.create_task(event.wait(), name="signal")
    alarm = asyncio.create_task(clock.sleep(seconds), name="alarm")
    try:
        await asyncio.wait({signal, alarm}, return_when=asyncio.FIRST_COMPLETED)
        return event.is_set()
    finally:
        signal.cancel()
        alarm.cancel()
        await asyncio.gather(signal, alarm, return_exceptions=True)
