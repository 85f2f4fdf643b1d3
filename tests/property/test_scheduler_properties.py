"""The sentences of the scheduler (R1.2–R1.4), held against any sequence of events and any task lengths."""

import heapq
import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from muster.agent.scheduler.decide import decide
from muster.agent.scheduler.model import (
    Again,
    Cancel,
    DeviceAway,
    DeviceReady,
    Drain,
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
    arrived: list[str] = field(default_factory=list)
    services: int = 0
    served: dict[str, int] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    withdrawn: set[str] = field(default_factory=set)
    # Withdrawn, and still in their queue: their end is not recorded yet.
    ending: set[str] = field(default_factory=set)
    # For each device in line: who has been served ahead of it since it joined.
    passed_by: dict[str, list[str]] = field(default_factory=dict)
    # For each device with a parked task: whom it passed when it had its slot.
    passed_in_vain: dict[str, list[str]] = field(default_factory=dict)

    def in_line(self) -> set[str]:
        return {
            device
            for device, queue in self.queues.items()
            if queue and queue[0] not in self.ending and not self.is_taken(device)
        }

    def place(self, device: str) -> tuple[float, int, int]:
        """Those that recovered first, in that order; then by last service; the never-served in order of arrival."""
        owed = self.rank.get(self.queues[device][0], math.inf)
        return owed, self.served.get(device, 0), self.arrived.index(device)

    def arrives(self, device: str) -> None:
        if device not in self.arrived:
            self.arrived.append(device)

    def serve(self, device: str) -> None:
        self.services += 1
        self.served[device] = self.services

    def is_taken(self, device: str) -> bool:
        return device in self.running or device in self.away or device in self.parked

    def on_start(self, start: Start) -> None:
        assert start.device_id in self.in_line(), "started on a device that may not be given a slot"
        assert start.device_id == min(self.in_line(), key=self.place), "owed a slot, else served longest ago, is next"
        assert self.queues[start.device_id].pop(0) == start.task_id, "a device's own tasks in the order they came"
        self.running[start.device_id] = start.task_id
        self.starts[start.task_id] += 1
        assert len(self.running) <= self.slots
        self.passed_by.pop(start.device_id, None)
        for device in self.in_line():
            others = self.passed_by.setdefault(device, [])
            assert start.device_id not in others, f"{device} was passed over twice by {start.device_id}"
            others.append(start.device_id)

    def no_service(self, device: str) -> None:
        """A start that was taken back: nobody was passed over by it, for as long as it has not come to nothing."""
        self.passed_in_vain[device] = [other for other, passed in self.passed_by.items() if device in passed]
        for other in self.passed_in_vain[device]:
            self.passed_by[other].remove(device)

    def was_service(self, device: str) -> None:
        """It had its slot, and nothing else comes of it."""
        for other in self.passed_in_vain.pop(device, []):
            if other in self.in_line() and device not in self.passed_by.get(other, []):
                self.passed_by.setdefault(other, []).append(device)

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
            self.watched.arrives(ticket.device_id)
            self.watched.queues[ticket.device_id].append(ticket.task_id)
            self.watched.submitted.add(ticket.task_id)
        self.tell(Submit(tickets))

    @precondition(lambda self: self.watched.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.running)))
        self.watched.serve(device)
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
        self.watched.serve(device)
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
        self.watched.queues[device].insert(0, task)
        self.watched.ending.add(task)
        self.watched.was_service(device)
        self.watched.serve(device)
        assert self.tell(Cancel(task)) == [Withdrawn(task)]

    @precondition(lambda self: self.watched.parked)
    @rule(data=st.data())
    def hand_out_parked_again(self, data: st.DataObject) -> None:
        device = data.draw(st.sampled_from(sorted(self.watched.parked)))
        task = self.watched.parked.pop(device)
        self.watched.queues[device].insert(0, task)
        self.watched.was_service(device)
        self.watched.serve(device)
        self.tell(Again(task))

    @rule(data=st.data())
    def hand_out_queued_again(self, data: st.DataObject) -> None:
        waiting = sorted({*itertools.chain.from_iterable(self.watched.queues.values())} - self.watched.ending)
        assume(waiting)
        task = data.draw(st.sampled_from(waiting))
        if self.watched.rank.pop(task, None) is not None:
            (device,) = [device for device, queue in self.watched.queues.items() if task in queue]
            self.watched.was_service(device)
            self.watched.serve(device)
        self.tell(Again(task))

    @rule(device=st.sampled_from(DEVICES))
    def go_away(self, device: str) -> None:
        self.watched.away.add(device)
        self.watched.arrives(device)
        self.tell(DeviceAway(device))

    @rule(device=st.sampled_from(DEVICES))
    def come_back(self, device: str) -> None:
        self.watched.away.discard(device)
        self.watched.arrives(device)
        self.tell(DeviceReady(device))

    @rule(data=st.data())
    def cancel_queued(self, data: st.DataObject) -> None:
        waiting = sorted({*itertools.chain.from_iterable(self.watched.queues.values())} - self.watched.ending)
        assume(waiting)
        task = data.draw(st.sampled_from(waiting))
        self.watched.ending.add(task)
        if self.watched.rank.pop(task, None) is not None:
            (device,) = [device for device, queue in self.watched.queues.items() if task in queue]
            self.watched.was_service(device)
            self.watched.serve(device)
        assert self.tell(Cancel(task)) == [Withdrawn(task)]

    @precondition(lambda self: self.watched.ending)
    @rule(data=st.data())
    def cancel_withdrawn(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.watched.ending)))
        assert self.tell(Cancel(task)) == [Stop(task)]

    @precondition(lambda self: self.watched.ending)
    @rule(data=st.data(), event=st.sampled_from([PutBack, Park, Recover]))
    def mistake_withdrawn(self, data: st.DataObject, event: type[PutBack | Park | Recover]) -> None:
        assert self.tell(event(data.draw(st.sampled_from(sorted(self.watched.ending))))) == []

    @precondition(lambda self: self.watched.ending)
    @rule(data=st.data())
    def end_withdrawn(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.watched.ending))))

    def end(self, task: str) -> None:
        self.watched.ending.remove(task)
        self.watched.withdrawn.add(task)
        for queue in self.watched.queues.values():
            if task in queue:
                queue.remove(task)
        self.tell(Finished(task))

    @precondition(lambda self: self.watched.ending)
    @rule(data=st.data())
    def try_withdrawn_again(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.watched.ending)))
        self.watched.ending.remove(task)
        self.tell(Again(task))

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
        waiting = {device for device, queue in self.watched.queues.items() if {*queue} - self.watched.ending}
        assert self.state.queued_devices == len(waiting | parked.keys())
        assert not parked.keys() & self.watched.running.keys(), "a parked task never holds a slot"

    def teardown(self) -> None:
        if not hasattr(self, "watched"):
            return
        for device in DEVICES:
            self.come_back(device)
        for task in sorted(self.watched.ending):
            self.end(task)
        for device, task in [*self.watched.parked.items()]:
            del self.watched.parked[device]
            self.watched.queues[device].insert(0, task)
            self.watched.rank[task] = next(self.names)
            self.tell(Recover(task))
        while self.watched.running:
            device = min(self.watched.running)
            self.watched.serve(device)
            self.tell(Finished(self.watched.running.pop(device)))
        for task in self.watched.submitted:
            expected = self.watched.started_more[task] + (task not in self.watched.withdrawn)
            assert self.watched.starts[task] == expected, (
                "every task is started once, and once more each time it lost its slot"
            )
        assert not self.state.devices, "nothing is left open"


TestScheduler = SchedulerMachine.TestCase


def makespan(slots: int, chains: list[list[list[int]]]) -> int:
    """Runs tasks whose attempts take so long (by device, in order) on a virtual clock; answers when the last ended."""
    state = SchedulerState(slots)
    left = {f"{device}/{number}": [*tries] for device, chain in enumerate(chains) for number, tries in enumerate(chain)}
    ends: list[tuple[int, str]] = []
    now = 0

    def act(effects: list[Effect]) -> None:
        for effect in effects:
            assert isinstance(effect, Start)
            heapq.heappush(ends, (now + left[effect.task_id].pop(0), effect.task_id))
            assert len(ends) <= slots

    act(decide(state, Submit([Ticket(task_id, task_id.split("/")[0]) for task_id in left])))
    while ends:
        now, task_id = heapq.heappop(ends)
        act(decide(state, Again(task_id) if left[task_id] else Finished(task_id)))
    assert not state.devices, "every task was started and finished"
    return now


ATTEMPTS = st.lists(st.integers(1, 100), min_size=1, max_size=3)
CHAINS = st.lists(st.lists(ATTEMPTS, min_size=1, max_size=8), min_size=1, max_size=20)


@given(slots=st.integers(1, 6), chains=CHAINS)
def test_the_makespan_never_exceeds_grahams_bound(slots: int, chains: list[list[list[int]]]) -> None:
    lengths = [sum(map(sum, chain)) for chain in chains]
    # total/m + (1 − 1/m)·longest, multiplied by m to stay with whole numbers.
    assert makespan(slots, chains) * slots <= sum(lengths) + (slots - 1) * max(lengths)


@given(devices=st.lists(st.sampled_from(DEVICES), min_size=1, max_size=20), slots=st.integers(1, 4))
def test_when_it_drains_nothing_is_started_whatever_ends(devices: list[str], slots: int) -> None:
    state = SchedulerState(slots)
    tickets = [Ticket(f"task-{number}", device) for number, device in enumerate(devices)]
    started = [effect.task_id for effect in decide(state, Submit(tickets)) if isinstance(effect, Start)]
    assert decide(state, Drain()) == []
    assert [decide(state, Finished(task_id)) for task_id in started] == [[] for _ in started]
    queued = [ticket.task_id for ticket in tickets if ticket.task_id not in started]
    assert [decide(state, Cancel(task_id)) for task_id in queued] == [[Withdrawn(task_id)] for task_id in queued]


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


def _at_a1_parked(state: SchedulerState) -> None:
    """One slot; a1 had it and waits for its phone, x has it, b1 was never served, a2 comes after a1."""
    assert decide(state, Submit([Ticket("a1", "A"), Ticket("a2", "A"), Ticket("x", "X"), Ticket("b1", "B")])) == [
        Start("a1", "A")
    ]
    assert decide(state, Park("a1")) == [Start("x", "X")]


def test_a_silent_phone_whose_parked_task_ends_is_not_next_before_one_that_was_never_served() -> None:
    state = SchedulerState(1)
    _at_a1_parked(state)
    assert decide(state, Cancel("a1")) == [Withdrawn("a1")]
    assert decide(state, Finished("a1")) == []
    assert decide(state, Finished("x")) == [Start("b1", "B")]


def test_what_a_recovered_task_was_owed_goes_with_it_when_it_is_cancelled() -> None:
    state = SchedulerState(1)
    _at_a1_parked(state)
    assert decide(state, Recover("a1")) == []
    assert decide(state, Cancel("a1")) == [Withdrawn("a1")]
    assert decide(state, Finished("a1")) == []
    assert decide(state, Finished("x")) == [Start("b1", "B")]


def test_nothing_of_a_phone_overtakes_the_end_of_its_withdrawn_task() -> None:
    state = SchedulerState(1)
    _at_a1_parked(state)
    assert decide(state, Cancel("a1")) == [Withdrawn("a1")]
    assert decide(state, Finished("x")) == [Start("b1", "B")]
    assert decide(state, Finished("b1")) == [], "the slot is free, and a2 waits for the end of a1"
    assert decide(state, Finished("a1")) == [Start("a2", "A")]


@pytest.mark.parametrize("event", [Cancel("a2"), Again("a2")])
def test_what_a_recovered_task_is_owed_stays_its_own_while_it_runs_whatever_becomes_of_the_next_one(
    event: Event,
) -> None:
    state = SchedulerState(1)
    _at_a1_parked(state)
    assert decide(state, Recover("a1")) == []
    assert decide(state, Finished("x")) == [Start("a1", "A")]
    decide(state, event)
    assert decide(state, PutBack("a1")) == [Start("b1", "B")]
    assert decide(state, Submit([Ticket("c1", "C")])) == []
    assert decide(state, DeviceReady("A")) == []
    assert decide(state, Finished("b1")) == [Start("a1", "A")], "owed a slot, ahead of C, which was never served"
