"""A watcher that gives a node up, its tasks' ends and a stop, in any order: one honest state for each task and run."""

import random
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.backend import NodeTask, Rig, RigThread
from tests.support.examples import examples

from muster.domain.failure import FailureReason
from muster.domain.limits import NODE_LOST_AFTER_SEC_DEFAULT, ONLINE_WINDOW_SEC
from muster.domain.run import conclude
from muster.domain.task import TaskState

ENDS = ["succeeded", "failed", "skipped_offline", "cancelled", None]
Act = Callable[[], Awaitable[object]]


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RigThread]:
    with RigThread(tmp_path_factory.mktemp("backend") / "data") as running:
        yield running


async def lose_the_node(rig: Rig) -> None:
    for _ in range(NODE_LOST_AFTER_SEC_DEFAULT // ONLINE_WINDOW_SEC + 1):
        rig.clock.jump(ONLINE_WINDOW_SEC)
        await rig.parts.watch.look()


def acts_of(rig: Rig, run_id: str, tasks: list[NodeTask], ends: list[str | None], *, stops: bool) -> list[Act]:
    events = []
    for task, end in zip(tasks, ends, strict=True):
        events += [rig.started(task, 1), rig.progress(task, 2, "launch", "running")]
        events += [rig.finished(task, 3, end)] if end else []
    acts: list[Act] = [lambda event=event: rig.tell(event) for event in [*events, *events]]  # type: ignore[misc]
    acts.append(lambda: rig.heartbeat("PC-01", [task.device_id for task in tasks]))
    acts.append(lambda: lose_the_node(rig))
    return [*acts, lambda: rig.http.post(f"/api/runs/{run_id}/stop")] if stops else acts


@settings(max_examples=examples(15), deadline=None)
@given(st.lists(st.sampled_from(ENDS), min_size=1, max_size=3), st.booleans(), st.randoms(use_true_random=False))
def test_the_truth_wins_in_whatever_order_it_comes(
    backend: RigThread, ends: list[str | None], stops: bool, rng: random.Random
) -> None:
    async def example(rig: Rig) -> None:
        phones = [f"phone-{number}" for number in range(len(ends))]
        await rig.heartbeat("PC-01", phones)
        run_id = await rig.start_run(target={"device_ids": phones})
        tasks = [task for task in await rig.take_tasks() if task.run_id == run_id]
        acts = acts_of(rig, run_id, tasks, ends, stops=stops)
        rng.shuffle(acts)
        for act in acts:
            await act()
        # Whoever goes on after all is given up again when the node is gone for good.
        await lose_the_node(rig)
        await agree(rig, run_id, dict(zip([task.device_id for task in tasks], ends, strict=True)))

    backend.run(example(backend.rig))


async def agree(rig: Rig, run_id: str, ends: dict[str, str | None]) -> None:
    run = await rig.run(run_id)
    for task in run.tasks:
        end = ends[task.device_id]
        is_presumed = (task.status, task.failure_reason) == (TaskState.FAILED, FailureReason.NODE_LOST)
        assert task.presumed == is_presumed == (end is None), "only what never came to an end is presumed"
        assert end is None or task.status == end
    states = [task.status for task in run.tasks]
    counted = {state: states.count(state) for state in states}
    assert run.status == conclude(counted, stop_requested=run.stop_requested_at is not None)
