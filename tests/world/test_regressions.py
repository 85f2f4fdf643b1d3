"""Worlds that found a bug, by name. Each also has a unit test of the behaviour, and a mutant where one fits."""

import pytest
from tests.world.world import run_seed

FOUND = {
    "a stop was forgotten that came while a step that had run out of its time was being torn down": 263,
    "a parked task that was handed out again had a slot before phones that had waited longer": 5223,
    "a clock that was put back let the newer events of a task go before the older ones": 7363,
    "a phone's connection was made anew under the hands of its next task": 54,
    "a phone's connection was made anew although it answered its waiting task again": 141,
    "an agent that could not start for a full disk said so in a trace, when phones were cared for": 19,
    "a picture's file stayed when a kill came between the store's answer and the file's removal": 88,
    "a picture's file stayed when the task's limit struck while it was being written": 213,
    "a picture's file stayed when the journal could not record it (disk full)": 586,
}


@pytest.mark.parametrize("what", FOUND)
def test_it_stays_mended(what: str) -> None:
    told = run_seed(FOUND[what])
    assert told.violation is None, f"seed {told.seed}: {told.violation}\n{told.story}"
