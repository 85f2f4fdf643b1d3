"""Whatever a node's clock has done, a batch takes of each task its oldest events and leaves none out between them."""

import sqlite3
from collections import defaultdict

from hypothesis import example, given
from hypothesis import strategies as st

from muster.agent import journal_tables as tables

EVENTS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 100)), max_size=30)
# A clock that was put back ten seconds: what came after is older than what came before.
SET_BACK = [("a", 60), ("b", 60), ("b", 60), ("b", 40), ("b", 60), ("c", 60)]


def recorded(events: list[tuple[str, int]]) -> sqlite3.Connection:
    """A journal with (subject, when) in its outbox, positions from 1."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    tables.prepare(connection)
    connection.executemany(
        "INSERT INTO outbox (event_id, subject, fact, created_at_ms, body) VALUES (?, ?, 1, ?, '{}')",
        [(str(number), subject, at_ms) for number, (subject, at_ms) in enumerate(events)],
    )
    return connection


@given(events=EVENTS, count_max=st.integers(1, 12), fresh_since_ms=st.integers(0, 100))
@example(events=SET_BACK, count_max=4, fresh_since_ms=50)
def test_a_batch_takes_of_each_subject_its_oldest_without_a_gap(
    events: list[tuple[str, int]], count_max: int, fresh_since_ms: int
) -> None:
    connection = recorded(events)
    taken = [event.position for event in tables.pending(connection, count_max, 1_000_000, fresh_since_ms)]
    connection.close()
    assert len(taken) == len(set(taken)) <= count_max
    assert taken[:1] == ([1] if events else []), "the oldest of all is never left behind"
    places: dict[str, list[int]] = defaultdict(list)
    for position, (subject, _) in enumerate(events, 1):
        places[subject].append(position)
    for subject, positions in places.items():
        ours = [position for position in taken if position in positions]
        assert ours == positions[: len(ours)], f"{subject}: in order, and none left out"
