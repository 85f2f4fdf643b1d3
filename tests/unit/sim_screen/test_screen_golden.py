"""Each app state: its dump as it was agreed (golden/README.md), and a picture that agrees with the dump."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.examples import examples
from tests.support.screens import ENTER, STATES, TAB, Node, new_screen, nodes_of
from tests.unit.sim_screen.renew_golden import GOLDEN, readable

from muster.sim.screen import Screen

SMALL = (360, 800, 160)
SIZES = st.tuples(st.integers(200, 1500), st.integers(200, 2600), st.integers(72, 700))
state = pytest.mark.parametrize("name", STATES)


def screen_in(name: str, size: tuple[int, int, int] = SMALL, device_id: str = "R3CW0000001") -> Screen:
    screen = new_screen(device_id, size=size)
    STATES[name](screen)
    return screen


def picture_of(screen: Screen) -> Image.Image:
    picture = Image.open(io.BytesIO(screen.png()))
    picture.load()
    return picture


@state
def test_the_dump_is_the_golden_one(name: str) -> None:
    expected = (GOLDEN / f"{name}.xml").read_text(encoding="utf-8")
    assert readable(screen_in(name, (1080, 2400, 420)).dump()) == expected


def test_there_is_no_golden_dump_without_a_state() -> None:
    assert {path.stem for path in Path(GOLDEN).glob("*.xml")} == set(STATES)


@state
def test_the_picture_has_the_panel_s_size(name: str) -> None:
    picture = picture_of(screen_in(name))
    assert (picture.format, picture.size) == ("PNG", SMALL[:2])


@state
def test_something_is_drawn_wherever_the_dump_tells_a_text(name: str) -> None:
    screen = screen_in(name)
    picture = picture_of(screen)
    for node in nodes_of(screen.dump()):
        if node.text:
            assert len(picture.crop(node.bounds).getcolors() or ()) > 1, node


@state
def test_every_clickable_node_is_inside_the_picture_and_reacts_to_a_tap_at_its_centre(name: str) -> None:
    screen = screen_in(name)
    before, focus, picture = screen.dump(), screen.current_focus(), screen.png()
    for node in nodes_of(before):
        left, top, right, bottom = node.bounds
        assert 0 <= left <= right <= SMALL[0], node
        assert 0 <= top <= bottom <= SMALL[1], node
        if node.clickable and not node.focused:
            assert left < right, node
            assert top < bottom, node
            touched = screen_in(name)
            touched.tap(*node.centre)
            assert (touched.dump(), touched.current_focus()) != (before, focus), node
            assert touched.png() != picture, node


@state
def test_enter_on_a_focused_node_does_what_a_tap_does(name: str) -> None:
    for number, node in enumerate(_pressable(screen_in(name))):
        tapped, entered = screen_in(name), screen_in(name)
        while _focused(entered) != node.resource_id or _pressable(entered)[number].focused is False:
            entered.key(TAB)
        tapped.tap(*node.centre)
        entered.key(ENTER)
        assert entered.current_focus() == tapped.current_focus(), node
        assert _without_focus(entered) == _without_focus(tapped), node


@state
def test_the_same_calls_give_the_same_bytes(name: str) -> None:
    one, other = screen_in(name), screen_in(name)
    assert one.png() == other.png() == one.png()
    assert one.dump() == other.dump()


@pytest.mark.parametrize("name", [name for name in STATES if name != "asleep"])
def test_every_phone_s_picture_differs(name: str) -> None:
    pictures = {screen_in(name, device_id=f"R3CW{number:07d}").png() for number in range(4)}
    assert len(pictures) == 4


@settings(deadline=None, max_examples=examples(60))
@given(name=st.sampled_from(sorted(STATES)), size=SIZES)
def test_on_any_panel_all_that_can_be_pressed_can_be_seen(name: str, size: tuple[int, int, int]) -> None:
    screen = new_screen(size=(1080, 2400, 420))
    STATES[name](screen)
    screen.resize(*size)
    width, height, _ = screen.size
    for node in nodes_of(screen.dump()):
        left, top, right, bottom = node.bounds
        assert 0 <= left < right <= width, node
        assert 0 <= top < bottom <= height, node


@settings(deadline=None, max_examples=examples(15))
@given(name=st.sampled_from(sorted(STATES)), size=SIZES)
def test_a_picture_can_be_drawn_on_any_panel(name: str, size: tuple[int, int, int]) -> None:
    screen = new_screen(size=(1080, 2400, 420))
    STATES[name](screen)
    screen.resize(*size)
    assert picture_of(screen).size == screen.size[:2]


def _pressable(screen: Screen) -> list[Node]:
    return [node for node in nodes_of(screen.dump()) if node.clickable and node.kind != "android.widget.EditText"]


def _focused(screen: Screen) -> str | None:
    return next((node.resource_id for node in nodes_of(screen.dump()) if node.focused), None)


def _without_focus(screen: Screen) -> str:
    return screen.dump().replace('focused="true"', 'focused="false"')
