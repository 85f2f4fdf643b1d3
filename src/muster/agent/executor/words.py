"""What a person reads of a step: tails of output, with secrets masked (R7.2) and nothing that could break a screen."""

import re
from collections.abc import Iterable
from typing import Final

from muster.domain import limits

MASK: Final = "•••"
_TAIL_CHARS_MAX: Final = 300
# Control characters (but tab and line end) from a phone have no place in a log, a terminal or a database.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Mask:
    """Takes a node's secrets out of texts, also in the forms in which a command carries them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        # The longest first: a secret may be a part of another.
        self._forms = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """`text` with every secret replaced."""
        for form in self._forms:
            text = text.replace(form, MASK)
        return text


def _forms(secret: str) -> Iterable[str]:
    quoted = secret.replace("'", "'\\''")
    return {secret, quoted, secret.replace(" ", "%s"), quoted.replace(" ", "%s"), _CONTROL.sub("�", secret)}


def decode(output: bytes) -> str:
    """A phone's output as text; what is no UTF-8 becomes U+FFFD."""
    return output.decode("utf-8", "replace")


def tail(text: str, chars_max: int) -> str:
    """The end of `text`, where the cause of a failure stands."""
    text = _CONTROL.sub("�", text.replace("\r\n", "\n")).strip()
    return text if len(text) <= chars_max else "…" + text[-(chars_max - 1) :]


def snippet(stdout: bytes, stderr: bytes, *, truncated: bool, mask: Mask) -> str | None:
    """What is kept of a command's output; None when it said nothing."""
    out, err = mask(decode(stdout)), mask(decode(stderr))
    if err.strip():
        err = f"stderr: {tail(err, limits.LOG_SNIPPET_CHARS_MAX // 2 - 16)}"
    note = "(output beyond the limit was thrown away)" if truncated else ""
    parts = [tail(out, limits.LOG_SNIPPET_CHARS_MAX // 2 - 64), note, err]
    return "\n".join(part for part in parts if part.strip()) or None


def exit_message(exit_code: int, stdout: bytes, stderr: bytes, mask: Mask) -> str:
    """`adb exit 1: …`: the last words on stderr, else on stdout."""
    words = next((found for stream in (stderr, stdout) if (found := decode(stream).strip())), "the phone said nothing")
    return f"adb exit {exit_code}: {tail(mask(words), _TAIL_CHARS_MAX)}"
