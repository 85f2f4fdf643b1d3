"""The whole agent under faults: 200 worlds here, 10,000 by `make chaos` (WORLD_SEEDS)."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from tests.world.faults import KINDS, draw
from tests.world.world import run_seed

SEEDS = int(os.environ.get("WORLD_SEEDS", "200"))
CHUNK = 10 if SEEDS <= 200 else 100


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds_under_faults_and_everything_finishes_after_them(first: int) -> None:
    for seed in range(first, min(first + CHUNK, SEEDS)):
        told = run_seed(seed)
        assert told.violation is None, (
            f"seed {seed}: {told.violation}\nagain: .venv/bin/python -m tests.world {seed}\n{told.story}"
        )


@pytest.mark.parametrize("seed", [3, 14, 15, 92, 65])
def test_the_same_seed_makes_the_same_world(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert (first.digest, first.virtual_sec, first.lives) == (second.digest, second.virtual_sec, second.lives)
    assert first.digest != run_seed(seed + 1).digest


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(84, 84 + max(SEEDS // 10, 40), 20))
def test_a_seed_makes_the_same_world_in_another_process_whose_strings_hash_otherwise(first: int) -> None:
    """Not in each world does the order of a set show: 20, 87, 110 and 226 were others when a drain stopped a set."""

    def made(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.world", str(first), "10"]
        other = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        return other.stdout + other.stderr

    assert made("1") == made("5")


def test_two_hundred_seeds_draw_every_kind_of_fault_and_worlds_without_any() -> None:
    plans = [draw(seed) for seed in range(200)]
    assert set().union(*(plan.kinds for plan in plans)) == set(KINDS)
    assert any(not plan.kinds for plan in plans)
    assert {plan.slots for plan in plans} == {1, 2, 3, 5, 20}
    assert any(len(plan.runs) > 1 for plan in plans)


@pytest.mark.parametrize("new", KINDS)
def test_a_new_kind_of_fault_changes_nothing_of_the_others(new: str) -> None:
    for seed in range(20):
        before, after = draw(seed, among=[kind for kind in KINDS if kind != new]), draw(seed)
        assert [spell for spell in after.spells if spell.kind != new] == list(before.spells)
        others = replace(after, spells=before.spells, kinds=after.kinds - {new}, **_WITHOUT.get(new, {}))
        if new == "bad_command":
            others = replace(others, runs=tuple(replace(run, is_readable=True) for run in after.runs))
        assert others == before


_WITHOUT: dict[str, dict[str, Any]] = {
    "slow": {"slowness": {}},
    "fail": {"fails": {}},
    "stuck": {"teardown_sec": {}},
    "node_lost": {"node_lost_after_sec": math.inf},
}
