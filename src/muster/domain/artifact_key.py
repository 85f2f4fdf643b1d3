"""Where a picture lies in the object store (R5): `{videoId}/{node}/{device}/{run}/{timestamp}.png`."""

from typing import Final
from urllib.parse import quote

BUCKET: Final = "artifacts"
NO_VIDEO: Final = "manual"
# `%` must not be safe, or two ids could meet in one key; `.` and `..` are handled apart.
_SAFE: Final = "-_.~"
_PART_CHARS_MAX: Final = 200


def encode_part(part: str) -> str:
    """Percent-encodes one part so that it cannot leave its place: no `/`, `\\`, `..`, control character, nor nothing.

    Injective: two different parts never give the same text. Raises ValueError for an empty part, and for one so
    long that a file system would refuse it.
    """
    if not part:
        raise ValueError("a part of a storage key is empty")
    encoded = quote(part, safe=_SAFE)
    if not encoded.strip("."):
        encoded = encoded.replace(".", "%2E")
    # Windows drops trailing dots of a folder's name, so `a.` and `a` would meet.
    if encoded.endswith("."):
        encoded = encoded[:-1] + "%2E"
    if len(encoded) > _PART_CHARS_MAX:
        raise ValueError(f"a part of a storage key is longer than {_PART_CHARS_MAX} characters: {part[:40]}…")
    return encoded


def artifact_key(
    *, video_id: str | None, node_id: str, device_id: str, run_id: str, taken_at_ms: int, ordinal: int = 1
) -> str:
    """The key under the bucket. `taken_at_ms` is epoch ms; `ordinal` 2 is the second shot within one second."""
    parts = [encode_part(part) for part in (video_id or NO_VIDEO, node_id, device_id, run_id)]
    seconds = taken_at_ms // 1000
    name = f"{seconds}.png" if ordinal == 1 else f"{seconds}-{ordinal}.png"
    return "/".join([*parts, name])
