"""Bytes that are, or are not, a whole picture."""

import io
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.support.examples import examples
from tests.support.phones import picture

from muster.agent.executor.pictures import PIXELS_MAX, PictureError, whole_png

PNG, JPEG = picture("PNG"), picture("JPEG")


def test_a_whole_png_is_given_back_byte_for_byte() -> None:
    assert whole_png(PNG) == PNG


def test_a_whole_jpeg_becomes_a_png_of_the_same_size() -> None:
    with Image.open(io.BytesIO(whole_png(JPEG))) as opened:
        assert opened.format == "PNG" and opened.size == (36, 80)


@pytest.mark.parametrize("whole", [PNG, JPEG], ids=["png", "jpeg"])
def test_no_beginning_of_a_picture_counts_as_whole(whole: bytes) -> None:
    for length in range(len(whole) - 1):
        with pytest.raises(PictureError):
            whole_png(whole[:length])


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded() -> None:
    with pytest.raises(PictureError, match=r"pixels|bomb|limit"):
        whole_png(_png_that_claims(40_000, 40_000))
    with pytest.raises(PictureError, match=str(PIXELS_MAX)):
        whole_png(_png_that_claims(8_000, 8_000))


def test_other_kinds_of_pictures_are_refused_by_name() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, format="GIF")
    with pytest.raises(PictureError, match="neither PNG nor JPEG"):
        whole_png(buffer.getvalue())


@settings(max_examples=examples(300), deadline=None)
@given(
    whole=st.sampled_from([PNG, JPEG]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20),
)
def test_damaged_pictures_end_as_a_picture_error_or_as_a_picture_and_never_otherwise(
    whole: bytes, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(whole)
    for at, value in changes:
        damaged[8 + at % (len(damaged) - 8)] = value
    try:
        png = whole_png(bytes(damaged))
    except PictureError:
        return
    assert png.startswith(b"\x89PNG")


def _png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )
