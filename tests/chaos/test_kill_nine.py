"""`kill -9` of the agent at drawn instants of its life: every phone ends in one state, and both records are one (R1.9).

`KILLS=200 CHAOS_SEED=7` for a long hunt; a seed gives the same instants, not the same interleaving.
"""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tests.chaos import checks
from tests.chaos.kills import Kill, draw_kills, strike
from tests.chaos.record import JournalView, read_backend, read_journal
from tests.chaos.site import Site, site
from tests.support.processes import Process

from muster.adb.binary import find_adb

KILLS = int(os.environ.get("KILLS", "8"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
OPEN_RUNS_MAX = 2
STOPS_OF_100 = 12

pytestmark = [pytest.mark.system, pytest.mark.timeout(240 + 12 * KILLS), pytest.mark.xdist_group("processes")]


async def test_whenever_the_agent_is_killed_each_phone_ends_in_one_state_and_both_records_are_one(
    tmp_path: Path,
) -> None:
    rng, began = random.Random(SEED), time.monotonic()
    kills = draw_kills(rng, KILLS)
    say(f"{KILLS} kills from seed {SEED}")
    wrong: list[str] = []
    async with site(tmp_path) as rig:
        views: list[JournalView] = []
        for number, kill in enumerate(kills, 1):
            view, found = await one_life(rig, rng, kill)
            views.append(view)
            wrong += [f"kill {number} ({kill}): {text}" for text in found]
        async with rig.agent() as last:
            await last.wait_for_line("muster agent PC-01 ready")
            await all_told(rig, last)
            last.interrupt()
            assert await last.ended() == 0, last.output
        wrong += [f"the last agent: {line}" for line in last.lines if "Traceback" in line]
        await rig.note_work()
        wrong += [f"forward left: {line}" for line in forwards(rig)]
        wrong += checks.leftovers(rig)
        end, backend = read_journal(rig.journal), read_backend(rig.database)
    for view in views:
        wrong += [*checks.changed_after_the_end(view, end), *checks.lost(view, backend)]
    wrong += [*checks.left_open(end, backend), *checks.not_the_same(end, backend)]
    wrong += [*checks.wrongly_ended(rig, views, end), *checks.crowded(rig.work)]
    wrong += checks.broken_objects(backend, rig.objects)
    say(summary(end, time.monotonic() - began))
    assert not wrong, f"seed {SEED}:\n" + "\n".join(dict.fromkeys(wrong))


async def feed(rig: Site, rng: random.Random, agent: Process) -> None:
    """Enough to do for this life; now and then somebody stops a run."""
    if not rig.max_attempts:
        await agent.wait_for_line("muster agent PC-01 ready")  # before that, nobody knows of any phone
    runs = await rig.open_runs()
    if runs and rng.randrange(100) < STOPS_OF_100:
        await rig.stop_run(rng.choice(runs))
    for _ in range(OPEN_RUNS_MAX - len(runs)):
        await rig.add_run(rng)


async def one_life(rig: Site, rng: random.Random, kill: Kill) -> tuple[JournalView, list[str]]:
    """An agent from its start to its kill: what its journal holds then, and what is wrong at that instant."""
    async with rig.agent() as agent:
        await feed(rig, rng, agent)
        await strike(rig, agent, kill)
    wrong = [f"the agent says {line}" for line in agent.lines if "Traceback" in line]
    backend, journal = read_backend(rig.database), read_journal(rig.journal)
    wrong += [*checks.ahead_of_journal(journal, backend), *checks.unsafe_pictures(journal, rig.data / "spool")]
    await rig.note_work()
    return journal, wrong


async def all_told(rig: Site, agent: Process) -> None:
    """Waits until no run is open and the journal has nothing left to tell or to store."""
    try:
        async with asyncio.timeout(150):
            while await rig.open_runs() or (view := read_journal(rig.journal)).outbox or view.spool:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        view = read_journal(rig.journal)
        open_tasks = [task for task in view.tasks.values() if task.is_open]
        raise AssertionError(f"{open_tasks} {view.outbox} {view.spool}\n{agent.output}") from None


def forwards(rig: Site) -> list[str]:
    port = rig.adb.rpartition(":")[2]
    listed = subprocess.run([find_adb(), "-P", port, "forward", "--list"], capture_output=True, text=True, check=True)
    return listed.stdout.split()


def summary(end: JournalView, seconds: float) -> str:
    ends = Counter(f"{task.state}/{task.reason}" for task in end.tasks.values())
    attempts = Counter(task.attempt for task in end.tasks.values())
    return f"{len(end.tasks)} tasks in {seconds:.1f} s: {dict(ends)}, attempts {dict(sorted(attempts.items()))}"


def say(line: str) -> None:
    sys.stderr.write(f"kill -9: {line}\n")
