import asyncio
import random

import pytest
from tests.support.scripted_http import answer, scripted_peer

from muster.client.follow import RunProgress, follow_run
from muster.client.http import ApiError, BackendUnreachable, MusterClient
from muster.client.sse import SseEvent
from muster.contracts.api import RunDelta, RunListItem, RunSnapshot, TaskCounts, TaskView
from muster.domain.run import RunState, RunTrigger
from muster.domain.task import TaskState

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
TASK_ID = "01890a5d-ac96-774b-bcce-b302099a8058"


class InstantClock:
    """A clock whose sleeps are instants that count."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)


def run(status: RunState) -> RunListItem:
    return RunListItem(
        run_id=RUN_ID,
        workflow_id="w",
        version=1,
        trigger=RunTrigger.API,
        status=status,
        created_at=1,
        counts=TaskCounts(total=1),
    )


def task(status: TaskState, updated_at: int = 1, task_id: str = TASK_ID) -> TaskView:
    return TaskView(
        task_id=task_id, run_id=RUN_ID, node_id="PC-01", device_id="D1", status=status, updated_at=updated_at
    )


def frame(name: str, message: RunSnapshot | RunDelta, event_id: str) -> bytes:
    return f"event: {name}\nid: {event_id}\ndata: {message.model_dump_json(by_alias=True)}\n\n".encode()


def stream(*frames: bytes) -> bytes:
    return answer(200, b"".join(frames), content_type="text/event-stream")


SNAPSHOT = frame("snapshot", RunSnapshot(run=run(RunState.RUNNING), tasks=[task(TaskState.RUNNING)], now=1), "e.1")
LAST_DELTA = frame("delta", RunDelta(run=run(RunState.COMPLETED), tasks=[task(TaskState.SUCCEEDED)], now=2), "e.2")


async def test_a_run_is_followed_from_its_snapshot_to_its_end() -> None:
    async with scripted_peer([stream(SNAPSHOT, LAST_DELTA)]) as peer, MusterClient(peer.url) as client:
        followed = follow_run(client, RUN_ID, clock=InstantClock(), rng=random.Random(1))
        states = [(seen.run.status, seen.tasks[TASK_ID].status) async for seen in followed if seen.run]
    assert states == [(RunState.RUNNING, TaskState.RUNNING), (RunState.COMPLETED, TaskState.SUCCEEDED)]


async def test_a_broken_stream_is_taken_up_again_from_its_last_event() -> None:
    replies = [stream(SNAPSHOT), b"", answer(503), stream(LAST_DELTA)]
    async with scripted_peer(replies) as peer, MusterClient(peer.url) as client:
        followed = follow_run(client, RUN_ID, clock=InstantClock(), rng=random.Random(1))
        troubles = [seen.trouble is not None async for seen in followed]
    assert [asked.headers.get("last-event-id") for asked in peer.asked] == [None, "e.1", "e.1", "e.1"]
    assert troubles == [False, True, True, True, False]


async def test_a_run_that_does_not_exist_is_told_at_once() -> None:
    async with scripted_peer([answer(404)]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(ApiError):
            _ = [seen async for seen in follow_run(client, RUN_ID, clock=InstantClock(), rng=random.Random(1))]
    assert len(peer.asked) == 1


async def test_a_backend_that_stays_away_is_given_up_after_the_limit() -> None:
    clock = InstantClock()
    async with scripted_peer([b""]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(BackendUnreachable, match="gave up after 60 s"):
            async for _ in follow_run(client, RUN_ID, clock=clock, rng=random.Random(1), outage_sec_max=60):
                pass
    assert 60 < clock.seconds < 70


async def test_rubbish_on_the_stream_is_trouble_not_a_crash() -> None:
    rubbish = stream(b"event: snapshot\ndata: {}\n\n")
    async with scripted_peer([rubbish, stream(SNAPSHOT, LAST_DELTA)]) as peer, MusterClient(peer.url) as client:
        seen = [s.trouble is None async for s in follow_run(client, RUN_ID, clock=InstantClock(), rng=random.Random(1))]
    assert seen == [False, True, True]


def test_a_heartbeat_changes_nothing_and_is_no_place_to_resume_from() -> None:
    progress = RunProgress(last_event_id="e.1")
    assert progress.apply(SseEvent("heartbeat", "{}", "e.9")) is False
    assert progress.last_event_id == "e.1"


def test_failures_are_those_that_ended_without_success_latest_first() -> None:
    states = [TaskState.FAILED, TaskState.SUCCEEDED, TaskState.RUNNING, TaskState.SKIPPED_OFFLINE]
    ids = [f"{TASK_ID[:-1]}{number}" for number in range(4)]
    tasks = {ids[at]: task(state, updated_at=at, task_id=ids[at]) for at, state in enumerate(states)}
    assert [one.task_id for one in RunProgress(tasks=tasks).failures()] == [ids[3], ids[0]]
