"""Whatever the link does, every event is delivered, applied once, and each task's events come in their order."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.agent_parts import (
    HastyClock,
    MemoryBackend,
    accept,
    broken,
    narrator,
    opened_journal,
    run_start,
    seeded,
    step,
    tasks_of,
)
from tests.support.examples import examples

from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.link import LinkError, LinkRefused
from muster.agent.outbox import OutboxSender
from muster.agent.ports import Task, TaskOutcome
from muster.contracts.events import EventVerdict
from muster.domain.task import TaskState
from muster.runtime.ids import id_source
from muster.runtime.supervision import Background

TELL = narrator()
DEVICES = ["A", "B", "C"]
EVENTS_OF_A_TASK = 4
FAULTS = st.sampled_from(["none", "request lost", "answer lost", "batch refused", "one event refused for now"])


def misbehaving(faults: Sequence[str]) -> MemoryBackend:
    """A backend whose n-th callback goes as `faults[n]` says; after the script all is well."""
    script = iter(faults)
    current = "none"

    def before(events: Sequence[dict[str, Any]]) -> LinkError | None:
        nonlocal current
        current = next(script, "none")
        if current == "batch refused" and len(events) > 1:
            return LinkRefused(413, "too large")
        return broken() if current == "request lost" else None

    def judge(event: dict[str, Any]) -> EventVerdict | None:
        if current == "one event refused for now" and event["payload"].get("device_id") == "B":
            return EventVerdict(event_id=event["event_id"], ok=False, status=503)
        return None

    return MemoryBackend(
        before_callback=before,
        judge=judge,
        after_callback=lambda _events: broken() if current == "answer lost" else None,
    )


async def work(journal: SqliteJournal, task: Task, number: int) -> None:
    """The n-th event of a task."""
    if number == 0:
        await journal.begin_task(TELL.task_started(task, "usb"))
    elif number == EVENTS_OF_A_TASK - 1:
        end = TaskOutcome(TaskState.SUCCEEDED)
        await journal.end_task(TELL.task_finished(task, end, started_at_ms=None, duration_ms=None))
    else:
        await journal.record_progress(TELL.task_progress(task, step()))


async def deliver(folder: Path, backend: MemoryBackend, restart_after: int) -> None:
    """Three tasks are worked on, side by side, while the link misbehaves; the agent restarts once on the way."""
    start = run_start(*DEVICES)
    actions = [(task, number) for number in range(EVENTS_OF_A_TASK) for task in tasks_of(start)]
    clock = HastyClock()
    for part in (actions[:restart_after], [*actions[restart_after:], None]):
        async with opened_journal(folder) as journal, Background() as background:
            sender = OutboxSender(journal, backend, clock=clock, rng=seeded(), new_id=id_source(clock))
            # What the last process left is news to this one.
            journal.news.set()
            _ = background.start("outbox", sender.run())
            await accept(journal, start)
            for action in part:
                if action is None:
                    assert await sender.flush(30)
                else:
                    await work(journal, *action)


@settings(max_examples=examples(40), deadline=None)
@given(faults=st.lists(FAULTS, max_size=12), restart_after=st.integers(0, len(DEVICES) * EVENTS_OF_A_TASK))
def test_every_event_is_delivered_applied_once_and_in_order_for_each_task(
    faults: list[str], restart_after: int
) -> None:
    backend = misbehaving(faults)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(deliver(Path(folder), backend, restart_after))
    ids = [event["event_id"] for event in backend.applied]
    assert len(ids) == len(set(ids)), "applied once"
    by_task: dict[str, list[int]] = defaultdict(list)
    for event in backend.applied:
        if "task_id" in event["payload"]:
            by_task[event["payload"]["task_id"]].append(event["payload"]["seq"])
    assert len(by_task) == len(DEVICES)
    assert all(sorted(seqs) == [1, 2, 3, 4] for seqs in by_task.values()), "delivered"
    assert backend.of("run_finished"), "down to the last fact"
    if "one event refused for now" not in faults:
        # An event that the backend itself asks for later is the one thing that may arrive behind its successor.
        assert all(seqs == [1, 2, 3, 4] for seqs in by_task.values()), "in order for each task"
