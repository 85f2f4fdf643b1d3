"""Who is next (R1.2–R1.4): told what happened, answers what to start. Pure; O(log devices) a decision.

Sentences that the property tests keep: never more tasks started than slots; never two on a device; a device's own tasks
in the order they came; no slot idle while an eligible device waits; among those, the device whose last service
ended longest ago is next, never-served ones first in order of submission, so none is passed over twice by the same
other; a parked task has no slot, lets nothing of its device overtake it, and has the next slot when it recovers; a task
that is withdrawn lets nothing of its device overtake it until its end is journaled; every submitted task is started
exactly once unless it is cancelled, and once more each time it is put back, recovers or is tried again.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

from muster.agent.scheduler.model import (
    Again,
    Cancel,
    DeviceAway,
    DeviceReady,
    Drain,
    Effect,
    Event,
    Finished,
    Lane,
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
from muster.domain.limits import DEVICES_PER_NODE_MAX

# Beyond this many devices ever seen, idle ones are forgotten: to the next submission they are never-served, which is
# where the ones served longest ago stand anyway.
LANES_KEPT_MAX: Final = 4 * DEVICES_PER_NODE_MAX


def decide(state: SchedulerState, event: Event) -> list[Effect]:
    """Applies one event to `state` and answers what to do, in order. An event about an unknown task changes nothing."""
    effects = list(_apply(state, event))
    effects.extend(_fill_slots(state))
    return effects


def _apply(state: SchedulerState, event: Event) -> Iterator[Effect]:
    match event:
        case Submit(tickets):
            for ticket in tickets:
                _submit(state, ticket)
        case Recover(task_id):
            _recover(state, task_id)
        case Cancel(task_id):
            yield from _cancel(state, task_id)
        case DeviceAway(device_id):
            _lane(state, device_id).away = True
        case DeviceReady(device_id):
            lane = _lane(state, device_id)
            lane.away = False
            _line_up(state, lane)
        case Drain():
            state.slots = 0
        case _:
            _attempt_over(state, event)


def _attempt_over(state: SchedulerState, event: Finished | PutBack | Park | Again) -> None:
    lane = _lane_of(state, event.task_id)
    if lane is None:
        return
    if lane.running == event.task_id:
        _give_slot_back(state, lane, event)
    elif event.task_id in lane.ending:
        _end_withdrawal(state, lane, event)
    elif isinstance(event, Again):
        _begin_anew(state, lane, event.task_id)


def _give_slot_back(state: SchedulerState, lane: Lane, event: Finished | PutBack | Park | Again) -> None:
    lane.running = None
    state.running -= 1
    match event:
        case Finished(task_id):
            del state.devices[task_id]
            _end_service(state, lane)
        case Again(task_id):
            _queue_first(lane, task_id)
            _end_service(state, lane)
        case PutBack(task_id):
            # It was not served: when it is ready again, it stands where it stood.
            _queue_first(lane, task_id)
            lane.away = True
        case Park(task_id):
            lane.parked, lane.recovered = task_id, None


def _submit(state: SchedulerState, ticket: Ticket) -> None:
    if ticket.task_id in state.devices:
        return
    state.devices[ticket.task_id] = ticket.device_id
    lane = _lane(state, ticket.device_id)
    lane.waiting[ticket.task_id] = None
    _line_up(state, lane)


def _recover(state: SchedulerState, task_id: str) -> None:
    lane = _lane_of(state, task_id)
    if lane is None or lane.parked != task_id:
        return
    lane.parked = None
    _queue_first(lane, task_id)
    state.recoveries += 1
    lane.recovered = state.recoveries
    _line_up(state, lane)


def _end_withdrawal(state: SchedulerState, lane: Lane, event: Finished | PutBack | Park | Again) -> None:
    match event:
        case Finished(task_id):
            del lane.waiting[task_id]
            del state.devices[task_id]
        case Again():
            pass
        case _:
            return
    lane.ending.discard(event.task_id)
    _line_up(state, lane)


def _begin_anew(state: SchedulerState, lane: Lane, task_id: str) -> None:
    """Another attempt has no claim to the place that the one before it was owed."""
    if _forgo_claim(state, lane, task_id):
        _line_up(state, lane)


def _forgo_claim(state: SchedulerState, lane: Lane, task_id: str) -> bool:
    """Parked or recovered: it is first in its queue, and owed nothing. False: it is neither."""
    if lane.parked == task_id:
        lane.parked = None
        _queue_first(lane, task_id)
    elif not _is_owed(lane, task_id):
        return False
    _count_service(state, lane)
    return True


def _is_owed(lane: Lane, task_id: str) -> bool:
    """It has recovered and waits for its slot. While it runs, the next one of its queue is not the one that is owed."""
    return lane.running is None and lane.recovered is not None and next(iter(lane.waiting), None) == task_id


def _queue_first(lane: Lane, task_id: str) -> None:
    lane.waiting[task_id] = None
    lane.waiting.move_to_end(task_id, last=False)


def _cancel(state: SchedulerState, task_id: str) -> Iterator[Effect]:
    lane = _lane_of(state, task_id)
    if lane is None:
        return
    if lane.running == task_id or task_id in lane.ending:
        yield Stop(task_id)
        return
    _forgo_claim(state, lane, task_id)
    lane.ending.add(task_id)
    yield Withdrawn(task_id)


def _fill_slots(state: SchedulerState) -> Iterator[Effect]:
    while state.running < state.slots and state.line:
        place = heappop(state.line)
        lane = state.lanes[place[-1]]
        lane.in_line = False
        # It went away or lost its work by a cancel since it lined up, or lost a better place.
        if not lane.eligible or lane.place != place:
            _line_up(state, lane)
            continue
        task_id, _ = lane.waiting.popitem(last=False)
        lane.running = task_id
        state.running += 1
        yield Start(task_id, lane.device_id)


def _end_service(state: SchedulerState, lane: Lane) -> None:
    _count_service(state, lane)
    _line_up(state, lane)


def _count_service(state: SchedulerState, lane: Lane) -> None:
    """Its task had a slot, even if only to be parked; what that task was still owed is not its next one's."""
    lane.recovered = None
    state.services += 1
    lane.served = state.services


def _line_up(state: SchedulerState, lane: Lane) -> None:
    """A lane stands in line at most once; its place can only become worse while it stands there."""
    if lane.eligible and not lane.in_line:
        lane.in_line = True
        heappush(state.line, lane.place)


def _lane_of(state: SchedulerState, task_id: str) -> Lane | None:
    device_id = state.devices.get(task_id)
    return state.lanes[device_id] if device_id is not None else None


def _lane(state: SchedulerState, device_id: str) -> Lane:
    lane = state.lanes.get(device_id)
    if lane is None:
        if len(state.lanes) >= LANES_KEPT_MAX:
            _forget_idle(state)
        state.arrivals += 1
        lane = state.lanes[device_id] = Lane(device_id, state.arrivals)
    return lane


def _forget_idle(state: SchedulerState) -> None:
    """Costs one pass each time as many new devices have come as are kept: constant time a device."""
    state.lanes = {device_id: lane for device_id, lane in state.lanes.items() if not lane.idle or lane.in_line}
