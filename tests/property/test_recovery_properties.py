"""The recovery ladder: whatever a phone and its port do, and however long each move takes."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from muster.agent.recovery import (
    REPAIR_GAP_SEC,
    SERVER_RESTART_GAP_SEC,
    Climb,
    Move,
    Seen,
    decide,
    should_restart_server,
)

GRACE_SEC = 15.0
POSSIBLE = {
    Move.ASK: [Seen.ANSWERED, Seen.SILENT],
    Move.LOOK_AT_PORT: [Seen.PORT_OPEN, Seen.PORT_CLOSED],
    Move.RECONNECT: [Seen.REPAIRED],
    Move.REATTACH: [Seen.REPAIRED],
    Move.PAUSE: [Seen.PAUSED],
}
handles = st.sampled_from(["R58M123", "emulator-5554", "192.168.0.7:5555", "[::1]:5555", "phone.local:40001"])


@given(handles, st.data(), st.booleans())
@settings(deadline=None, max_examples=examples(300))
def test_every_climb_ends_in_time_and_never_repairs_tcp_blindly(handle: str, data: st.DataObject, heals: bool) -> None:
    now, climb, move, moves = 100.0, Climb(handle, 100.0 + GRACE_SEC), Move.ASK, list[tuple[float, Move]]()
    heals_at = 100.0 + data.draw(st.floats(0, 30)) if heals else float("inf")
    for _ in range(1_000):
        moves.append((now, move))
        seen = data.draw(st.sampled_from(POSSIBLE[move]))
        now += data.draw(st.floats(0.4, 6.0))
        if move is Move.ASK:
            seen = Seen.ANSWERED if now >= heals_at else Seen.SILENT
        move = decide(climb, seen, now)
        if move in (Move.RECOVERED, Move.GIVE_UP):
            break
    assert move in (Move.RECOVERED, Move.GIVE_UP), "it ends"
    assert (move is Move.RECOVERED) is (now >= heals_at)
    last_ask = max(at for at, made in moves if made is Move.ASK)
    assert last_ask <= 100.0 + GRACE_SEC + 4 * 6.0, "after its time it is asked once more at most"
    made = [move for _, move in moves]
    is_tcp = handle.rpartition(":")[2].isdigit() and ":" in handle
    assert Move.RECONNECT not in made if is_tcp else not {Move.REATTACH, Move.LOOK_AT_PORT} & {*made}
    for before, after in itertools.pairwise(made):
        assert after is not Move.REATTACH or before is Move.LOOK_AT_PORT, "the port has just answered"
        assert before is not Move.RECONNECT or after is Move.PAUSE
    repairs = [at for at, move in moves if move in (Move.RECONNECT, Move.REATTACH)]
    assert all(later - sooner >= REPAIR_GAP_SEC for sooner, later in itertools.pairwise(repairs))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 20), st.one_of(st.none(), st.floats(0, 2_000)))
def test_the_server_is_restarted_only_when_nothing_works_and_nobody_would_be_hit(
    known: int, given_up: int, running: int, since: float | None
) -> None:
    if should_restart_server(known=known, given_up=given_up, running=running, since_last_sec=since):
        assert running == 0 and given_up >= known and given_up >= 2
        assert since is None or since >= SERVER_RESTART_GAP_SEC


def test_a_server_with_ten_silent_phones_and_no_task_is_restarted_but_one_phone_that_answers_saves_it() -> None:
    assert should_restart_server(known=10, given_up=10, running=0, since_last_sec=None)
    assert not should_restart_server(known=10, given_up=9, running=0, since_last_sec=None)
    assert not should_restart_server(known=10, given_up=10, running=1, since_last_sec=None)
    assert not should_restart_server(known=1, given_up=1, running=0, since_last_sec=None)
