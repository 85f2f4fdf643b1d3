"""What a person reads of a step: tails of output, with secrets masked (R7.2) and nothing that could break a screen."""

import re
from typing import Final

from muster.domain import limits
from muster.runtime.masking import Mask

_TAIL_CHARS_MAX: Final = 300
# Control characters (but tab and line end) from a phone have no place in a log, a terminal or a database.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def decode(output: bytes) -> str:
    """A phone's output as text; what is no UTF-8 becomes U+FFFD."""
    return output.decode("utf-8", "replace")


def tail(text: str, chars_max: int) -> str:
    """The end of `text`, where the cause of a failure stands."""
    text = _CONTROL.sub("�", text.replace("\r\n", "\n")).strip()
    return text if len(text) <= chars_max else "…" + text[-(chars_max - 1) :]


def snippet(stdout: bytes, stderr: bytes, *, truncated: bool, mask: Mask) -> str | None:
    """What is kept of a command's output; None when it said nothing."""
    hide = mask.cut_off if truncated else mask
    out, err = hide(decode(stdout)), hide(decode(stderr))
    if err.strip():
        err = f"stderr: {tail(err, limits.LOG_SNIPPET_CHARS_MAX // 2 - 16)}"
    note = "(output beyond the limit was thrown away)" if truncated else ""
    parts = [tail(out, limits.LOG_SNIPPET_CHARS_MAX // 2 - 64), note, err]
    return "\n".join(part for part in parts if part.strip()) or None


def exit_message(exit_code: int, stdout: bytes, stderr: bytes, mask: Mask) -> str:
    """`adb exit 1: …`: the last words on stderr, else on stdout."""
    # Masked as it came: without its blanks at the ends, a secret that has some would be another text.
    words = next((found for stream in (stderr, stdout) if (found := decode(stream)).strip()), "the phone said nothing")
    return f"adb exit {exit_code}: {tail(mask.cut_off(words), _TAIL_CHARS_MAX)}"
