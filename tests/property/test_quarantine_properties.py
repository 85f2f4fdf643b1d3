"""Quarantine under virtual time: whatever happens, in whatever order."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from muster.agent.quarantine import (
    Effect,
    Entered,
    Event,
    Isolate,
    Left,
    Probed,
    Quarantine,
    Release,
    TaskEnded,
    counts_against,
    decide,
    due,
    from_document,
    probe_interval_sec,
    to_document,
)
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.limits import (
    QUARANTINE_AFTER_FAILURES,
    QUARANTINE_CLEAN_PROBES,
    QUARANTINE_PROBE_SEC,
    QUARANTINE_PROBE_SEC_MAX,
)

HUNG = FailureReason.DEVICE_UNRESPONSIVE
names = st.sampled_from(["A", "B"])
reasons = st.one_of(st.none(), st.sampled_from(FailureReason))
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(TaskEnded, names, st.one_of(reasons, st.just(HUNG))),
    st.builds(Probed, names, st.booleans()),
    st.builds(Isolate, names),
    st.builds(Release, names),
)
histories = st.lists(st.tuples(events, st.floats(0, 4_000)), max_size=60)


def fail(quarantine: Quarantine, name: str, times: int, now: float = 0.0) -> list[Effect]:
    return [effect for _ in range(times) for effect in decide(quarantine, TaskEnded(name, HUNG), now)]


@given(histories)
@settings(deadline=None, max_examples=examples(300))
def test_a_phone_is_held_exactly_between_being_told_in_and_out(history: list[tuple[Event, float]]) -> None:
    quarantine, inside, now = Quarantine(), set[str](), 0.0
    for event, pause in history:
        now += pause
        for effect in decide(quarantine, event, now):
            if isinstance(effect, Left):
                assert effect.device_id in inside, "it leaves once"
                inside.discard(effect.device_id)
            else:
                inside.add(effect.device_id)
        assert set(quarantine.held) == inside
        assert all((quarantine.why(name) is not None) is (name in inside) for name in ("A", "B"))


@given(histories)
@settings(deadline=None, max_examples=examples(300))
def test_only_failures_of_the_phone_in_a_row_bring_it_in_and_only_clean_probes_or_people_out(
    history: list[tuple[Event, float]],
) -> None:
    """A model of the rule in plain words beside the code."""
    quarantine, now = Quarantine(), 0.0
    streak, clean = {"A": 0, "B": 0}, {"A": 0, "B": 0}
    held: dict[str, str] = {}
    for event, pause in history:
        now += pause
        name = event.device_id
        match event:
            case TaskEnded(_, None):
                streak[name] = 0
            case TaskEnded(_, reason) if reason is not None and counts_against(reason) and name not in held:
                streak[name] += 1
                if streak[name] == QUARANTINE_AFTER_FAILURES:
                    held[name], clean[name], streak[name] = "failures", 0, 0
            case Probed(_, is_clean) if held.get(name) == "failures":
                clean[name] = clean[name] + 1 if is_clean else 0
                if clean[name] == QUARANTINE_CLEAN_PROBES:
                    del held[name]
                    streak[name] = 0
            case Isolate():
                held[name], streak[name] = "hand", 0
            case Release():
                held.pop(name, None)
                streak[name] = 0
        decide(quarantine, event, now)
        assert {name: "hand" if entry.by_hand else "failures" for name, entry in quarantine.held.items()} == held


@given(histories)
@settings(deadline=None)
def test_a_restart_keeps_who_is_held_and_what_was_counted(history: list[tuple[Event, float]]) -> None:
    quarantine, now = Quarantine(), 0.0
    for event, pause in history:
        now += pause
        decide(quarantine, event, now)
    again = from_document(json.loads(json.dumps(to_document(quarantine))), 7.0)
    assert to_document(again) == to_document(quarantine)
    assert due(again, 7.0) == [], "nobody is probed before the interval, as after any failure"
    assert set(due(again, 7.0 + QUARANTINE_PROBE_SEC_MAX)) == {n for n, h in quarantine.held.items() if not h.by_hand}


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["held", "streaks", "stays", "A", "why", "by_hand"]), inner), max_leaves=20))  # fmt: skip
@settings(deadline=None)
def test_a_file_with_anything_in_it_can_be_read(document: object) -> None:
    quarantine = from_document(document, 0.0)
    assert json.dumps(to_document(quarantine))


def test_every_relapse_doubles_the_wait_up_to_the_limit_and_a_success_forgets_it() -> None:
    quarantine, now, waits = Quarantine(), 0.0, []
    for _ in range(10):
        assert [type(effect) for effect in fail(quarantine, "A", QUARANTINE_AFTER_FAILURES, now)] == [Entered]
        wait = quarantine.held["A"].probe_at - now
        assert due(quarantine, now + wait - 0.001) == [] and due(quarantine, now + wait) == ["A"]
        waits.append(wait)
        for _ in range(QUARANTINE_CLEAN_PROBES):
            now = quarantine.held["A"].probe_at if "A" in quarantine.held else now
            decide(quarantine, Probed("A", True), now)
        assert quarantine.why("A") is None
    assert waits[:3] == [QUARANTINE_PROBE_SEC, 2 * QUARANTINE_PROBE_SEC, 4 * QUARANTINE_PROBE_SEC]
    assert waits[-1] == QUARANTINE_PROBE_SEC_MAX == max(waits)
    decide(quarantine, TaskEnded("A", None), now)
    fail(quarantine, "A", QUARANTINE_AFTER_FAILURES, now)
    assert quarantine.held["A"].probe_at == now + probe_interval_sec(1)


def test_no_fault_of_recipe_or_operator_or_node_counts_against_a_phone() -> None:
    for reason in FailureReason:
        if reason.failure_class in (FailureClass.RECIPE, FailureClass.OPERATOR):
            assert not counts_against(reason)
    node = {
        FailureReason.UPLOAD_ERROR,
        FailureReason.NODE_RESTARTED,
        FailureReason.VENDOR_WS_ERROR,
        FailureReason.UNKNOWN,
    }
    assert not any(map(counts_against, node))
    assert all(map(counts_against, (HUNG, FailureReason.STEP_TIMEOUT, FailureReason.VENDOR_COMMAND_ERROR)))
