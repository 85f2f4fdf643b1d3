"""Whatever order a node's events come in, however often, in whatever batches: one end state, the model's."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.backend import RECIPE, NodeTask, Rig, RigThread
from tests.support.examples import examples

from muster.contracts.events import STALE_ATTEMPT_STATUS
from muster.domain.run import RunState, conclude
from muster.domain.task import TaskState

STEP_IDS = [step["id"] for step in RECIPE["steps"]]
ENDS = ["succeeded", "failed", "skipped_offline", "cancelled"]


@dataclass(frozen=True)
class Attempt:
    """What a node does in one attempt: which steps it tells of and how each report reads."""

    reports: list[tuple[str, str]]


@dataclass(frozen=True)
class History:
    """A task as its node lives it. `end` is None while it is still at work."""

    attempts: list[Attempt]
    end: str | None


attempts = st.builds(
    Attempt,
    st.lists(
        st.tuples(st.sampled_from(STEP_IDS), st.sampled_from(["running", "waiting", "completed", "failed"])), max_size=5
    ),
)
histories = st.builds(History, st.lists(attempts, min_size=1, max_size=3), st.sampled_from([*ENDS, None]))


@dataclass
class Model:
    """The end state of one task, computed from its history in the order in which it happened."""

    status: str = "queued"
    attempt: int = 1
    step_id: str | None = None
    started_at: int | None = None
    wait_until: int | None = None
    steps: dict[str, str] = field(default_factory=dict)


def tell(rig: Rig, task: NodeTask, history: History) -> tuple[list[dict[str, Any]], Model]:
    """The events of a history, in order, and where they must lead."""
    events: list[dict[str, Any]] = []
    model, seq, base = Model(), 0, rig.clock.now_ms()
    for number, attempt in enumerate(history.attempts, start=1):
        seq += 1
        events.append(rig.started(task, seq, attempt=number, timestamp=base + seq))
        model = Model("running", number, started_at=base + seq)
        for step_id, status in attempt.reports:
            seq += 1
            until = base + seq if status == "waiting" else None
            events.append(rig.progress(task, seq, step_id, status, attempt=number, wait_until=until))
            model.status, model.wait_until = ("waiting", until) if until else ("running", None)
            model.step_id = step_id
            model.steps[step_id] = status
    if history.end:
        seq += 1
        timings = {"startedAt": model.started_at, "endedAt": base + seq, "durationMs": seq}
        reason = "step_failed" if history.end == "failed" else None
        events.append(
            rig.finished(task, seq, history.end, attempt=model.attempt, timings=timings, failure_reason=reason)
        )
        model.status, model.wait_until = history.end, None
    return events, model


def batches_of(events: Sequence[dict[str, Any]], rng: random.Random) -> list[list[dict[str, Any]]]:
    """The events in a random order, some of them twice or thrice, cut into batches at random."""
    sent = [event for event in events for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    rng.shuffle(sent)
    batches: list[list[dict[str, Any]]] = [[]]
    for event in sent:
        batches[-1].append(event)
        if rng.random() < 0.2:
            batches.append([])
    return [batch for batch in batches if batch]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RigThread]:
    with RigThread(tmp_path_factory.mktemp("backend") / "data") as running:
        yield running


async def start(rig: Rig, devices: int) -> tuple[str, list[NodeTask]]:
    """A new run over some phones, taken up by their node."""
    await rig.heartbeat("PC-01", [f"phone-{number}" for number in range(devices)])
    run_id = await rig.start_run(target={"device_ids": [f"phone-{number}" for number in range(devices)]})
    tasks = await rig.take_tasks()
    await rig.tell(rig.event("command_ack", command_id=tasks[0].command_id))
    return run_id, tasks


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(histories, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_events_in_any_order_and_number_lead_to_one_state(
    backend: RigThread, lives: list[History], rng: random.Random
) -> None:
    async def example(rig: Rig) -> None:
        run_id, tasks = await start(rig, len(lives))
        told = [tell(rig, task, history) for task, history in zip(tasks, lives, strict=True)]
        for batch in batches_of([event for events, _ in told for event in events], rng):
            await rig.tell(*batch, but=(STALE_ATTEMPT_STATUS,))
        await _agree(rig, run_id, {task.device_id: model for task, (_, model) in zip(tasks, told, strict=True)})
        before = await rig.run(run_id)
        await rig.clock.advance(1)
        again = [event for events, _ in told for event in events]
        await rig.tell(*again, but=(STALE_ATTEMPT_STATUS,))
        assert (await rig.run(run_id)).tasks == before.tasks, "duplicates change nothing, not even a time"

    backend.run(example(backend.rig))


@settings(max_examples=examples(40), deadline=None)
@given(histories, st.sampled_from(ENDS), st.randoms(use_true_random=False))
def test_terminal_states_are_final_whatever_follows(
    backend: RigThread, life: History, end: str, rng: random.Random
) -> None:
    async def example(rig: Rig) -> None:
        run_id, (task,) = await start(rig, 1)
        await rig.tell(rig.finished(task, 50, end, attempt=3))
        before = await rig.run(run_id)
        events, _ = tell(rig, task, life)
        for batch in batches_of(events, rng):
            await rig.tell(*batch, but=(STALE_ATTEMPT_STATUS,))
        after = await rig.run(run_id)
        assert (after.tasks[0].status, after.status) == (TaskState(end), before.status)
        assert after.tasks[0].ended_at == before.tasks[0].ended_at

    backend.run(example(backend.rig))


async def _agree(rig: Rig, run_id: str, models: dict[str, Model]) -> None:
    run = await rig.run(run_id)
    for shown in run.tasks:
        model = models[shown.device_id]
        found = Model(shown.status, shown.attempt, shown.step_id, shown.started_at, shown.wait_until)
        steps = (await rig.http.get(f"/api/runs/{run_id}/steps", params={"device_id": shown.device_id})).json()["steps"]
        found.steps = {step["step_id"]: step["status"] for step in steps}
        assert found == model
    states = [TaskState(model.status) for model in models.values()]
    assert run.status == (conclude({state: states.count(state) for state in states}) or RunState.RUNNING)
