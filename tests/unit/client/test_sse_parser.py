import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.client.sse import SseError, SseEvent, SseParser


def test_an_event_has_its_name_its_data_and_its_id() -> None:
    assert SseParser().feed(b"id: 7\nevent: delta\ndata: {}\n\n") == [SseEvent("delta", "{}", "7")]


def test_an_event_without_a_name_is_a_message() -> None:
    assert SseParser().feed(b"data: x\n\n") == [SseEvent("message", "x")]


def test_several_data_lines_are_joined_by_line_feeds() -> None:
    assert SseParser().feed(b"data: a\ndata:b\ndata:  c\n\n") == [SseEvent("message", "a\nb\n c")]


def test_a_comment_keeps_the_stream_alive_and_says_nothing() -> None:
    assert SseParser().feed(b": still here\n\n") == []


def test_an_event_without_data_is_not_told_but_its_id_is_kept() -> None:
    parser = SseParser()
    assert parser.feed(b"id: 3\nevent: delta\n\n") == []
    assert parser.feed(b"data: x\n\n") == [SseEvent("message", "x", "3")]


def test_an_id_with_a_nul_is_ignored() -> None:
    assert SseParser().feed(b"id: 1\nid: a\x00b\ndata: x\n\n") == [SseEvent("message", "x", "1")]


def test_a_byte_order_mark_at_the_start_is_skipped() -> None:
    assert SseParser().feed(b"\xef\xbb\xbfdata: x\n\n") == [SseEvent("message", "x")]


def test_an_unfinished_event_is_not_told() -> None:
    assert SseParser().feed(b"data: x\n") == []


def test_a_frame_past_the_limit_breaks_the_stream_before_it_is_whole() -> None:
    parser = SseParser(frame_bytes_max=100)
    parser.feed(b"data: " + b"x" * 90)
    with pytest.raises(SseError):
        parser.feed(b"x" * 90)


def test_a_frame_of_many_small_lines_is_limited_too() -> None:
    parser = SseParser(frame_bytes_max=100)
    with pytest.raises(SseError):
        parser.feed(b"data: 123456789\n" * 10)


def test_the_limit_is_for_one_frame_not_for_the_stream() -> None:
    parser = SseParser(frame_bytes_max=100)
    assert len(parser.feed(b"data: 123456789\n\n" * 100)) == 100


LINE_ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
TEXTS = st.text(st.characters(exclude_characters="\r\n\x00", exclude_categories=["Cs"]), max_size=20)


@given(
    frames=st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), TEXTS), max_size=5),
    line_end=LINE_ENDS,
    cuts=st.lists(st.integers(min_value=1, max_value=7), min_size=1, max_size=20),
)
def test_events_do_not_depend_on_line_ends_nor_on_where_the_network_cuts(
    frames: list[tuple[str, list[str], str]], line_end: bytes, cuts: list[int]
) -> None:
    stream = b""
    expected = []
    for name, data, identity in frames:
        lines = [f"event: {name}", *(f"data: {line}" for line in data), f"id: {identity}", ""]
        stream += line_end.join(line.encode() for line in lines) + line_end
        expected.append(SseEvent(name or "message", "\n".join(data), identity))
    parser, events, position, turn = SseParser(), [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        events += parser.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert events == expected


@given(st.lists(st.binary(max_size=50)))
def test_rubbish_raises_nothing_but_sse_error(chunks: list[bytes]) -> None:
    parser = SseParser(frame_bytes_max=64)
    try:
        for chunk in chunks:
            parser.feed(chunk)
    except SseError:
        pass
