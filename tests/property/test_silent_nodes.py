"""A watcher that gives a node up, its tasks' ends and a stop, in any order: one honest state for each task and run."""

import random
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.backend import NodeTask, Rig, RigThread
from tests.support.examples import examples
from tests.support.manual_clock import ManualClock

from muster.backend.presence import Presence
from muster.backend.watch_nodes import Patience, Silence
from muster.contracts.events import DeviceReport, NodeHeartbeat
from muster.domain.device import AttachState
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


# Time that passes between two looks, and how far somebody sets the clock in between; None: a heartbeat comes.
weather = st.lists(
    st.tuples(st.none() | st.integers(0, ONLINE_WINDOW_SEC * 1000), st.integers(-(10**8), 10**8)), max_size=60
)


@settings(max_examples=examples(200), deadline=None)
@given(weather)
def test_who_is_silent_is_judged_by_the_time_that_passed_however_the_clock_is_set(
    steps: list[tuple[int | None, int]],
) -> None:
    clock = ManualClock()
    presence, node = Presence(clock, ONLINE_WINDOW_SEC), "PC-01"
    silence = Silence(presence, clock, Patience())
    awake_ms, silent_ms = 0, None
    for passes_ms, set_by_ms in steps:
        clock.set_wall(set_by_ms / 1000)
        if passes_ms is None:
            presence.heartbeat(f"{clock.now_ms()}-{awake_ms}-{silent_ms}", beat(node, clock))
            silent_ms = 0
        clock.jump((passes_ms or 0) / 1000)
        awake_ms += passes_ms or 0
        silent_ms = None if silent_ms is None else silent_ms + (passes_ms or 0)
        silence.stay_awake()
        is_online = silent_ms is not None and silent_ms <= ONLINE_WINDOW_SEC * 1000
        assert presence.is_node_online(node) == is_online
        assert [presence.is_device_online(device) for device in presence.known_devices()] in ([], [is_online])
        long_ms = awake_ms if silent_ms is None else silent_ms
        assert silence.is_unreachable(node) == (long_ms > ONLINE_WINDOW_SEC * 1000)
        assert silence.is_lost(node) == (long_ms > NODE_LOST_AFTER_SEC_DEFAULT * 1000)


def beat(node_id: str, clock: ManualClock) -> NodeHeartbeat:
    phone = DeviceReport(device_id="A", runtime_handle="usb:A", state=AttachState.DEVICE, age_ms=0)
    return NodeHeartbeat(
        node_id=node_id,
        timestamp=clock.now_ms(),
        connected_devices_count=1,
        running_devices_count=0,
        queue_devices_count=0,
        vendor_ws_ok=True,
        agent_version="0.1.0",
        outbox_depth=0,
        devices=[phone],
    )


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
