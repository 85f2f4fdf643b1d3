"""The end of a hunt: everything is told, everybody has left, both records are compared."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Sequence

from tests.chaos import checks
from tests.chaos.record import BackendView, JournalView, read_backend, read_journal
from tests.chaos.site import Site
from tests.support.processes import Process

from muster.adb.binary import find_adb

TOLD_SEC_MAX = 150.0


async def all_told(rig: Site, agent: Process) -> None:
    """Waits until no run is open and the journal has nothing left to tell or to store."""
    try:
        async with asyncio.timeout(TOLD_SEC_MAX):
            while await rig.open_runs() or (view := read_journal(rig.journal)).outbox or view.spool:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        view = read_journal(rig.journal)
        open_tasks = [task for task in view.tasks.values() if task.is_open]
        raise AssertionError(f"{open_tasks} {view.outbox} {view.spool}\n{agent.output}") from None


async def dismissed(rig: Site, agent: Process) -> list[str]:
    """The agent drains and ends; what it leaves behind, and what it said that nobody should have to read."""
    agent.interrupt()
    assert await agent.ended() == 0, agent.output
    await rig.note_work()
    return [*bugs(agent), *(f"forward left: {line}" for line in forwards(rig)), *checks.leftovers(rig)]


def verdict(
    rig: Site, views: Sequence[JournalView], also: Collection[tuple[str, str]] = ()
) -> tuple[JournalView, list[str]]:
    """The journal at the end, and everything that is wrong. `views`: the journal at each kill of the agent.

    `also`: how a task may end besides (state, reason).
    """
    end, backend = read_journal(rig.journal), read_backend(rig.database)
    wrong: list[str] = []
    for view in views:
        wrong += [*checks.changed_after_the_end(view, end), *checks.lost(view, backend)]
    wrong += [*checks.left_open(end, backend), *checks.not_the_same(end, backend)]
    wrong += [*checks.wrongly_ended(rig, views, end, also), *checks.crowded(rig.work)]
    wrong += checks.broken_objects(backend, rig.objects)
    return end, list(dict.fromkeys(wrong))


def at_a_kill(rig: Site, agent: Process) -> tuple[JournalView, list[str]]:
    """What the journal holds when the agent has just died, and what is wrong at that instant."""
    backend: BackendView = read_backend(rig.database)
    journal = read_journal(rig.journal)
    return journal, [
        *bugs(agent),
        *checks.ahead_of_journal(journal, backend),
        *checks.unsafe_pictures(journal, rig.data / "spool"),
    ]


def bugs(agent: Process) -> list[str]:
    """What it said from its first trace on: nobody should have to read any."""
    first = next((number for number, line in enumerate(agent.lines) if "Traceback" in line), None)
    return [] if first is None else ["the agent says " + "\n".join(agent.lines[first : first + 60])]


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
