"""The sentences of the scheduler (R1.2–R1.4), held against any sequence of events and any task lengths."""

import heapq
import itertools
from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from muster.agent.scheduler.decide import decide
from muster.agent.scheduler.model import (
    Again,
    Cancel,
    DeviceAway,
    DeviceReady,
    Effect,
    Event,
    Finished,
    Park,
    PutBack,
    Recover,
    SchedulerState,
    Start,
    Stop,
    Submit,
    Ticket,
    Withdrawn,
)

DEVICES = [f"phone-{number}" for number in range(8)]


@dataclass
class Watched:
    """A slow and obvious second bookkeeping of what the scheduler was told and answered."""

    slots: int
    queues: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    running: dict[str, str] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    starts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    started_more: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    parked: dict[str, str] = field(default_factory=dict)
    # Tasks that have recovered and not yet been served since: the number of their recovery.
    rank: dict[str, int] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)
    # For each device in line: who has been served ahead of it since it joined.
    passed_by: dict[str, list[str]] = field(default_factory=dict)

    def in_line(self) -> set[str]:
        return {
            device
            for device, queue in self.queues.items()
            if queue and device not in self.running and device not in self.away and device not in self.parked
        }

    def on_start(self, start: Start) -> None:
        assert start.device_id in self.in_line(), "started on a device that may not be given a slot"
        assert self.queues[start.device_id].pop(0) == start.task_id, "a device's own tasks in the order they came"
        heads = [self.queues[device][0] for device in self.in_line()]
        owed = [self.rank[task] for task in heads if task in self.rank]
        if start.task_id in self.rank or owed:
            first = min([*owed, self.rank.get(start.task_id, len(self.rank) + 10_000)])
            assert first == self.rank.get(start.task_id), "the one that recovered first gets the first free slot"
        self.running[start.device_id] = start.task_id
        self.starts[start.task_id] += 1
        assert len(self.running) <= self.slots
        self.passed_by.pop(start.device_id, None)
        for device in self.in_line():
            others = self.passed_by.setdefault(device, [])
            assert start.device_id not in others, f"{device} was passed over twice by {start.device_id}"
            others.append(start.device_id)

    def no_service(self, device: str) -> None:
        """A start that was taken back: nobody was passed over by it."""
        for others in self.passed_by.values():
            if device in others:
                others.remove(device)

    def refresh(self) -> None:
        line = self.in_line()
        self.passed_by = {device: self.passed_by.get(device, []) for device in line}


class SchedulerMachine(RuleBasedStateMachine):
    """Events in any order, also about tasks and devices that do not exist."""

    @initialize(slots=st.integers(1, 4))
    def begin(self, slots: int) -> None:
        self.state = SchedulerState(slots)
        self.watched = Watched(slots)
        self.names = itertools.count()

    def tell(self, event: Event) -> list[Effect]:
        effects = decide(self.state, event)
        self.watched.refresh()
        for effect in effects:
            if isinstance(effect, Start):
                self.watched.on_start(effect)
        return effects

    @rule(devices=st.lists(st.sampled_from(DEVICES), max_size=10))
    def submit(self, devices: list[str]) -> None:
        tickets = [Ticket(f"task-{next(self.names)}", device) for device in devices]
        for ticket in tickets:
            self.watched.queues[ticket.device_id].append(ticket.task_id)
            self.watched.submitted.add(ticket.task_id)
        self.tell(Submit(tickets))

    @precondition(lambda self: self.watched.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.running)))
        self.tell(Finished(self.watched.running.pop(device)))

    @precondition(lambda self: self.watched.running)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.running)))
        task = self.watched.running.pop(device)
        self.watched.queues[device].insert(0, task)
        self.watched.started_more[task] += 1
        self.watched.away.add(device)
        self.watched.no_service(device)
        self.tell(PutBack(task))

    @precondition(lambda self: self.watched.running)
    @rule(data=st.data())
    def try_again(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.running)))
        task = self.watched.running.pop(device)
        self.watched.queues[device].insert(0, task)
        self.watched.started_more[task] += 1
        self.watched.rank.pop(task, None)
        self.tell(Again(task))

    @precondition(lambda self: self.watched.running)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.running)))
        task = self.watched.parked[device] = self.watched.running.pop(device)
        self.watched.started_more[task] += 1
        self.watched.no_service(device)
        self.watched.rank.pop(task, None)
        self.tell(Park(task))

    @precondition(lambda self: self.watched.parked)
    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.parked)))
        task = self.watched.parked.pop(device)
        self.watched.queues[device].insert(0, task)
        self.watched.rank[task] = next(self.names)
        self.tell(Recover(task))

    @precondition(lambda self: self.watched.parked)
    @rule(data=st.data())
    def cancel_parked(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.parked)))
        task = self.watched.parked.pop(device)
        self.watched.withdrawn.add(task)
        effects = self.tell(Cancel(task))
        assert effects[0] == Withdrawn(task)
        assert not any(isinstance(effect, Stop) for effect in effects)

    @rule(device=st.sampled_from(DEVICES))
    def go_away(self, device: str) -> None:
        self.watched.away.add(device)
        self.tell(DeviceAway(device))

    @rule(device=st.sampled_from(DEVICES))
    def come_back(self, device: str) -> None:
        self.watched.away.discard(device)
        self.tell(DeviceReady(device))

    @precondition(lambda self: any(self.watched.queues.values()))
    @rule(data=st.data())
    def cancel_queued(self, data: st.DataObject) -> None:
        waiting = sorted(itertools.chain.from_iterable(self.watched.queues.values()))
        task = data.draw(st.sampled_from(waiting))
        for queue in self.watched.queues.values():
            if task in queue:
                queue.remove(task)
        self.watched.withdrawn.add(task)
        assert self.tell(Cancel(task)) == [Withdrawn(task)]

    @precondition(lambda self: self.watched.running)
    @rule(data=st.data())
    def cancel_running(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.watched.running.values())))
        assert self.tell(Cancel(task)) == [Stop(task)]

    @precondition(lambda self: self.watched.submitted)
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        held = [*self.watched.running.values(), *self.watched.parked.values()]
        known = {*itertools.chain.from_iterable(self.watched.queues.values()), *held}
        assume(known)
        task = data.draw(st.sampled_from(sorted(known)))
        assert self.tell(Submit([Ticket(task, data.draw(st.sampled_from(DEVICES)))])) == []

    @rule(
        event=st.sampled_from(
            [
                Finished("nobody"),
                Cancel("nobody"),
                PutBack("nobody"),
                Park("nobody"),
                Recover("nobody"),
                Again("nobody"),
            ]
        )
    )
    def unknown(self, event: Event) -> None:
        assert self.tell(event) == []

    @invariant()
    def no_slot_is_idle_while_an_eligible_device_waits(self) -> None:
        assert len(self.watched.running) == self.watched.slots or not self.watched.in_line()

    @invariant()
    def the_counts_agree(self) -> None:
        assert self.state.running == len(self.watched.running)
        parked = self.watched.parked
        waiting = {device for device, queue in self.watched.queues.items() if queue}
        assert self.state.queued_devices == len(waiting | parked.keys())
        assert not parked.keys() & self.watched.running.keys(), "a parked task never holds a slot"

    def teardown(self) -> None:
        if not hasattr(self, "watched"):
            return
        for device in DEVICES:
            self.come_back(device)
        for device, task in [*self.watched.parked.items()]:
            del self.watched.parked[device]
            self.watched.queues[device].insert(0, task)
            self.watched.rank[task] = next(self.names)
            self.tell(Recover(task))
        while self.watched.running:
            device = min(self.watched.running)
            self.tell(Finished(self.watched.running.pop(device)))
        for task in self.watched.submitted:
            expected = self.watched.started_more[task] + (task not in self.watched.withdrawn)
            assert self.watched.starts[task] == expected, (
                "every task is started once, and once more each time it lost its slot"
            )
        assert not self.state.devices, "nothing is left open"


TestScheduler = SchedulerMachine.TestCase


def makespan(slots: int, lengths: dict[str, list[int]]) -> int:
    """Runs tasks of these lengths (by device, in order) on a virtual clock; answers when the last one ended."""
    state = SchedulerState(slots)
    tickets = [Ticket(f"{device}/{n}", device) for device, chain in lengths.items() for n in range(len(chain))]
    ends: list[tuple[int, str]] = []
    now = 0

    def act(effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Start)
            device, number = effect.task_id.split("/")
            heapq.heappush(ends, (now + lengths[device][int(number)], effect.task_id))
            assert len(ends) <= slots

    act(decide(state, Submit(tickets)))
    while ends:
        now, task_id = heapq.heappop(ends)
        act(decide(state, Finished(task_id)))
    assert not state.devices, "every task was started and finished"
    return now


@given(
    slots=st.integers(1, 6),
    chains=st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=8), min_size=1, max_size=20),
)
def test_the_makespan_never_exceeds_grahams_bound(slots: int, chains: list[list[int]]) -> None:
    lengths = {f"phone-{number}": chain for number, chain in enumerate(chains)}
    total, longest = sum(map(sum, chains)), max(map(sum, chains))
    # total/m + (1 − 1/m)·longest, multiplied by m to stay with whole numbers.
    assert makespan(slots, lengths) * slots <= total + (slots - 1) * longest


@given(st.lists(st.sampled_from(DEVICES), min_size=1, max_size=40))
def test_with_one_slot_the_device_served_longest_ago_is_always_next(devices: list[str]) -> None:
    state = SchedulerState(1)
    queues: dict[str, list[str]] = {}
    tickets = [Ticket(f"task-{number}", device) for number, device in enumerate(devices)]
    for ticket in tickets:
        queues.setdefault(ticket.device_id, []).append(ticket.task_id)
    served: list[str] = []
    effects = decide(state, Submit(tickets))
    while effects:
        (start,) = effects
        assert isinstance(start, Start)
        with_work = [device for device in queues if queues[device]]
        # Never served first, in order of submission; then by the last service.
        last = {device: index for index, device in enumerate(served)}
        expected = min(with_work, key=lambda device: (last.get(device, -1), list(queues).index(device)))
        assert (start.device_id, start.task_id) == (expected, queues[expected].pop(0))
        served.append(start.device_id)
        effects = decide(state, Finished(start.task_id))
    assert len(served) == len(devices)
