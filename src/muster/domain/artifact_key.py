"""Where a picture lies in the object store (R5): `{videoId}/{node}/{device}/{run}/{timestamp}.png`."""

import hashlib
from typing import Final
from urllib.parse import quote

BUCKET: Final = "artifacts"
NO_VIDEO: Final = "manual"
# `%` must not be safe, or two ids could meet in one key; `.` and `..` are handled apart.
_SAFE: Final = "-_.~"
# File systems take 255 bytes a name. What is longer is cut, and told apart by the hash of the whole.
_PART_CHARS_MAX: Final = 200
_CUT_CHARS: Final = 160
_HASH_CHARS: Final = 32


def encode_part(part: str) -> str:
    """Percent-encodes one part so that it cannot leave its place: no `/`, `\\`, `..`, control character, nor nothing.

    Two different parts never give the same text; at most 200 characters. Raises ValueError for an empty part.
    """
    if not part:
        raise ValueError("a part of a storage key is empty")
    encoded = quote(part, safe=_SAFE)
    if len(encoded) > _PART_CHARS_MAX:
        return _cut(encoded)
    if not encoded.strip("."):
        encoded = encoded.replace(".", "%2E")
    # Windows drops trailing dots of a folder's name, so `a.` and `a` would meet.
    if encoded.endswith("."):
        encoded = encoded[:-1] + "%2E"
    return encoded


def _cut(encoded: str) -> str:
    """A picture must not be lost because an id is long. A whole part has no bare `=`, so none looks like this."""
    digest = hashlib.sha256(encoded.encode()).hexdigest()[:_HASH_CHARS]
    return f"{encoded[:_CUT_CHARS].rpartition('%')[0] or encoded[:_CUT_CHARS]}={digest}"


def artifact_key(
    *, video_id: str | None, node_id: str, device_id: str, run_id: str, taken_at_ms: int, ordinal: int = 1
) -> str:
    """The key under the bucket. `taken_at_ms` is epoch ms; `ordinal` 2 is the second shot within one second."""
    parts = [encode_part(part) for part in (video_id or NO_VIDEO, node_id, device_id, run_id)]
    seconds = taken_at_ms // 1000
    name = f"{seconds}.png" if ordinal == 1 else f"{seconds}-{ordinal}.png"
    return "/".join([*parts, name])
