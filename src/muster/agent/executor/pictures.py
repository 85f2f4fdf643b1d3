"""Whether bytes are a whole picture, and the same as PNG (R5.2). Runs in a thread; holds no state."""

import asyncio
import io
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

from PIL import Image, UnidentifiedImageError

from muster.domain import limits

# Four times the largest phone's screen; decoded it takes 200 MB at most, and no bomb gets further.
PIXELS_MAX: Final = 50_000_000
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND\xaeB`\x82"
_JPEG: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
_TRAILER_BYTES_MAX: Final = 4_096
# What Pillow raises for files that lie, found by fuzzing it.
_PILLOW_ERRORS: Final = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, AttributeError,
    struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


# From what the phone gave to a whole PNG. Raises PictureError.
VerifyPicture = Callable[[bytes], Awaitable[bytes]]


class PictureError(ValueError):
    """The bytes are no whole picture; the message says what they are."""


async def whole_png_in_thread(data: bytes) -> bytes:
    """A `VerifyPicture`: decoding takes a CPU for a tenth of a second, during which the event loop must go on."""
    return await asyncio.to_thread(whole_png, data)


def whole_png(data: bytes) -> bytes:
    """`data`, a whole PNG or JPEG, as PNG. A PNG is given back as it is. Raises PictureError."""
    if not data:
        raise PictureError("nothing came")
    if len(data) > limits.ARTIFACT_BYTES_MAX:
        raise PictureError(f"{len(data)} bytes are more than {limits.ARTIFACT_BYTES_MAX}")
    if data.startswith(_PNG):
        _refuse_cut_off(data, _PNG_END, "PNG")
        _decode(data, "PNG")
        return data
    if data.startswith(_JPEG):
        _refuse_cut_off(data, _JPEG_END, "JPEG")
        return _as_png(_decode(data, "JPEG"))
    raise PictureError(f"neither PNG nor JPEG: {len(data)} bytes that begin with {data[:16]!r}")


def _refuse_cut_off(data: bytes, end: bytes, kind: str) -> None:
    """Pillow forgives a picture without its very end; a phone that was lost half-way leaves exactly that."""
    if end not in data[-_TRAILER_BYTES_MAX:]:
        raise PictureError(f"the {kind} is cut off after {len(data)} bytes")


def _decode(data: bytes, kind: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as picture:
            width, height = picture.size
            if width * height > PIXELS_MAX:
                raise PictureError(f"{width}×{height} pixels are more than {PIXELS_MAX}")
            picture.load()
            return picture.copy()
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(f"the {kind} is broken from its beginning") from error
    except _PILLOW_ERRORS as error:
        raise PictureError(f"the {kind} of {len(data)} bytes is broken: {error}") from error


def _as_png(picture: Image.Image) -> bytes:
    """Level 3: a fifth of the time of the default, a few per cent larger."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="PNG", compress_level=3)
    png = buffer.getvalue()
    if len(png) > limits.ARTIFACT_BYTES_MAX:
        raise PictureError(f"as PNG it has {len(png)} bytes, more than {limits.ARTIFACT_BYTES_MAX}")
    return png
