"""A restarted agent names the one it follows, and only once it was let in itself is it the one to follow."""

from pathlib import Path

import pytest

from muster.agent.instance import Instance


def test_a_first_start_follows_nobody(tmp_path: Path) -> None:
    assert Instance(tmp_path / "instance", "one").replaces is None


def test_a_successor_names_the_one_that_spoke_last(tmp_path: Path) -> None:
    Instance(tmp_path / "instance", "one").took_seat()
    assert Instance(tmp_path / "instance", "two").replaces == "one"


def test_one_that_was_never_let_in_is_nobody_to_follow(tmp_path: Path) -> None:
    Instance(tmp_path / "instance", "one").took_seat()
    Instance(tmp_path / "instance", "two")
    assert Instance(tmp_path / "instance", "three").replaces == "one"


@pytest.mark.parametrize("damaged", [b"", b"\xff\xfe", b"a b", b"x" * 65, b"one\n../two"])
def test_a_damaged_note_is_no_reason_not_to_start(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "instance").write_bytes(damaged)
    assert Instance(tmp_path / "instance", "one").replaces is None
