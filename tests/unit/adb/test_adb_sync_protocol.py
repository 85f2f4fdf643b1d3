import random
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muster.adb.errors import AdbProtocolError, AdbRequestInvalid
from muster.adb.sync_protocol import (
    CHUNK_BYTES_MAX,
    Chunk,
    End,
    Failed,
    RemoteEntry,
    RemoteStat,
    SyncDecoder,
    SyncEvent,
    data_messages,
    done_message,
    path_request,
    send_request,
)


def events(data: bytes, *, listing: bool = False, size: int = 1_000_000) -> list[SyncEvent]:
    decoder, seen = SyncDecoder(listing=listing), list[SyncEvent]()
    for at in range(0, len(data), size):
        decoder.feed(data[at : at + size])
        while (event := decoder.next_event()) is not None:
            seen.append(event)
    return seen


def dent(name: bytes, mode: int = 0o100644, size: int = 1, mtime: int = 2) -> bytes:
    return b"DENT" + b"".join(number.to_bytes(4, "little") for number in (mode, size, mtime, len(name))) + name


def test_a_path_request_is_id_length_path() -> None:
    assert path_request(b"STAT", "/sdcard/a") == b"STAT\x09\x00\x00\x00/sdcard/a"


def test_a_push_names_its_mode_after_the_last_comma() -> None:
    assert send_request("/sdcard/a,b", 0o644) == b"SEND\x0f\x00\x00\x00/sdcard/a,b,420"


def test_a_time_ends_a_push() -> None:
    assert done_message(1) == b"DONE\x01\x00\x00\x00"


def test_file_bytes_are_cut_into_messages_of_64_kib() -> None:
    wire = data_messages(b"x" * (CHUNK_BYTES_MAX + 1))
    assert wire[:8] == b"DATA\x00\x00\x01\x00"
    assert wire[8 + CHUNK_BYTES_MAX :] == b"DATA\x01\x00\x00\x00x"


def test_no_bytes_are_no_message() -> None:
    assert data_messages(b"") == b""


@pytest.mark.parametrize("path", ["", "/a\0b", "/" + "x" * 1024, "/\ud800"], ids=["empty", "NUL", "long", "surrogate"])
def test_a_path_that_no_phone_can_have_is_refused(path: str) -> None:
    with pytest.raises(AdbRequestInvalid):
        path_request(b"RECV", path)
    with pytest.raises(AdbRequestInvalid):
        send_request(path, 0o644)


def test_a_file_arrives_in_chunks_and_ends() -> None:
    wire = b"DATA\x02\x00\x00\x00abDATA\x01\x00\x00\x00cDONE\x00\x00\x00\x00"
    assert events(wire) == [Chunk(b"ab"), Chunk(b"c"), End()]


def test_a_refusal_carries_its_text() -> None:
    assert events(b"FAIL\x07\x00\x00\x00no room") == [Failed("no room")]


def test_a_stat_tells_mode_size_and_time() -> None:
    (stat,) = events(b"STAT\xed\x41\x00\x00\x00\x10\x00\x00\x07\x00\x00\x00")
    assert stat == RemoteStat(mode=0o040755, size=4096, mtime_sec=7)
    assert stat.exists
    assert stat.is_folder


def test_a_stat_of_zeros_says_that_there_is_nothing() -> None:
    (stat,) = events(b"STAT" + bytes(12))
    assert isinstance(stat, RemoteStat)
    assert not stat.exists


def test_a_listing_ends_with_a_done_as_long_as_an_entry() -> None:
    wire = dent(b"a.png") + b"DONE" + bytes(16)
    assert events(wire[:-1], listing=True) == [RemoteEntry("a.png", RemoteStat(0o100644, 1, 2))]
    assert events(wire, listing=True) == [RemoteEntry("a.png", RemoteStat(0o100644, 1, 2)), End()]


def test_a_name_that_is_not_utf8_can_be_asked_for_again() -> None:
    (entry,) = events(dent(b"\xff.png"), listing=True)
    assert isinstance(entry, RemoteEntry)
    assert path_request(b"RECV", entry.name).endswith(b"\xff.png")


@pytest.mark.parametrize("wire", [b"NOPE\0\0\0\0", b"DATA\x01\x00\x01\x00", b"DENT" + bytes(12) + b"\xff\xff\xff\x7f"])
def test_what_no_phone_sends_is_a_protocol_error(wire: bytes) -> None:
    with pytest.raises(AdbProtocolError):
        events(wire, listing=True)


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 20))
def test_events_are_the_same_however_the_bytes_are_cut(names: list[bytes], size: int) -> None:
    wire = b"".join(dent(name) for name in names) + b"DONE" + bytes(16)
    assert events(wire, listing=True, size=size) == events(wire, listing=True)
    assert len(events(wire, listing=True)) == len(names) + 1


@settings(deadline=None)
@given(st.binary(max_size=100), st.booleans())
def test_garbage_raises_only_a_protocol_error(data: bytes, listing: bool) -> None:
    with suppress(AdbProtocolError):
        events(data, listing=listing)


@settings(deadline=None)
@given(st.integers(0, 300_000))
@example(0)
@example(CHUNK_BYTES_MAX)
def test_a_pushed_file_can_be_read_back_from_its_messages(size: int) -> None:
    data = random.Random(size).randbytes(size)
    pulled = [event.data for event in events(data_messages(data) + done_message(0)) if isinstance(event, Chunk)]
    assert b"".join(pulled) == data
