"""`muster sim` as a program: a rack that runs until it is told to stop."""

import asyncio
from collections.abc import Callable

from muster.sim.profile import ProfileInvalid
from muster.sim.rack import Rack, RackNotReady
from muster.sim.settings import RackSettings

__all__ = ["Rack", "RackNotReady", "RackSettings", "run_rack"]


async def run_rack(settings: RackSettings, *, on_ready: Callable[[str], None]) -> None:
    """Runs a rack until cancelled; then everything is closed, and a private adb server that it started is ended.

    `on_ready` gets the line that tells where everything is, once every phone that should be is `device`. Raises
    RackNotReady when that takes too long or the profile is wrong, and what `ensure_server` raises when there can be no
    adb server.
    """
    try:
        rack = Rack(settings)
    except ProfileInvalid as error:
        raise RackNotReady("\n  ".join((f"{settings.profile} is no profile:", *error.problems))) from error
    async with rack:
        on_ready(rack.ready_text())
        await asyncio.Event().wait()
