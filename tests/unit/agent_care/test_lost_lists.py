"""The node's lists of reserved and quarantined phones whose file cannot be read: what is safe, and what is said."""

import asyncio
import io
import json
import os
from pathlib import Path

import pytest
from tests.support.manual_clock import ManualClock

from muster.agent.kept_file import KeptFile
from muster.agent.ports import ReserveTerms
from muster.agent.quarantine import Isolate, Release, TaskEnded
from muster.agent.quarantine_book import QuarantineBook
from muster.agent.reservations import Reservations
from muster.domain.failure import FailureReason
from muster.domain.limits import QUARANTINE_AFTER_FAILURES, RESERVATION_MINUTES_MAX
from muster.runtime.logs import configure_logs

RUBBISH = [
    b"\xff{",
    b"[]",
    b"7",
    b'{"A": 7}',
    b'{"held": {"": {"owner": 7}}, "settled": []}',
    b'{"held": [], "settled": 7}',
]


def written(folder: Path, rubbish: bytes, clock: ManualClock) -> Path:
    """A file that somebody or something has spoilt, now."""
    file = folder / "reservations.json"
    file.write_bytes(rubbish)
    os.utime(file, (clock.now_ms() / 1000, clock.now_ms() / 1000))
    return file


async def loaded(folder: Path, clock: ManualClock) -> Reservations:
    reservations = Reservations(folder / "reservations.json", clock)
    await reservations.load()
    return reservations


@pytest.mark.parametrize("rubbish", RUBBISH)
async def test_a_file_that_cannot_be_read_may_have_reserved_any_phone_and_that_is_said(
    tmp_path: Path, rubbish: bytes
) -> None:
    clock = ManualClock()
    file = written(tmp_path, rubbish, clock)
    reservations = await loaded(tmp_path, clock)
    assert reservations.why("A") == "perhaps reserved, for 7 d more: this node's file of reservations could not be read"
    assert reservations.count() == 1, "the adb server is not restarted under the hands of whoever it is"
    assert "each phone counts as reserved, for 7 d more" in (reservations.trouble or "")
    assert not file.exists() and file.with_suffix(".unreadable").read_bytes() == rubbish, "a person may still read it"


@pytest.mark.parametrize("entry", [7, {}, {"owner": 7}, {"owner": "lee", "reason": None, "until_ms": "soon"}])
async def test_an_entry_that_cannot_be_read_reserves_its_phone_and_no_other(tmp_path: Path, entry: object) -> None:
    clock = ManualClock()
    good = {"owner": "kim", "reason": None, "until_ms": clock.now_ms() + 3_600_000}
    written(tmp_path, json.dumps({"held": {"A": good, "B": entry}, "settled": []}).encode(), clock)
    reservations = await loaded(tmp_path, clock)
    assert reservations.why("A") == "reserved by kim for 60 min more"
    assert "perhaps reserved, for 7 d more: its entry" in (reservations.why("B") or "")
    assert reservations.owner("B") is None, "anybody may reserve it"
    assert reservations.why("C") is None
    assert (reservations.trouble or "").endswith("at most: B")


async def test_no_start_prolongs_what_an_entry_that_cannot_be_read_holds(tmp_path: Path) -> None:
    clock = ManualClock()
    written(tmp_path, b'{"held": {"A": 7, "B": 7}, "settled": []}', clock)
    reservations = await loaded(tmp_path, clock)
    assert reservations.release("B")
    await reservations.save()
    clock.jump(RESERVATION_MINUTES_MAX * 60 - 1)
    reservations = await loaded(tmp_path, clock)
    assert (reservations.why("A") or "").startswith("perhaps reserved, for 1 min more")
    assert reservations.why("B") is None, "somebody has said so"
    clock.jump(1)
    assert (reservations.why("A"), reservations.trouble) == (None, None)


async def test_what_somebody_says_of_a_phone_counts_also_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    written(tmp_path, b"", clock)
    reservations = await loaded(tmp_path, clock)
    assert reservations.owner("A") is None, "anybody may reserve it"
    reservations.reserve("A", ReserveTerms("kim", None, 60))
    assert reservations.release("B") and not reservations.release("B")
    await reservations.save()
    reservations = await loaded(tmp_path, clock)
    assert reservations.why("A") == "reserved by kim for 60 min more"
    assert reservations.why("B") is None
    assert "perhaps" in (reservations.why("C") or "")
    clock.jump(3_600)
    assert reservations.why("A") is None, "who reserved it anew has settled it"


async def test_no_reservation_outlives_the_longest_one_that_the_file_could_have_had(tmp_path: Path) -> None:
    clock = ManualClock()
    written(tmp_path, b"", clock)
    reservations = await loaded(tmp_path, clock)
    clock.jump(RESERVATION_MINUTES_MAX * 60 - 1)
    assert (
        reservations.why("A") == "perhaps reserved, for 1 min more: this node's file of reservations could not be read"
    )
    clock.jump(1)
    assert (reservations.why("A"), reservations.trouble, reservations.count()) == (None, None, 0)
    assert (await loaded(tmp_path, clock)).why("A") is None


async def test_whoever_takes_the_unreadable_file_away_has_settled_it(tmp_path: Path) -> None:
    clock = ManualClock()
    aside = written(tmp_path, b"", clock).with_suffix(".unreadable")
    assert (await loaded(tmp_path, clock)).trouble
    aside.unlink()
    reservations = await loaded(tmp_path, clock)
    assert (reservations.why("A"), reservations.trouble) == (None, None)


async def test_a_file_that_is_mended_and_put_back_counts_as_if_nothing_had_been(tmp_path: Path) -> None:
    clock = ManualClock()
    reservations = await loaded(tmp_path, clock)
    reservations.reserve("A", ReserveTerms("kim", None, 60))
    await reservations.save()
    file, aside = tmp_path / "reservations.json", tmp_path / "reservations.unreadable"
    good = file.read_bytes()
    written(tmp_path, good[:-5], clock)
    assert (await loaded(tmp_path, clock)).why("B")
    aside.write_bytes(good)
    aside.replace(file)
    reservations = await loaded(tmp_path, clock)
    assert (reservations.why("A"), reservations.why("B")) == ("reserved by kim for 60 min more", None)


async def test_a_file_of_an_older_agent_is_no_lost_one(tmp_path: Path) -> None:
    clock = ManualClock()
    written(tmp_path, b"{}", clock)
    reservations = await loaded(tmp_path, clock)
    assert (reservations.why("A"), reservations.trouble) == (None, None)
    held = {"A": {"owner": "kim", "reason": None, "until_ms": clock.now_ms() + 3_600_000}}
    written(tmp_path, json.dumps(held).encode(), clock)
    reservations = await loaded(tmp_path, clock)
    assert (reservations.why("A"), reservations.why("B")) == ("reserved by kim for 60 min more", None)


async def test_a_folder_in_its_place_is_no_file_either(tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "reservations.json").mkdir()
    os.utime(tmp_path / "reservations.json", (clock.now_ms() / 1000, clock.now_ms() / 1000))
    reservations = await loaded(tmp_path, clock)
    assert reservations.why("A")
    reservations.reserve("A", ReserveTerms("kim", None, 60))
    await reservations.save()
    assert (tmp_path / "reservations.json").is_file()


async def test_a_file_that_cannot_even_be_set_aside_counts_as_lost_too(tmp_path: Path) -> None:
    clock = ManualClock()
    (tmp_path / "folder").write_bytes(b"no folder")
    reservations = await loaded(tmp_path / "folder", clock)
    assert "perhaps reserved, for 7 d more" in (reservations.why("A") or "") and reservations.trouble


@pytest.mark.parametrize("rubbish", [b"\xff{", b"[]"])
async def test_a_list_of_quarantined_phones_that_cannot_be_read_holds_nobody_back_and_that_is_said(
    tmp_path: Path, rubbish: bytes
) -> None:
    path = tmp_path / "quarantine.json"
    path.write_bytes(rubbish)
    book = QuarantineBook(path, ManualClock())
    await book.load()
    assert book.why("A") is None
    assert "those that a person put there do not" in (book.trouble or "")
    for _ in range(QUARANTINE_AFTER_FAILURES):
        await book.record(TaskEnded("A", FailureReason.DEVICE_UNRESPONSIVE))
    assert book.why("A") is not None, "a phone that fails comes back by itself"
    path.with_suffix(".unreadable").unlink()
    book = QuarantineBook(path, ManualClock())
    await book.load()
    assert book.why("A") is not None and book.trouble is None


@pytest.mark.parametrize("entry", [7, {}, {"why": 7, "by_hand": True}, {"why": "x"}])
async def test_a_quarantined_phone_whose_entry_cannot_be_read_stays_there_till_somebody_releases_it(
    tmp_path: Path, entry: object
) -> None:
    path, well = tmp_path / "quarantine.json", {"why": "an operator put it into quarantine", "by_hand": True}
    path.write_text(json.dumps({"held": {"A": entry, "B": well}, "streaks": {}, "stays": {}}))
    clock = ManualClock()
    book = QuarantineBook(path, clock)
    await book.load()
    assert "could not be read: release it" in (book.why("A") or "") and book.why("B") == well["why"]
    clock.jump(1e6)
    assert book.due() == [], "perhaps a person put it there"
    await book.record(Release("A"))
    assert book.why("A") is None and book.trouble is None


async def test_why_somebody_put_a_phone_into_quarantine_is_told() -> None:
    book = QuarantineBook(None, ManualClock())
    await book.record(Isolate("A", "swollen battery"))
    assert book.why("A") == "an operator put it into quarantine: swollen battery"


async def test_nothing_is_written_of_lists_that_never_had_a_phone(tmp_path: Path) -> None:
    for kept in (Reservations(tmp_path / "r.json", ManualClock()), QuarantineBook(tmp_path / "q.json", ManualClock())):
        await kept.load()
        await kept.save()
        assert kept.trouble is None
    assert not (tmp_path / "r.json").exists() and not (tmp_path / "q.json").exists()


async def test_a_save_that_is_cut_off_ends_its_writing_before_the_next_one_begins(tmp_path: Path) -> None:
    """A thread cannot be stopped: two of them would write one file."""
    path = tmp_path / "quarantine.json"
    book = QuarantineBook(path, ManualClock())
    saving = asyncio.create_task(book.record(Isolate("A")))
    await asyncio.sleep(0)
    saving.cancel()
    await asyncio.gather(saving, return_exceptions=True)
    await book.record(Isolate("B"))
    book = QuarantineBook(path, ManualClock())
    await book.load()
    assert book.why("A") and book.why("B")


async def test_a_disk_that_takes_nothing_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "no-folder").write_bytes(b"")
    kept = KeptFile(tmp_path / "no-folder" / "list.json", {}, ManualClock())
    log = io.StringIO()
    configure_logs(stream=log)
    for number in range(5):
        assert not await kept.save({"held": number})
    assert log.getvalue().count("cannot be written") == 1, "once, however often it is tried"
    assert await KeptFile(None, {}, ManualClock()).load(dict) is None
