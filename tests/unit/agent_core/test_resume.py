"""After `kill -9`: nothing recorded is lost, nothing hangs, nothing is told twice (R1.9)."""

import sqlite3
from pathlib import Path

import pytest
from tests.support.agent_parts import accept, narrator, opened_journal, run_start, tasks_of, told, types_of, uuid

from muster.agent.journal_tables import ADDED_BY_2, ADDED_BY_3, SCHEMA
from muster.agent.ports import TaskOutcome
from muster.agent.resume import resume
from muster.domain.task import TaskState

TELL = narrator()


async def test_queued_tasks_are_taken_up_again_in_their_order(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await accept(journal, run_start("B", "A"))
        await accept(journal, run_start("A", run=2))
    async with opened_journal(tmp_path) as journal:
        tasks = await resume(journal, TELL)
        assert tasks == [*tasks_of(run_start("B", "A")), *tasks_of(run_start("A", run=2))]
        assert await resume(journal, TELL) == tasks, "nothing changes until they are started"


async def test_a_task_that_was_running_ends_as_node_restarted_with_its_event(tmp_path: Path) -> None:
    start = run_start("A", "B", "C")
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        first, second, _ = tasks_of(start)
        await journal.begin_task(TELL.task_started(first, "usb-1"))
        await journal.begin_task(TELL.task_started(second, "usb-2"))
        done = TaskOutcome(TaskState.SUCCEEDED)
        await journal.end_task(TELL.task_finished(second, done, started_at_ms=None, duration_ms=None))
        before = len(await told(journal))
    async with opened_journal(tmp_path) as journal:
        assert [task.device_id for task in await resume(journal, TELL)] == ["C"]
        (event,) = (await told(journal))[before:]
        assert event["type"] == "task_finished"
        payload = event["payload"]
        assert (payload["device_id"], payload["status"], payload["failure_reason"], payload["seq"]) == (
            "A", "failed", "node_restarted", 2,
        )  # fmt: skip
    async with opened_journal(tmp_path) as journal:
        await resume(journal, TELL)
        assert len(await told(journal)) == before + 1, "a second restart tells nothing more"


async def test_the_run_is_finished_here_when_the_restart_ended_its_last_task(tmp_path: Path) -> None:
    start = run_start("A")
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        await journal.begin_task(TELL.task_started(tasks_of(start)[0], "usb-1"))
    async with opened_journal(tmp_path) as journal:
        assert await resume(journal, TELL) == []
        assert types_of(await told(journal))[-2:] == ["task_finished", "run_finished"]


async def test_a_journaled_run_that_this_version_cannot_read_ends_its_tasks(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await accept(journal, run_start("A"))
    with sqlite3.connect(tmp_path / "journal.sqlite3") as other:
        # As an older or newer version might have left it.
        other.execute("""UPDATE runs SET document = json_set(document, '$.definition.steps[0].kind', 'teleport')""")
    other.close()
    async with opened_journal(tmp_path) as journal:
        assert await resume(journal, TELL) == []
        (event,) = [event["payload"] for event in await told(journal) if event["type"] == "task_finished"]
        assert event["status"] == "failed"
        assert "teleport" in event["error_message"]


async def test_what_was_asked_to_end_ends_as_cancelled_whatever_it_was_doing(tmp_path: Path) -> None:
    start = run_start("A", "B", "C")
    running, queued, other = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        await journal.begin_task(TELL.task_started(running, "usb-1"))
        for number, task in enumerate((running, queued)):
            await journal.accept_cancel(TELL.command_ack(uuid(number, kind=7)), task.task_id)
    async with opened_journal(tmp_path) as journal:
        assert await resume(journal, TELL) == [other]
        ends = [event["payload"] for event in await told(journal) if event["type"] == "task_finished"]
        assert [(end["device_id"], end["status"]) for end in ends] == [("A", "cancelled"), ("B", "cancelled")]


@pytest.mark.parametrize(
    ("version", "schema"), [(1, SCHEMA), (2, SCHEMA + ADDED_BY_2), (3, SCHEMA + ADDED_BY_2 + ADDED_BY_3)]
)
async def test_a_journal_of_an_older_version_is_taken_over(tmp_path: Path, version: int, schema: str) -> None:
    with sqlite3.connect(tmp_path / "journal.sqlite3") as old:
        old.executescript(f"{schema} PRAGMA user_version = {version};")
    old.close()
    async with opened_journal(tmp_path) as journal:
        await accept(journal, run_start("A"))
        assert len(await resume(journal, TELL)) == 1
        assert await journal.open_orders() == []


async def test_a_task_that_was_cut_off_is_tried_again_while_it_has_attempts(tmp_path: Path) -> None:
    start = run_start("A", maxAttempts=2)
    (first,) = tasks_of(start)
    async with opened_journal(tmp_path) as journal:
        await accept(journal, start)
        await journal.begin_task(TELL.task_started(first, "usb-1"))
    async with opened_journal(tmp_path) as journal:
        (second,) = await resume(journal, TELL)
        assert second.attempt == 2
        told_last = (await told(journal))[-1]
        assert (told_last["type"], told_last["payload"]["failure_reason"]) == ("task_progress", "node_restarted")
        assert await journal.begin_task(TELL.task_started(second, "usb-1"))
    async with opened_journal(tmp_path) as journal:
        assert await resume(journal, TELL) == []
        assert (await told(journal))[-2]["payload"]["failure_reason"] == "node_restarted"
