"""`kill -9` of the agent at drawn instants of its life: every phone ends in one state, and both records are one (R1.9).

`KILLS=200 CHAOS_SEED=7` for a long hunt; a seed gives the same instants, not the same interleaving.
"""

import os
import random
import time
from pathlib import Path

import pytest
from tests.chaos.ends import all_told, at_a_kill, dismissed, say, summary, verdict
from tests.chaos.kills import Kill, draw_kills, strike
from tests.chaos.record import JournalView
from tests.chaos.site import QUICK, Site, site
from tests.support.processes import Process

KILLS = int(os.environ.get("KILLS", "8"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
OPEN_RUNS_MAX = 2
TELL_EVERY = 20
STOPS_OF_100 = 12

pytestmark = [pytest.mark.system, pytest.mark.timeout(240 + 12 * KILLS), pytest.mark.xdist_group("processes")]


async def test_whenever_the_agent_is_killed_each_phone_ends_in_one_state_and_both_records_are_one(
    tmp_path: Path,
) -> None:
    rng, began = random.Random(SEED), time.monotonic()
    kills = draw_kills(rng, KILLS)
    say(f"{KILLS} kills from seed {SEED}")
    wrong: list[str] = []
    views: list[JournalView] = []
    async with site(tmp_path) as rig:
        for number, kill in enumerate(kills, 1):
            view, found = await one_life(rig, rng, kill)
            views.append(view)
            wrong += [f"kill {number} ({kill}): {text}" for text in found]
            if number % TELL_EVERY == 0:
                say(f"{number} done, {len(wrong)} things wrong")
        async with rig.agent() as last:
            await last.wait_for_line("muster agent PC-01 ready")
            await all_told(rig, last)
            wrong += await dismissed(rig, last)
    end, found = verdict(rig, views)
    say(summary(end, time.monotonic() - began))
    assert not [*wrong, *found], f"seed {SEED}:\n" + "\n".join([*wrong, *found])


async def feed(rig: Site, rng: random.Random, agent: Process) -> None:
    """Enough to do for this life; now and then somebody stops a run."""
    if not rig.max_attempts:
        await agent.wait_for_line("muster agent PC-01 ready")  # before that, nobody knows of any phone
    runs = await rig.open_runs()
    if runs and rng.randrange(100) < STOPS_OF_100:
        await rig.stop_run(rng.choice(runs))
    for _ in range(OPEN_RUNS_MAX - len(runs)):
        await rig.add_run(rng.choice(QUICK), rng.choice((1, 1, 2, 3)))


async def one_life(rig: Site, rng: random.Random, kill: Kill) -> tuple[JournalView, list[str]]:
    """An agent from its start to its kill: what its journal holds then, and what is wrong at that instant."""
    async with rig.agent() as agent:
        await feed(rig, rng, agent)
        await strike(rig, agent, kill)
    await rig.note_work()
    return at_a_kill(rig, agent)
