"""Worlds that found a bug, by name. Each also has a unit test of the behaviour.

A world pins its bug as long as it finds it when it is put back (`mended`): both are tested. Whatever changes what the
agent awaits makes another world of a seed; a bug may have several, of which one must still find it. When none does any
more, others are drawn by `python -m tests.world.mutants "NAME OF THE BUG"`.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.world.mended import MENDED
from tests.world.world import run_seed

# What went wrong: the bug by its name in `mended`, and seeds of worlds with its kinds of fault that find it.
FOUND: dict[str, tuple[str, tuple[int, ...]]] = {
    "a stop was forgotten that came while a step that had run out of its time was being torn down": (
        "stop forgotten in a teardown",
        (243, 1445),
    ),
    "a parked task that was handed out again had a slot before phones that had waited longer": (
        "another attempt inherits the next slot",
        (2,),
    ),
    "a phone's connection was made anew under the hands of its next task": (
        "repaired under a task's hands",
        (37, 101),
    ),
    "an agent that could not start for a full disk said so in a trace, when phones were cared for": (
        "an owner's error told as a group",
        (14, 209),
    ),
    "a picture's file stayed when a kill came between the store's answer and the file's removal": (
        "stored picture's file kept after a kill",
        (84, 5),
    ),
}
# No world is known that finds these again, since each part of a world draws from a stream of its own: their tests.
UNIT_TESTED = {
    "a picture's file stayed when the task's limit struck while it was being written": (
        "unit/agent_core/test_spool.py",
        "test_the_file_of_a_task_that_was_cut_off_while_it_was_written_is_swept",
    ),
    "a clock that was put back let the newer events of a task go before the older ones": (
        "property/test_batch_properties.py",
        "test_a_batch_takes_of_each_subject_its_oldest_without_a_gap",
    ),
    "a phone's connection was made anew although it answered its waiting task again": (
        "unit/agent_care/test_repair_turns.py",
        "test_a_phone_that_answers_who_missed_it_is_not_repaired_under_its_hands",
    ),
    "an attempt that was called stale while the agent started was taken up all the same": (
        "unit/agent_core/test_stale_at_start.py",
        "test_a_task_that_is_called_stale_while_the_agent_starts_is_not_taken_up",
    ),
    "an attempt that was called stale was taken up after a kill that came before it was stopped": (
        "unit/agent_core/test_stale_at_start.py",
        "test_an_attempt_that_was_called_stale_before_a_kill_is_taken_up_by_no_later_life",
    ),
    "a phone that another agent had let go waited for a disk that was full": (
        "unit/agent_core/test_loop_waiting.py",
        "test_a_disk_that_cannot_be_told_of_the_wait_for_a_lock_does_not_lengthen_it",
    ),
    "a phone was repaired under the hands of a task that had waited for it in vain and went on": (
        "unit/agent_care/test_repair_turns.py",
        "test_a_phone_is_not_repaired_under_the_hands_of_a_task_that_has_waited_for_it_in_vain_and_goes_on",
    ),
    "an end waited half a minute for a disk that had room again": (
        "unit/agent_core/test_loop_ends.py",
        "test_when_a_disk_that_was_full_for_long_has_room_again_an_end_is_recorded_within_seconds",
    ),
    "a picture's file stayed when the journal could not record it (disk full)": (
        "unit/agent_core/test_spool.py",
        "test_a_picture_that_the_journal_does_not_take_leaves_no_file_behind",
    ),
}
_BUGS = {mutant.name: mutant for mutant in MENDED}


@pytest.mark.parametrize("what", FOUND)
def test_it_stays_mended(what: str) -> None:
    bug, seeds = FOUND[what]
    for seed in seeds:
        told = run_seed(seed, _BUGS[bug].faults)
        assert told.violation is None, f"seed {told.seed}: {told.violation}\n{told.story}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", FOUND)
def test_its_worlds_would_find_it_again(what: str) -> None:
    bug, seeds = FOUND[what]
    command = [sys.executable, "-m", "tests.world.mutants", bug, *map(str, seeds)]
    hunt = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert hunt.returncode == 0, f"these worlds pin nothing any more; draw others\n{hunt.stdout}{hunt.stderr}"


@pytest.mark.parametrize("what", UNIT_TESTED)
def test_what_no_world_finds_again_has_its_own_test(what: str) -> None:
    path, test = UNIT_TESTED[what]
    assert f"def {test}(" in (Path(__file__).parents[1] / path).read_text(encoding="utf-8")
