"""The world sees bugs: each small named change to the agent's source is found within a few seeds."""

import subprocess
import sys

import pytest
from tests.world.mutants import MUTANTS

OF_THE_ISSUE = {
    "lock released before teardown", "slot leaked on cancel", "fifo broken on retry", "grace timer not cleared",
    "event written after the state", "duplicate applied", "seq restarted", "dead letter blocking",
    "terminal state overwritten", "parked task forgotten", "drain that drops", "stale attempt obeyed",
}  # fmt: skip


def test_the_bugs_that_were_promised_to_be_found_are_there() -> None:
    names = {mutant.name.split(":")[0] for mutant in MUTANTS}
    assert names >= OF_THE_ISSUE


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_the_world_finds(name: str) -> None:
    command = [sys.executable, "-m", "tests.world.mutants", name]
    hunt = subprocess.run(command, capture_output=True, text=True, timeout=380, check=False)
    assert hunt.returncode == 0, hunt.stdout + hunt.stderr
    assert ": Violation: " in hunt.stdout, "found by a promise, in words"
    assert not any(words in hunt.stdout for words in ("ended by itself", "unhandled", "the agent says")), hunt.stdout
