"""A real agent whose writes and syncs fail at the system call: the backend's record still equals the journal's.

`STRACE_FAULTS=200 CHAOS_SEED=7` for a long hunt; `make chaos` does it, `make test` leaves it out (test_failing_store.py
is in it). strace joins the working agent, lets some calls fail, and leaves again.
"""

import asyncio
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.chaos.ends import all_told, dismissed, verdict
from tests.chaos.site import Site, site
from tests.support.processes import Process
from tests.support.waiting import until

FAULTS = int(os.environ.get("STRACE_FAULTS", "0"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
RECIPES = ("stored", "late", "steady")
OPEN_RUNS_MAX = 2
STRIKE_SEC_MAX = 60.0
# A disk that does not take a picture fails the step, and says so; it is held against no phone.
WITHOUT_PICTURE = ("failed", "upload_error")

pytestmark = [
    pytest.mark.skipif(FAULTS == 0, reason="a long hunt: make chaos, or STRACE_FAULTS=20"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="no strace here (Debian: apt-get install strace)"),
    pytest.mark.system,
    pytest.mark.timeout(240 + 15 * FAULTS),
    pytest.mark.xdist_group("processes"),
]


@dataclass(frozen=True)
class Injection:
    """So many calls fail, from the `first` that strace sees. `file`: in the agent's folder; None: in any."""

    call: str
    error: str
    file: str | None
    first: int
    times: int

    def options(self, folder: Path) -> list[str]:
        where = [] if self.file is None else ["-P", str(folder / self.file)]
        when = f"when={self.first}..{self.first + self.times - 1}"
        return [*where, "-e", f"trace={self.call}", "-e", f"inject={self.call}:error={self.error}:{when}"]

    def __str__(self) -> str:
        return f"{self.call} of {self.file or 'pictures'}: {self.error}"


WAL, DATABASE = "journal.sqlite3-wal", "journal.sqlite3"
# (call, error, file, the latest first one). The database is written when the log is full; pictures alone use fsync.
PLACES = (
    ("pwrite64", "EIO", WAL, 60),
    ("pwrite64", "ENOSPC", WAL, 60),
    ("fdatasync", "EIO", WAL, 20),
    ("fdatasync", "ENOSPC", WAL, 20),
    ("pwrite64", "ENOSPC", DATABASE, 3),
    ("fdatasync", "EIO", DATABASE, 1),
    ("fsync", "EIO", None, 10),
    ("rename", "ENOSPC", None, 5),
)


def draw(rng: random.Random) -> Injection:
    """Places in proportion to how much happens there."""
    call, error, file, latest = rng.choices(PLACES, weights=(6, 4, 6, 2, 1, 1, 2, 2))[0]
    return Injection(call, error, file, rng.randint(1, latest), rng.choice((1, 1, 2, 5, 20)))


@dataclass
class Tracer:
    """strace at work on a process."""

    log: Path

    @property
    def struck(self) -> int:
        return self.log.read_text(errors="replace").count("(INJECTED)") if self.log.exists() else 0


@asynccontextmanager
async def traced(agent: Process, injection: Injection, folder: Path) -> AsyncIterator[Tracer]:
    """As long as it is open, the calls fail."""
    log = folder / "strace.log"
    log.unlink(missing_ok=True)
    options = ["-f", "-q", "-o", str(log), "-p", str(agent.process.pid)]
    process = await asyncio.create_subprocess_exec(
        "strace", *options, *injection.options(folder / "node" / "agent"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        status = Path(f"/proc/{agent.process.pid}/status")
        await until(lambda: process.returncode is not None or "TracerPid:\t0" not in status.read_text())
        if process.returncode is not None and process.stderr is not None:
            pytest.skip(f"strace may not join a process here: {(await process.stderr.read()).decode().strip()}")
        yield Tracer(log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def one_fault(rig: Site, rng: random.Random, agent: Process, injection: Injection) -> int:
    """Work, and calls of it that fail; answers how many did."""
    for _ in range(OPEN_RUNS_MAX - len(await rig.open_runs())):
        await rig.add_run(rng.choice(RECIPES))
    async with traced(agent, injection, rig.folder) as tracer, asyncio.timeout(STRIKE_SEC_MAX):
        while tracer.struck < injection.times and await rig.open_runs():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)
        return tracer.struck


async def test_whatever_call_fails_nothing_that_was_acknowledged_is_lost_and_both_records_are_one(
    tmp_path: Path,
) -> None:
    rng, began = random.Random(SEED), time.monotonic()
    struck: Counter[str] = Counter()
    async with site(tmp_path) as rig, rig.agent() as agent:
        await agent.wait_for_line("muster agent PC-01 ready")
        for _ in range(FAULTS):
            injection = draw(rng)
            struck[str(injection)] += await one_fault(rig, rng, agent, injection)
        await all_told(rig, agent)
        wrong = await dismissed(rig, agent)
        end, found = verdict(rig, [], also=[WITHOUT_PICTURE])
    ends = Counter(f"{task.state}/{task.reason}" for task in end.tasks.values())
    sys.stderr.write(f"strace: {dict(struck)}; {dict(ends)} in {time.monotonic() - began:.0f} s\n")
    assert struck.total() > FAULTS / 2, "the faults must strike"
    assert not [*wrong, *found], f"seed {SEED}:\n" + "\n".join([*wrong, *found])
