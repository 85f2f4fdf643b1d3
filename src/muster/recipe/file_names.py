"""Which names a recipe may give to files: of the node's library by name alone, of a phone by a whole path.

A node takes a recipe from its backend. That one may only mean files which somebody has laid into the node's library for
this purpose: a name has no folder in it, so it cannot lead anywhere else.
"""

import re
from typing import Final

from muster.domain import limits

_LIBRARY_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+ -]{0,126}[A-Za-z0-9_+-])?")


def why_no_library_name(name: str, *, is_apk: bool = False) -> str | None:
    """Why `name` cannot be a file of the library, for a person; None when it can."""
    if not _LIBRARY_NAME.fullmatch(name):
        return (
            f"{_short(name)} is no name of a file in the node's library: letters, digits, spaces, `.`, `_`, `+`, `-`,"
            " at most 128, no folders, beginning with a letter or a digit"
        )
    if is_apk and not name.lower().endswith(".apk"):
        return f"{_short(name)} is no APK; its name ends with .apk"
    return None


def why_no_phone_path(path: str) -> str | None:
    """Why `path` cannot be a file on a phone, for a person; None when it can."""
    if not path.startswith("/") or path.endswith("/"):
        return f"{_short(path)} is no whole path of a file on the phone, such as /sdcard/Download/list.txt"
    if any(ord(char) < 32 or ord(char) == 127 for char in path):
        return "a path on the phone holds no control characters"
    if ".." in path.split("/"):
        return f"{_short(path)} leads out of its folder by `..`; write the path itself"
    if len(path.encode("utf-8", "surrogatepass")) > limits.PHONE_PATH_CHARS_MAX:
        return f"a path on the phone has at most {limits.PHONE_PATH_CHARS_MAX} bytes"
    return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
