import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.backend.console import views, wording
from muster.backend.console.assets import FOLDER
from muster.backend.console.language import LANGUAGES
from muster.contracts.api import NodeView, TaskCounts, TaskView
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.task import TaskState
from muster.domain.trouble import Trouble

ENGLISH = LANGUAGES["en"]
STYLES = (FOLDER / "console.css").read_text()
counts = st.builds(TaskCounts, **{state.value: st.integers(0, 500) for state in TaskState})


@given(counts)
def test_a_bar_is_proportional_and_leaves_room_for_what_is_queued(found: TaskCounts) -> None:
    parts = views.segments(found)
    assert [part.start for part in parts] == [sum(p.length for p in parts[:at]) for at in range(len(parts))]
    assert {part.state: part.length for part in parts} == {
        state: views.count_of(found, state)
        for state in TaskState
        if state is not TaskState.QUEUED and views.count_of(found, state)
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["SIM-10", "SIM-9", "SIM-1"], ["SIM-1", "SIM-9", "SIM-10"]),
        (["R58", "10.0.0.12:5555", "10.0.0.3:5555", "AB"], ["10.0.0.3:5555", "10.0.0.12:5555", "AB", "R58"]),
        (["b²", "b", "b2"], ["b", "b2", "b²"]),
    ],
)
def test_phones_stand_in_the_order_a_person_counts(names: list[str], expected: list[str]) -> None:
    assert sorted(names, key=views.natural) == expected


@given(st.lists(st.text(max_size=12)))
def test_any_names_can_be_put_in_order(names: list[str]) -> None:
    ordered = sorted(names, key=views.natural)
    assert sorted(ordered, key=views.natural) == ordered


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"step_id": "login", "step_index": 4, "steps_total": 20}, "5/20 login"),
        ({"step_id": "login", "step_index": 4}, "5 login"),
        ({"step_id": "device-preflight"}, "device-preflight"),
        ({"step_id": "device-preflight", "failure_reason": "adb_missing"}, "adb_missing"),
        ({"failure_reason": "battery_low"}, "battery_low"),
        ({"status": "cancelled", "failure_reason": "cancelled"}, ""),
        ({}, ""),
    ],
)
def test_a_tile_tells_the_step_or_why_it_came_to_none(told: dict[str, Any], text: str) -> None:
    run = "01890000-0000-7000-8000-000000000000"
    known = {"task_id": run, "run_id": run, "node_id": "PC-01", "device_id": "A", "status": "failed", "updated_at": 1}
    assert views.Tile(TaskView.model_validate(known | told), hidden=False).step == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, ""),
        (-1, ""),
        (0, "0 ms"),
        (412, "412 ms"),
        (1_000, "1 s"),
        (59_999, "59 s"),
        (133_000, "2 min 13 s"),
        (3_600_000, "1 h 00 min"),
        (90 * 60_000, "1 h 30 min"),
    ],
)
def test_durations_are_short(milliseconds: int | None, text: str) -> None:
    assert wording.duration(milliseconds, ENGLISH) == text


@pytest.mark.parametrize(("phones", "size"), [(1, "cards"), (20, "cards"), (100, "medium"), (2_000, "compact")])
def test_tiles_shrink_so_that_the_wall_fits_on_a_screen(phones: int, size: str) -> None:
    assert views.tile_size(phones) == size


# ---- the palette (spec/08): the given fills, and ink that can be read on them ----

GIVEN = {
    "queued": ("#e6e6e7", "#262626"),
    "running": ("#afccf7", "#163363"),
    "waiting": ("#f1d369", "#614e17"),
    "succeeded": ("#5dbba1", "#0f6759"),
    "failed": ("#c74000", "#fe762d"),
}


def token(name: str) -> tuple[str, str]:
    found = re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", STYLES)
    assert found, name
    return found[1], found[2]


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("state", GIVEN)
def test_status_colours_are_the_measured_ones(state: str) -> None:
    assert token(state) == GIVEN[state]


@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *((f"{state}-ink", state) for state in (*GIVEN, "skipped", "cancelled")),
        *((ink, ground) for ink in ("text", "muted", "accent", "bad") for ground in ("page", "surface", "sunken")),
        ("text", "accent-soft"),
    ],
)
def test_text_can_be_read_in_light_and_dark(ink: str, ground: str) -> None:
    pairs = zip(token(ink), token(ground), strict=True)
    assert [pair for pair in pairs if contrast(*pair) < 4.5] == []


def test_every_state_has_a_glyph_of_its_own() -> None:
    shapes = re.findall(r"--shape: ([^;]+);", STYLES)
    assert len(shapes) == len(set(shapes)) == 8
    assert all(f'[data-s="{state.value}"]' in STYLES for state in TaskState)


def test_tiles_have_no_transition() -> None:
    """It cost 60-90 points of a core at 2,000 tiles (research, 2.4)."""
    assert "transition" not in STYLES
    assert "animation" not in STYLES


def test_every_node_that_needs_somebody_is_shown_and_the_others_while_there_is_room() -> None:
    nodes = [NodeView(node_id=f"PC-{n}", status="offline" if n in (2, 10) else "online") for n in range(1, 13)]
    shown, more = views.shown_nodes(nodes)
    assert [node.node_id for node in shown] == ["PC-2", "PC-10", "PC-1", "PC-3", "PC-4", "PC-5"]
    assert more == 6


def test_no_node_is_no_strip() -> None:
    assert views.shown_nodes([]) == ([], 0)


def test_every_trouble_of_a_node_has_its_words() -> None:
    assert set(wording.TROUBLES) == set(Trouble)


def test_every_failure_reason_has_its_words_in_every_language() -> None:
    """Beside the agent's own message, which is English; that none is left untranslated: test_language.py."""
    for language in LANGUAGES.values():
        told = wording.for_script(language)
        assert told["reason"].keys() == {reason.value for reason in FailureReason}  # type: ignore[attr-defined]
        assert told["class"].keys() == {kind.value for kind in FailureClass}  # type: ignore[attr-defined]
    assert set(wording.WAITING_REASONS) < set(FailureReason)
