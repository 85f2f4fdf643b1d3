"""Who is next (R1.2–R1.4): told what happened, answers what to start. Pure; O(log devices) a decision.

Sentences that the property tests keep: never more tasks started than slots; never two on a device; a device's own tasks
in the order they came; no slot idle while an eligible device waits; among those, the device whose last service
ended longest ago is next, never-served ones first in order of submission, so none is passed over twice by the same
other; every submitted task is started exactly once unless it is cancelled or put back.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

from muster.agent.scheduler.model import (
    Cancel,
    DeviceAway,
    DeviceReady,
    Effect,
    Event,
    Finished,
    Lane,
    PutBack,
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
        case Finished(task_id):
            _leave_slot(state, task_id)
        case PutBack(task_id):
            _put_back(state, task_id)
        case Cancel(task_id):
            yield from _cancel(state, task_id)
        case DeviceAway(device_id):
            _lane(state, device_id).away = True
        case DeviceReady(device_id):
            lane = _lane(state, device_id)
            lane.away = False
            _line_up(state, lane)


def _submit(state: SchedulerState, ticket: Ticket) -> None:
    if ticket.task_id in state.devices:
        return
    state.devices[ticket.task_id] = ticket.device_id
    lane = _lane(state, ticket.device_id)
    lane.waiting[ticket.task_id] = None
    _line_up(state, lane)


def _leave_slot(state: SchedulerState, task_id: str) -> None:
    lane = _running_lane(state, task_id)
    if lane is None:
        return
    del state.devices[task_id]
    _end_service(state, lane)


def _put_back(state: SchedulerState, task_id: str) -> None:
    lane = _running_lane(state, task_id)
    if lane is None:
        return
    lane.waiting[task_id] = None
    lane.waiting.move_to_end(task_id, last=False)
    lane.away = True
    # It was not served: when it is ready again, it stands where it stood.
    lane.running = None
    state.running -= 1


def _cancel(state: SchedulerState, task_id: str) -> Iterator[Effect]:
    device_id = state.devices.get(task_id)
    if device_id is None:
        return
    lane = state.lanes[device_id]
    if lane.running == task_id:
        yield Stop(task_id)
        return
    del lane.waiting[task_id]
    del state.devices[task_id]
    yield Withdrawn(task_id)


def _fill_slots(state: SchedulerState) -> Iterator[Effect]:
    while state.running < state.slots and state.line:
        lane = state.lanes[heappop(state.line)[2]]
        lane.in_line = False
        # It went away or lost its work by a cancel since it lined up.
        if not lane.eligible:
            continue
        task_id, _ = lane.waiting.popitem(last=False)
        lane.running = task_id
        state.running += 1
        yield Start(task_id, lane.device_id)


def _end_service(state: SchedulerState, lane: Lane) -> None:
    lane.running = None
    state.running -= 1
    state.services += 1
    lane.served = state.services
    _line_up(state, lane)


def _line_up(state: SchedulerState, lane: Lane) -> None:
    """A lane stands in line at most once, and its place cannot change while it stands there."""
    if lane.eligible and not lane.in_line:
        lane.in_line = True
        heappush(state.line, (lane.served, lane.arrival, lane.device_id))


def _running_lane(state: SchedulerState, task_id: str) -> Lane | None:
    device_id = state.devices.get(task_id)
    lane = state.lanes[device_id] if device_id is not None else None
    return lane if lane is not None and lane.running == task_id else None


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
