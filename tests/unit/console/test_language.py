import ast
import re
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.backend.console import pages, wording
from muster.backend.console.language import CATALOGUES, LANGUAGES, PoError, choose, parse_po

SCRIPTS = sorted((pages.TEMPLATES.parent / "static").glob("*.js"))
# The same in both languages, on purpose: badges and names (R8.4).
LITERAL = {"WAIT", "SKIPPED(offline)", "API", "YouTube"}


def messages_of_templates() -> Iterator[str]:
    environment = jinja2.Environment(autoescape=True)
    for path in sorted(pages.TEMPLATES.glob("*.html")):
        for call in environment.parse(path.read_text()).find_all(jinja2.nodes.Call):
            if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "_":
                [message] = call.args
                if isinstance(message, jinja2.nodes.Const):
                    yield message.value
                else:
                    assert isinstance(message, jinja2.nodes.Getitem), f"{path.name}:{call.lineno}: not a known table"


def every_message() -> set[str]:
    return {*messages_of_templates(), *wording.every_message()}


def test_no_text_is_untranslated() -> None:
    korean = LANGUAGES["ko"].messages
    assert {message for message in every_message() if not korean.get(message)} == set()


def test_no_translation_is_left_over() -> None:
    assert set(LANGUAGES["ko"].messages) - every_message() == set()


def test_a_translation_is_korean_and_keeps_the_names_to_fill_in() -> None:
    for message, translation in LANGUAGES["ko"].messages.items():
        assert sorted(re.findall(r"\{\w+\}", message)) == sorted(re.findall(r"\{\w+\}", translation)), message
        assert (translation == message) == (message in LITERAL), message
        assert message in LITERAL or re.search("[가-힣]", translation), message


def test_the_scripts_use_every_text_they_are_given_and_no_other() -> None:
    text = "".join(path.read_text() for path in SCRIPTS)
    used = set(re.findall(r'say\(\s*"(\w+)"', text)) | {"summary", "summary_end", "connecting", "live", "offline"}
    assert used == set(wording.SCRIPT)


def test_no_script_holds_a_text_of_its_own() -> None:
    for path in SCRIPTS:
        assert not re.search(r"textContent = [\"'`][A-Za-z]{3}", path.read_text()), path.name


@pytest.mark.parametrize(
    ("cookie", "header", "expected"),
    [
        (None, None, "en"),
        (None, "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        (None, "fr-FR, ko;q=0.5, en;q=0.4", "ko"),
        (None, "en-GB;q=0.7, ko;q=0.8", "ko"),
        (None, "ko;q=0", "en"),
        (None, "de, ja", "en"),
        (None, "*;q=x,,;;", "en"),
        ("ko", "en-US", "ko"),
        ("en", "ko-KR", "en"),
        ("klingon", "ko", "ko"),
    ],
)
def test_the_operators_choice_comes_first_then_the_browsers(
    cookie: str | None, header: str | None, expected: str
) -> None:
    assert choose(cookie, header).code == expected


@given(st.text(max_size=200))
def test_no_header_breaks_the_choice(header: str) -> None:
    assert choose(None, header).code in LANGUAGES


def test_a_po_file_is_read_with_comments_and_long_messages() -> None:
    lines = [
        "# note",
        'msgid ""',
        'msgstr "Language: ko\\n"',
        "",
        "#: a.html",
        'msgid "One"',
        'msgstr "하나"',
        'msgid ""',
        '"Two "',
        '"parts"',
        'msgstr ""',
        '"두 "',
        r'"\"조각\""',
    ]
    text = "\n".join(lines)
    assert parse_po(text) == {"One": "하나", "Two parts": '두 "조각"'}


@pytest.mark.parametrize("line", ['msgid_plural "x"', "nonsense", 'msgstr "open', "msgstr 5"])
def test_what_is_not_understood_in_a_po_file_names_its_line(line: str) -> None:
    with pytest.raises(PoError, match="line 2"):
        parse_po(f'msgid "a"\n{line}\n')


def test_names_are_filled_in() -> None:
    assert LANGUAGES["en"]("{n} of {total}", n=1, total=2) == "1 of 2"
    assert LANGUAGES["en"]("100 % {sure}") == "100 % {sure}"


def test_catalogues_have_no_duplicate_message() -> None:
    for path in Path(CATALOGUES).glob("*.po"):
        ids = [ast.literal_eval(found) for found in re.findall(r"^msgid (\".+\")$", path.read_text(), re.MULTILINE)]
        assert len(ids) == len(set(ids)), path.name
