"""R5: every picture has one place, and no id can leave it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.artifact_key import artifact_key, encode_part

_PART = st.text(min_size=1, max_size=128)


def _key(**changes: object) -> str:
    values: dict[str, object] = {
        "video_id": "dQw4w9WgXcQ",
        "node_id": "PC-01",
        "device_id": "ABC123",
        "run_id": "run-uuid",
        "taken_at_ms": 1739012345678,
    }
    return artifact_key(**{**values, **changes})  # type: ignore[arg-type]  # a table of keywords


def test_the_key_is_the_one_of_the_rules() -> None:
    assert _key() == "dQw4w9WgXcQ/PC-01/ABC123/run-uuid/1739012345.png"


def test_a_run_without_a_video_uses_manual() -> None:
    assert _key(video_id=None).startswith("manual/PC-01/")


def test_a_second_shot_in_the_same_second_is_numbered() -> None:
    assert _key(ordinal=2).endswith("/1739012345-2.png")


@pytest.mark.parametrize("part", ["..", ".", "...", "a/b", "a\\b", "a\x00b", "\n", "../../etc", "C:", "nul.", "%2E%2E"])
def test_hostile_parts_stay_in_their_place(part: str) -> None:
    encoded = encode_part(part)
    assert "/" not in encoded
    assert "\\" not in encoded
    assert encoded.isprintable()
    assert encoded.strip(".")
    assert not encoded.endswith(".")


@given(_PART, _PART)
def test_two_ids_never_share_a_place(one: str, other: str) -> None:
    if one != other:
        assert encode_part(one) != encode_part(other)


@given(_PART, _PART, _PART, _PART)
def test_a_key_always_has_five_parts(video: str, node: str, device: str, run: str) -> None:
    parts = _key(video_id=video, node_id=node, device_id=device, run_id=run).split("/")
    assert len(parts) == 5
    assert all(part not in ("", ".", "..") for part in parts)


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        encode_part("")


def test_a_part_too_long_for_a_file_system_is_cut_and_still_its_own() -> None:
    one, other = encode_part("한" * 128), encode_part("한" * 127 + "글")
    assert one != other
    assert all(len(encoded) <= 200 for encoded in (one, other))
    assert one.startswith("%ED%95%9C")


@given(st.text(min_size=1, max_size=300))
def test_every_part_fits_a_file_system_and_never_ends_in_half_a_character(part: str) -> None:
    encoded = encode_part(part)
    assert len(encoded) <= 200
    assert re.fullmatch(r"(%[0-9A-F]{2}|[A-Za-z0-9_.~-])+(=[0-9a-f]{32})?", encoded)


def test_a_part_that_looks_like_a_cut_one_is_another() -> None:
    cut = encode_part("한" * 128)
    assert encode_part(cut) != cut
