"""Profiles: what is read, what is refused and in which words, who gets which character."""

import re
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.sim.characters import AnyPhones, Hanging, Healthy, Slow
from muster.sim.models import draw_identities
from muster.sim.profile import Profile, ProfileInvalid, assign, load_profile, parse_profile

WHOLE = """
seed: 7
phones:
  - {character: slow, share: 0.2, factor: 8}
  - {character: hanging, count: 1, at: {programs: [screencap, input tap *], nth: 2}, lasts: 30}
  - {character: hanging, numbers: [3], lasts: {low: 1, usual: 2, high: 3}}
  - {character: unauthorized, share: 0.1, allowed_after: 5}
  - {character: offline, count: 1}
  - {character: missing, count: 1, arrives_after: 2}
  - {character: not_booted, count: 1}
  - {character: flapping, count: 1, up: 5, down: 1}
  - {character: crashing, count: 1, what: app, at: {programs: [am]}}
  - {character: full_disk, count: 1, free_bytes: 1000}
  - {character: moving, count: 1}
  - {character: no_adb, count: 1}
  - {character: healthy, count: 1, battery: 9, temperature: 50, dialogs: [update], sign_in: {always_fails: true}}
timing:
  screencap: {low_ms: 1, usual_ms: 2, high_ms: 3}
vendor: {late_share: 0.5, refused_actions: [screen]}
"""


def kinds(profile: Profile, devices: int, seed: int) -> Counter[str]:
    identities = draw_identities(devices, seed)
    return Counter(type(entry).__name__ for entry in assign(profile, identities, seed).values())


def test_a_whole_profile_is_read_and_every_character_finds_its_phones() -> None:
    profile = parse_profile(WHOLE)
    assert profile.spreads()["screencap"].high_ms == 3
    assert profile.spreads()["uiautomator"].high_ms == 3000
    assert (profile.quirks(1).late_share, profile.quirks(1).refused_actions) == (0.5, frozenset({"screen"}))
    counted = kinds(profile, 20, 7)
    assert counted == {
        "Slow": 4, "Hanging": 2, "Unauthorized": 2, "Offline": 1, "Missing": 1, "NotBooted": 1, "Flapping": 1,
        "Crashing": 1, "FullDisk": 1, "Moving": 1, "NoAdb": 1, "Healthy": 4,
    }  # fmt: skip


def test_a_number_names_a_phone() -> None:
    identities = draw_identities(20, 1)
    third = assign(parse_profile(WHOLE), identities, 1)[identities[2].device_id]
    assert isinstance(third, Hanging)
    assert third.lasts is not None
    assert third.lasts.high == 3


def test_the_same_seed_gives_the_same_rack_and_another_one_another() -> None:
    profile = parse_profile(WHOLE)

    def rack(seed: int) -> list[tuple[str, str, str]]:
        identities = draw_identities(30, seed)
        entries = assign(profile, identities, seed)
        return [(i.device_id, i.model.model, entries[i.device_id].model_dump_json()) for i in identities]

    assert rack(5) == rack(5)
    assert rack(5) != rack(6)


def test_a_larger_rack_begins_with_the_phones_of_a_smaller_one() -> None:
    assert draw_identities(50, 3)[:20] == draw_identities(20, 3)
    assert len({identity.device_id for identity in draw_identities(1000, 3)}) == 1000


def test_an_empty_profile_is_a_healthy_rack() -> None:
    assert kinds(parse_profile(""), 5, 1) == {"Healthy": 5}
    assert kinds(parse_profile("phones: []"), 5, 1) == {"Healthy": 5}


def test_everything_that_is_wrong_is_told_at_once_with_its_place() -> None:
    text = """
seed: -1
colour: red
phones:
  - {character: slow, share: 0.2, factor: 0.5}
  - {character: wobbly, share: 0.1}
  - {character: hanging, share: 0.1, count: 2, at: {nth: 0}}
  - {character: offline}
timing: {screencap: {low_ms: 5, usual_ms: 2, high_ms: 3}}
vendor: {sleepy_share: 0.1}
"""
    with pytest.raises(ProfileInvalid) as caught:
        parse_profile(text)
    places = [problem.split(":")[0] for problem in caught.value.problems]
    assert places == [
        "seed",
        "phones[0].factor",
        "phones[1]",
        "phones[2].at.nth",
        "phones[3]",
        "timing.screencap",
        "vendor",
        "colour",
    ]
    assert "wobbly" in caught.value.problems[2]
    assert "exactly one of share, count and numbers" in caught.value.problems[4]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("phones: [}", "not YAML"),
        ("- a", "Input should be"),
        ("phones: [{character: slow, share: 0.7}, {character: offline, share: 0.7}]", "together 1.4, above 1"),
        ("phones: [{character: slow, numbers: [1]}, {character: offline, numbers: [1]}]", "named by two entries"),
        ("phones: [{character: slow, numbers: [1, 1]}]", "each once"),
        ("vendor: {late_share: 7}", "late_share"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(text: str, words: str) -> None:
    with pytest.raises(ProfileInvalid, match=words):
        parse_profile(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("phones: [{character: slow, numbers: [9]}]", r"phones\[0\].numbers: there is no phone 9, the rack has 5"),
        ("phones: [{character: slow, count: 6}]", "6 phones are wanted, the rack has 5"),
    ],
)
def test_a_profile_that_wants_more_phones_than_there_are_is_refused(text: str, words: str) -> None:
    with pytest.raises(ProfileInvalid, match=words):
        assign(parse_profile(text), draw_identities(5, 1), 1)


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid, match=r"none\.yaml: No such file"):
        load_profile(tmp_path / "none.yaml")


@given(st.lists(st.floats(0.01, 0.2), min_size=1, max_size=5), st.integers(1, 100), st.integers(0, 5))
def test_shares_are_rounded_so_that_their_sum_is_too(shares: list[float], devices: int, seed: int) -> None:
    profile = Profile(phones=tuple(Slow(character="slow", share=share) for share in shares))
    entries = assign(profile, draw_identities(devices, seed), seed).values()
    assert len(entries) == devices
    slow = sum(isinstance(entry, Slow) for entry in entries)
    assert slow == round(sum(share * devices for share in shares))
    assert all(isinstance(entry, Slow | Healthy) for entry in entries)


DOCUMENT = (Path(__file__).parents[3] / "docs" / "virtual-rack.md").read_text()


def test_the_profile_in_the_documentation_is_one() -> None:
    found = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    profile = parse_profile(found[1])
    assert len(kinds(profile, 40, 7)) == len(profile.phones)


def test_the_documentation_knows_every_character() -> None:
    characters = {kind.model_fields["character"].annotation.__args__[0] for kind in get_args(AnyPhones)}
    assert {name for name in characters if f"| `{name}` |" not in DOCUMENT} == set()
