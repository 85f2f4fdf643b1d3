"""When an agent is killed: drawn from a seed, so that a find can be tried again."""

import asyncio
import random
from dataclasses import dataclass
from enum import Enum

from tests.chaos.site import Site
from tests.support.processes import Process


class Moment(Enum):
    STARTING = "between the opening of its journal and its ready line"
    WORKING = "at work"
    DRAINING = "after SIGTERM"
    TURNED_BACK = "after SIGTERM on its way up"


@dataclass(frozen=True)
class Kill:
    """`after_sec`: from the opening of the data folder (on its way up) or the ready line. `drain_sec`: from SIGTERM."""

    moment: Moment
    after_sec: float
    drain_sec: float = 0.0


def draw_kills(rng: random.Random, count: int) -> list[Kill]:
    """Each moment comes early, whatever the count."""
    moments = [Moment.WORKING, Moment.STARTING, Moment.DRAINING]
    moments += [rng.choices(list(Moment), weights=(3, 5, 2, 1))[0] for _ in range(count - len(moments))]
    return [_draw(rng, moment) for moment in moments[:count]]


def _draw(rng: random.Random, moment: Moment) -> Kill:
    match moment:
        case Moment.STARTING:
            return Kill(moment, rng.uniform(0, 0.8))
        case Moment.WORKING:
            return Kill(moment, rng.uniform(0, 1.2))
        case Moment.DRAINING | Moment.TURNED_BACK:
            return Kill(moment, rng.uniform(0, 0.8), rng.uniform(0, 0.6))


async def strike(rig: Site, agent: Process, kill: Kill) -> None:
    """Waits for the instant, then `kill -9`; returns when the process is gone."""
    await rig.opened(agent)
    if kill.moment in (Moment.WORKING, Moment.DRAINING):
        await agent.wait_for_line("muster agent PC-01 ready")
    await asyncio.sleep(kill.after_sec)
    is_asked = kill.moment in (Moment.DRAINING, Moment.TURNED_BACK)
    if is_asked:
        agent.interrupt()
        await asyncio.sleep(kill.drain_sec)
    if agent.process.returncode is None:
        agent.process.kill()
    status = await agent.ended()
    # A drain may be quicker than its kill.
    allowed = (-9, 0) if is_asked else (-9,)
    assert status in allowed, f"the agent ended by itself with {status}:\n{agent.output}"
