"""The world sees bugs: each small named change to the agent's source is found within a few seeds."""

import subprocess
import sys

import pytest
from tests.world.mutants import MUTANTS


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_the_world_finds(name: str) -> None:
    command = [sys.executable, "-m", "tests.world.mutants", name]
    hunt = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert hunt.returncode == 0, hunt.stdout + hunt.stderr
    assert "Violation" in hunt.stdout or "Standstill" in hunt.stdout
