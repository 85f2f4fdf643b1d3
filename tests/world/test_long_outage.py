"""The backend is gone for three days, and comes back: every fact arrives once and in order, the newest ones at once.

Journal, outbox, pull, heartbeat and their ladders are the product's; clock, network and backend the world's.
`OUTAGE_RUNS=5` runs an hour make a longer backlog. `OUTAGE_HEARTBEATS=72`: so many of the last hours have heartbeats;
26,000 of them would be most of the test's time, and each is but one try more.
"""

import asyncio
import os
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.world.backend import Backend
from tests.world.disk import Disk, MemoryCommits
from tests.world.life import Life
from tests.world.link import MemoryLink, Network
from tests.world.loop import SeededLoop
from tests.world.streams import streams
from tests.world.trace import Trace

from muster.agent.heartbeat import HeartbeatLoop, HeartbeatSources, NodeFacts
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.narrate import Narrator
from muster.agent.orders import Orders
from muster.agent.outbox import OutboxSender
from muster.agent.ports import DeviceStatus, NoDeviceActions, Phone, StepProgress, Task, TaskOutcome
from muster.agent.pull import PullLoop
from muster.contracts.commands import PullAnswer
from muster.contracts.events import CallbackAnswer, Event, EventType, TaskPayload
from muster.domain.task import StepState, TaskState
from muster.runtime.ids import NewId, id_source
from muster.runtime.supervision import Background

NODE = "PC-01"
HOUR_SEC = 3600.0
OUTAGE_SEC = 72 * HOUR_SEC
RUNS_AN_HOUR = int(os.environ.get("OUTAGE_RUNS", "1"))
RUNS = 72 * RUNS_AN_HOUR
BEATING_SEC = float(os.environ.get("OUTAGE_HEARTBEATS", "3")) * HOUR_SEC
PHONES = [f"PHONE{number:03d}" for number in range(100)]
TELEMETRY_MAX = 2_000
# One way, on average. A batch takes twice that: five a second at best.
LATENCY_SEC = 0.1
FRESH_SEC_MAX = 2.0
FRESH_RUNS = 8
START_MS = 1_800_000_000_000
TOLD = (EventType.TASK_STARTED, EventType.TASK_FINISHED)
STEP = {"id": "hello", "kind": "adb", "command": "echo hello"}


class Time:
    """`runtime.clock.Clock` of the world."""

    def now_ms(self) -> int:
        return START_MS + round(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class ListeningBackend(Backend):
    """The world's backend, and when it applied what. `heard`: seconds by (type, task or run)."""

    heard: dict[tuple[EventType, str], float] = field(default_factory=dict)
    seqs: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[EventType] = field(default_factory=Counter)

    def _apply(self, event: Event) -> None:
        payload = event.payload
        self.counts[event.type] += 1
        if isinstance(payload, TaskPayload):
            self.seqs[payload.task_id].append(payload.seq)
        subject = getattr(payload, "task_id", getattr(payload, "run_id", ""))
        self.heard.setdefault((event.type, subject), self.now())
        super()._apply(event)


class CountedLink(MemoryLink):
    """The world's link; counts the attempts."""

    def __init__(self, network: Network, backend: Backend, disk: Disk, life: Life) -> None:
        super().__init__(network, backend, disk, life)
        self.attempts: Counter[str] = Counter()

    async def pull(self, wait_ms: int) -> PullAnswer:
        self.attempts["pull"] += 1
        return await super().pull(wait_ms)

    async def callback(self, events: Sequence[dict[str, Any]]) -> CallbackAnswer:
        self.attempts["callback"] += 1
        return await super().callback(events)


@dataclass
class Rack:
    """`pull.Work`, and what a heartbeat asks: tasks wait here until the test has them executed."""

    by_run: dict[str, list[Task]] = field(default_factory=lambda: defaultdict(list))
    running: int = 0
    queued_devices: int = 0
    vendor_ok: bool = False
    last_vendor_ok_ms: int | None = None

    def submit(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self.by_run[task.run.run_id].append(task)

    def cancel(self, task_id: str) -> None:
        raise AssertionError("nobody asked for it")

    def find(self, device_id: str) -> Phone | None:
        return None

    def status(self, device_id: str) -> DeviceStatus | None:
        return None

    def all(self) -> Sequence[DeviceStatus]:
        return []

    def resolve(self, device_id: str) -> str:
        return device_id


class Node:
    """The agent's half that talks to the backend, and the rack that it would work on."""

    def __init__(self, loop: SeededLoop) -> None:
        self.clock, self.rack, self.rng = Time(), Rack(), random.Random("long outage")
        self.ids: NewId = id_source(self.clock, random.Random("ids"))
        self.network = Network(streams("long outage"), _never, latency_sec=LATENCY_SEC)
        self.backend = ListeningBackend(NODE, Trace(loop.time, _never), loop.time)
        self.disk = Disk(streams("long outage"))
        self.life = Life(1)
        self.link = CountedLink(self.network, self.backend, self.disk, self.life)
        self.tell = Narrator(NODE, 20, self.clock)
        self.journal = SqliteJournal(
            Path("journal"),
            new_id=id_source(self.clock, random.Random("journal")),
            spool_folder=Path("spool"),
            telemetry_max=TELEMETRY_MAX,
            open_commits=lambda _path, prepare, after: MemoryCommits(self.disk, prepare, after, self.life),
        )
        self.sender = OutboxSender(self.journal, self.link, clock=self.clock, rng=self.rng, new_id=self.ids)
        self.telemetry_most = 0
        self.told_at: dict[tuple[EventType, str], float] = {}

    async def work(self, stack: AsyncExitStack) -> None:
        """Pull, outbox and heartbeat, as `agent/composition.py` has them."""
        await stack.enter_async_context(self.journal)
        background = await stack.enter_async_context(Background())
        orders = Orders(self.journal, NoDeviceActions(), background, narrator=self.tell, clock=self.clock, rng=self.rng)
        pull = PullLoop(self.link, self.journal, self.rack, orders, narrator=self.tell, clock=self.clock, rng=self.rng)
        _ = background.start("outbox", self.sender.run())
        _ = background.start("pull", pull.run())
        self.background = background

    def start_heartbeats(self) -> None:
        """From now on."""
        sources = HeartbeatSources(self.rack, self.rack, self.rack, self._depth, lambda: self.sender.degraded)
        facts = NodeFacts(NODE, "1", 20)
        beating = HeartbeatLoop(facts, sources, self.sender.beat, changed=asyncio.Event(), clock=self.clock)
        _ = self.background.start("heartbeat", beating.run())

    async def _depth(self) -> int:
        return (await self.journal.depth()).total

    def ask_for_run(self, devices: Sequence[str]) -> str:
        """At the backend."""
        run_id = self.ids()
        self.backend.command(
            {
                "type": "run_start",
                "command_id": self.ids(),
                "run_id": run_id,
                "workflow_id": "outage",
                "version": 1,
                "definition": {"workflow_id": "outage", "steps": [STEP]},
                "globalTimeoutMs": 90_000,
                "maxAttempts": 1,
                "tasks": [{"task_id": self.ids(), "device_id": device, "attempt": 1} for device in devices],
            }
        )
        return run_id

    async def accepted(self, run_ids: Sequence[str]) -> None:
        """Waits until the node has taken these runs and the backend knows it."""
        while not all(run_id in self.rack.by_run for run_id in run_ids) or self.backend.unacknowledged:
            await self.clock.sleep(0.05)

    async def begin(self, task: Task) -> None:
        await self.journal.begin_task(self.tell.task_started(task, "usb"))
        self.told_at[EventType.TASK_STARTED, task.task_id] = self.clock.monotonic()
        step = StepProgress(
            step_id="hello", phase="LOGIN_FLOW", status=StepState.COMPLETED, step_index=0, steps_total=1
        )
        await self.journal.record_progress(self.tell.task_progress(task, step))

    async def end(self, task: Task) -> None:
        done = TaskOutcome(TaskState.SUCCEEDED)
        await self.journal.end_task(self.tell.task_finished(task, done, started_at_ms=None, duration_ms=None))
        self.told_at[EventType.TASK_FINISHED, task.task_id] = self.clock.monotonic()

    async def execute(self, run_id: str, task_sec: float) -> None:
        """The whole run, twenty phones at once."""
        tasks = self.rack.by_run[run_id]
        for first in range(0, len(tasks), 20):
            slot = tasks[first : first + 20]
            await asyncio.gather(*(self.begin(task) for task in slot))
            await self.clock.sleep(task_sec)
            await asyncio.gather(*(self.end(task) for task in slot))

    def lateness(self, task: Task, kind: EventType) -> float:
        """From the journal's commit to the backend's."""
        return self.backend.heard[kind, task.task_id] - self.told_at[kind, task.task_id]


def _never(*_: object) -> None:
    raise AssertionError("no such fault here")


def test_after_three_days_without_a_backend_every_fact_arrives_once_in_order_and_the_newest_at_once() -> None:
    loop = SeededLoop(random.Random("order"), 0.0)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(the_story(loop))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def the_story(loop: SeededLoop) -> None:
    async with AsyncExitStack() as stack:
        node = Node(loop)
        await node.work(stack)
        runs = [node.ask_for_run(PHONES) for _ in range(RUNS)]
        await node.accepted(runs)
        spanning = node.rack.by_run[node.ask_for_run(["PHONE000"])]
        while not spanning:
            await node.clock.sleep(0.05)

        await the_outage(node, runs, spanning[0])
        await the_return(node, spanning[0])
        await everything_has_arrived(node)


async def the_outage(node: Node, runs: Sequence[str], spanning: Task) -> None:
    """Three days, in which all the runs are executed."""
    node.network.is_away = True
    node.link.attempts.clear()
    began = node.clock.monotonic()
    await node.begin(spanning)
    beating_from = OUTAGE_SEC - BEATING_SEC
    asyncio.get_running_loop().call_at(began + beating_from, node.start_heartbeats)
    for number, run_id in enumerate(runs):
        await node.clock.sleep(began + (number + 0.5) * HOUR_SEC / RUNS_AN_HOUR - node.clock.monotonic())
        await node.execute(run_id, 5.0)
        node.telemetry_most = max(node.telemetry_most, (await node.journal.depth()).telemetry)
    await node.clock.sleep(began + OUTAGE_SEC - node.clock.monotonic())
    assert node.sender.degraded
    # The ladder's last rung, and each heartbeat; the pull's pauses are 15 s in the middle.
    tries = beating_from / 30 + BEATING_SEC / 10 + BEATING_SEC / 30
    assert 0.9 * tries < node.link.attempts["callback"] < 1.1 * tries
    assert OUTAGE_SEC / 30 < node.link.attempts["pull"] < OUTAGE_SEC / 12
    depth = await node.journal.depth()
    assert depth.facts >= 2 * len(runs) * len(PHONES)
    assert node.telemetry_most <= TELEMETRY_MAX, "the outbox is bounded"


async def the_return(node: Node, spanning: Task) -> None:
    """While the backlog drains, new runs are asked for, executed, and seen at once."""
    node.network.is_away = False
    back_at = node.clock.monotonic()
    beats = node.backend.heartbeats
    while node.backend.heartbeats == beats:
        await node.clock.sleep(0.05)
    assert node.clock.monotonic() - back_at < 12, "the next heartbeat finds it"
    await node.end(spanning)
    fresh: list[Task] = []
    for _ in range(FRESH_RUNS):
        run_id = node.ask_for_run(PHONES[:20])
        await node.accepted([run_id])
        await node.execute(run_id, 0.5)
        fresh += node.rack.by_run[run_id]
    assert (await node.journal.depth()).total > 1_000, "the backlog still drains"
    while (await node.journal.depth()).total:
        await node.clock.sleep(0.5)
    worst = max(node.lateness(task, kind) for task in fresh for kind in TOLD)
    assert worst < FRESH_SEC_MAX, f"a new fact was {worst:.2f} s late"


async def everything_has_arrived(node: Node) -> None:
    """Once, in order for each task."""
    backend, tasks = node.backend, len(node.told_at) // 2
    assert all(task.status is TaskState.SUCCEEDED for task in backend.tasks.values())
    assert {key for key in backend.heard if key[0] in TOLD} == set(node.told_at)
    expected = {
        EventType.TASK_STARTED: tasks,
        EventType.TASK_FINISHED: tasks,
        EventType.RUN_STARTED: RUNS + FRESH_RUNS + 1,
        EventType.RUN_FINISHED: RUNS + FRESH_RUNS + 1,
        EventType.COMMAND_ACK: RUNS + FRESH_RUNS + 1,
    }
    assert {kind: backend.counts[kind] for kind in expected} == expected
    assert all(seqs == sorted(set(seqs)) for seqs in backend.seqs.values())
    assert await node.journal.dead_letters(1) == []
