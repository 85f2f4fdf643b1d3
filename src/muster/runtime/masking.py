"""Secrets taken out of whatever a person or a disk gets to see (R7.2): by value; passwords of addresses by place."""

import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus, urlsplit

MASK: Final = "***"
_PREFIX_CHARS_MIN: Final = 4
_SHELL_SPECIAL: Final = re.compile(r"([^A-Za-z0-9_@%+=:,./-])")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HEX: Final = re.compile(r"%[0-9A-F]{2}")
# These end an address (RFC 3986, 3.2.1): a JSON text, a tag or a quotation goes on. A backslash is JSON's for a letter.
_USER_INFO: Final = re.compile(r"""://([^\s"<>^`{|}/?#@:]*:)?[^\s"<>^`{|}/?#]*@""")
_NOT_ENCODED: Final = re.compile(r"""["<>^`{|}]""")


def hide_passwords(text: str) -> str:
    """`text` with `***` for the password of every address in it: `http://muster:***@pc-1:8700`.

    A name without a password goes too: such a one is often a token. Only what `check_user_info` lets through is found.
    """
    return _USER_INFO.sub(lambda found: f"://{found[1] or ''}{MASK}@", text)


def without_user_info(text: str) -> str:
    """The same for what was meant to be one address, and may be none: whatever stands before its last `@` goes."""
    before, at, after = text.rpartition("@")
    scheme, slashes, _ = before.partition("//")
    return f"{scheme}{slashes}{MASK}@{after}" if at and slashes else f"{MASK}@{after}" if at else text


def check_user_info(address: str) -> None:
    """Raises ValueError for a name or a password of which a text would show a part: one that is not percent-encoded."""
    if _NOT_ENCODED.search(urlsplit(address).netloc.rpartition("@")[0]):
        shown = without_user_info(address)
        raise ValueError(f"{shown!r} has a name or a password that is not percent-encoded, such as %22 for a quote")


class Mask:
    """Replaces every secret, also in the forms in which commands, addresses, JSON and logs carry it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        # The longest first: a secret may be a part of another.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    def __call__(self, text: str) -> str:
        """`text` with `***` for every secret."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def cut_off(self, text: str) -> str:
        """The same for a text that was cut at its end, perhaps in the middle of a secret."""
        text = self(text)
        begun = max((_overlap(text, form) for form in self._forms), default=0)
        return text[:-begun] + MASK if begun >= _PREFIX_CHARS_MIN else text


def _overlap(text: str, form: str) -> int:
    """How many characters of `form`'s beginning `text` ends with."""
    longest = min(len(form) - 1, len(text))
    return next((size for size in range(longest, 0, -1) if text.endswith(form[:size])), 0)


def _forms(secret: str) -> Iterator[str]:
    for encoded in {secret, *_encoded(secret)}:
        for quoted in {encoded, *_quoted(encoded)}:
            yield from {quoted, *_printed(quoted)}


def _encoded(secret: str) -> Iterator[str]:
    """As `input text`, an address, or a dump of the screen has it."""
    yield secret.replace(" ", "%s")
    for form in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield form
        yield _HEX.sub(lambda found: found[0].lower(), form)
    yield html.escape(secret, quote=True)
    yield html.escape(secret, quote=False)


def _quoted(text: str) -> Iterator[str]:
    """As a shell has it: by this program, by Python, with backslashes."""
    yield text.replace("'", "'\\''")
    yield shlex.quote(text).removeprefix("'").removesuffix("'")
    yield _SHELL_SPECIAL.sub(r"\\\1", text)


def _printed(text: str) -> Iterator[str]:
    """As JSON, Python and a log line have it."""
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield repr(text.encode("utf-8", "replace"))[2:-1]
    yield text.replace("\\", "\\\\")
    yield _CONTROL.sub("�", text)
