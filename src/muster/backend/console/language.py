"""Korean and English: `.po` files read at start, chosen by link, cookie or browser.

Messages are the English texts themselves. `{name}` in a message is filled from keyword arguments; the page's own
script fills its messages the same way.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

CATALOGUES: Final = Path(__file__).parent / "i18n"
DEFAULT: Final = "en"


class PoError(ValueError):
    """A `.po` file says something that cannot be read; the message names the line."""


@dataclass(frozen=True)
class Language:
    """One language of the console."""

    code: str
    name: str
    messages: Mapping[str, str]

    def __call__(self, message: str, **values: object) -> str:
        """The message in this language, its `{names}` filled in. An unknown message is shown as it is."""
        text = self.messages.get(message, message)
        return text.format_map(values) if values else text


def parse_po(text: str) -> dict[str, str]:
    """`msgid` → `msgstr` of a `.po` file; the header (empty id) is left out. Plural forms are refused."""
    entries: dict[str, str] = {}
    parts: dict[str, str] = {}
    field = ""
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        keyword, _, quoted = line.partition(" ")
        if line.startswith('"'):
            parts[field] = parts.get(field, "") + _unquote(line, number)
        elif keyword in ("msgid", "msgstr"):
            if keyword == "msgid":
                _keep(entries, parts)
            field = keyword
            parts[field] = _unquote(quoted, number)
        elif line and not line.startswith("#"):
            raise PoError(f"line {number}: {line!r} is not understood")
    _keep(entries, parts)
    return entries


def _keep(entries: dict[str, str], parts: dict[str, str]) -> None:
    if parts.get("msgid"):
        entries[parts["msgid"]] = parts.get("msgstr", "")
    parts.clear()


def _unquote(text: str, number: int) -> str:
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError) as error:
        raise PoError(f"line {number}: {text!r} is not a quoted string") from error
    if not isinstance(value, str):
        raise PoError(f"line {number}: {text!r} is not a quoted string")
    return value


def _load() -> Mapping[str, Language]:
    korean = parse_po((CATALOGUES / "ko.po").read_text(encoding="utf-8"))
    languages = (Language("en", "English", {}), Language("ko", "한국어", MappingProxyType(korean)))
    return MappingProxyType({language.code: language for language in languages})


LANGUAGES: Final = _load()


def choose(cookie: str | None, accept_language: str | None) -> Language:
    """The operator's own choice first, then the browser's order of preference, then English."""
    if cookie is not None and cookie in LANGUAGES:
        return LANGUAGES[cookie]
    for code in _preferred(accept_language or ""):
        if code in LANGUAGES:
            return LANGUAGES[code]
    return LANGUAGES[DEFAULT]


def _preferred(header: str) -> list[str]:
    """Primary language codes of an `Accept-Language` header (RFC 9110 §12.5.4), best first."""
    ranked = []
    for position, item in enumerate(header[:1024].split(",")):
        match = re.fullmatch(r"\s*([A-Za-z]{2,3})[A-Za-z0-9-]*\s*(?:;\s*q=([01](?:\.\d{0,3})?))?\s*", item)
        if match and (quality := float(match[2] or "1")) > 0:
            ranked.append((-quality, position, match[1].lower()))
    return [code for _, _, code in sorted(ranked)]
