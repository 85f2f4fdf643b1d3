import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from muster.backend.live_frames import FrameRing, Pace, encode_frame
from muster.client.sse import SseParser

WINDOW, BEAT = 0.2, 2.0


def test_the_first_change_after_a_quiet_spell_is_due_at_once() -> None:
    pace = Pace(10.0, coalesce_sec=WINDOW, heartbeat_sec=BEAT)
    assert pace.due_in(10.0) == BEAT
    assert pace.changed(["a"]) is True
    assert pace.due_in(10.5) == 0.0
    assert pace.take_delta(10.5) == frozenset({"a"})


def test_only_the_first_news_of_a_window_asks_for_a_wake_up() -> None:
    pace = Pace(0.0, coalesce_sec=WINDOW, heartbeat_sec=BEAT)
    assert [pace.changed(["a"]), pace.changed(["b"]), pace.changed([])] == [True, False, False]
    assert pace.take_delta(0.0) == frozenset({"a", "b"})
    assert pace.changed(["c"]) is True


def test_a_change_of_the_run_alone_makes_a_delta_without_tasks() -> None:
    pace = Pace(0.0, coalesce_sec=WINDOW, heartbeat_sec=BEAT)
    pace.changed([])
    assert pace.take_delta(0.0) == frozenset()
    assert pace.take_delta(1.0) is None


moments = st.lists(st.tuples(st.floats(0.0, 0.5), st.sampled_from("abcdef") | st.none()), max_size=60)


@given(moments)
def test_no_change_is_lost_and_no_two_deltas_leave_within_a_window(steps: list[tuple[float, str | None]]) -> None:
    now, pace = 0.0, Pace(0.0, coalesce_sec=WINDOW, heartbeat_sec=BEAT)
    owed: set[str] = set()
    left: list[float] = []
    for pause, change in steps:
        now += pause
        if change is not None:
            pace.changed([change])
            owed.add(change)
        taken = pace.take_delta(now)
        if taken is not None:
            assert taken == owed
            owed.clear()
            left.append(now)
    now += 2 * WINDOW
    assert not owed or pace.take_delta(now) == frozenset(owed)
    assert all(later >= earlier + WINDOW for earlier, later in itertools.pairwise(left))


@given(moments)
def test_a_heartbeat_is_never_late_when_the_pace_is_followed(steps: list[tuple[float, str | None]]) -> None:
    now, pace, beats = 0.0, Pace(0.0, coalesce_sec=WINDOW, heartbeat_sec=BEAT), [0.0]
    for _, change in steps:
        if change is not None:
            pace.changed([change])
        now += pace.due_in(now)
        pace.take_delta(now)
        if pace.take_heartbeat(now):
            beats.append(now)
    assert all(math.isclose(later - earlier, BEAT) for earlier, later in itertools.pairwise(beats))


def test_a_frame_is_one_event_to_a_client() -> None:
    frame = encode_frame("delta", b'{"a":1}', "e.7")
    [event] = SseParser().feed(frame)
    assert (event.event, event.data, event.id) == ("delta", '{"a":1}', "e.7")


def ring_with(count: int, *, frames_max: int = 100, bytes_max: int = 10_000) -> tuple[FrameRing, list[bytes]]:
    ring = FrameRing("epoch", frames_max=frames_max, bytes_max=bytes_max)
    return ring, [ring.append("delta", b"%d" % n) for n in range(count)]


@given(st.integers(0, 30), st.integers(1, 20), st.integers(-2, 40))
def test_a_resume_gives_all_that_was_missed_or_admits_a_gap(count: int, frames_max: int, seen: int) -> None:
    ring, frames = ring_with(count, frames_max=frames_max)
    known = 0 <= seen <= count and count - seen <= frames_max
    assert ring.after(f"epoch.{seen}") == (frames[seen:] if known else None)


def test_an_id_from_another_life_of_the_backend_needs_a_snapshot() -> None:
    ring, _ = ring_with(3)
    for stranger in (None, "", "512", "other.2", "epoch.", "epoch.x", "epoch.²", "epoch.-1", "epoch." + "9" * 40):
        assert ring.after(stranger) is None
    assert ring.last_id == "epoch.3"


def test_the_ring_is_bounded_by_bytes_too() -> None:
    ring, frames = ring_with(50, bytes_max=5 * len(encode_frame("delta", b"10", "epoch.10")))
    assert ring.after("epoch.45") == frames[45:]
    assert ring.after("epoch.44") is None
