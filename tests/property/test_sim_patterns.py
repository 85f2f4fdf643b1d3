"""grep and sed of the virtual phone: they fit what Python's engine fits, and end whatever they are given."""

import asyncio
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.sim_phone import make_phone, say

from muster.sim.shell.patterns import LinePattern, translated

ATOMS = ["a", "b", "c", ".", "[ab]", "[^a]", r"\.", "é"]
QUANTIFIERS = ["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}"]


def pieces(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})")
    quantified = st.builds("".join, st.tuples(group, st.sampled_from(QUANTIFIERS)))
    return st.lists(quantified | inner, min_size=1, max_size=3).map("".join)


ATOM = st.builds("".join, st.tuples(st.sampled_from(ATOMS), st.sampled_from(QUANTIFIERS)))
PATTERNS = st.recursive(ATOM, pieces, max_leaves=6)
LINES = st.text("abc.é\udcff", max_size=9)
# Each has taken Python's engine minutes on a line of forty characters.
HOPELESS = [r"(a*)*b", r"(a+)+$", r"(a|a)*b", r"(a|ab?)+c", r"((a)*)*b", r"(a?a?)*b", r"([a-z]+)*1", r"(a{1,9}){2,9}b"]


@given(pattern=PATTERNS, line=LINES, ignore_case=st.booleans())
@settings(max_examples=examples(300))
def test_whether_a_pattern_fits_is_what_pythons_engine_says(pattern: str, line: str, ignore_case: bool) -> None:
    wanted = re.search(pattern, line, re.IGNORECASE if ignore_case else 0)
    assert LinePattern(pattern, ignore_case=ignore_case).found_in(line) is (wanted is not None)


@given(pattern=PATTERNS, line=LINES)
@settings(max_examples=examples(300))
def test_where_it_fits_is_too_unless_it_is_refused(pattern: str, line: str) -> None:
    try:
        made = LinePattern(pattern, needs_places=True)
    except re.error:
        return
    assert list(made.parts_of(line)) == [hit[0] for hit in re.finditer(pattern, line)]
    assert made.replaced_in(line, "-", count=0) == re.subn(pattern, "-", line)


@pytest.mark.parametrize("pattern", HOPELESS)
def test_a_pattern_of_countless_ways_is_answered_at_once_or_refused(pattern: str) -> None:
    line = "a" * 5_000
    assert LinePattern(pattern).found_in(line) is (pattern == "(a+)+$")
    with pytest.raises(re.error, match="too complex"):
        LinePattern(pattern, needs_places=True)


@pytest.mark.parametrize("pattern", ["a*b", "a*a*b", ".*x.*y.*z", "(foo|bar)+c", r"(a)\1"])
def test_everyday_patterns_are_not_refused_and_end_on_long_lines(pattern: str) -> None:
    assert list(LinePattern(pattern, needs_places=True).parts_of("a" * 2_000 + "-" * 200_000)) == (
        ["aa"] * 1_000 if pattern.endswith("1") else []
    )


def test_basic_expressions_and_classes_are_translated() -> None:
    assert LinePattern(translated(r"x\{2\}(", extended=False)).found_in("axx(b")
    assert LinePattern(translated("^[[:digit:]]+$", extended=True)).found_in("2024")


def test_the_phones_programs_end_on_a_hopeless_pattern() -> None:
    async def run() -> list[str]:
        phone = make_phone()
        line = "a" * 200
        said = [
            await say(phone, f"echo {line} | grep -cE '(a*)*b'"),
            await say(phone, f"echo {line} | grep -oE '(a*)*b'"),
            await say(phone, f"echo {line} | sed -E 's/(a*)*b/x/'"),
            await say(phone, f"echo {line} | sed -nE '/(a*)*b/p'; echo $?"),
        ]
        await phone.close()
        return [f"{one.status} {one.out}{one.err}" for one in said]

    assert asyncio.run(run()) == [
        "1 0\n",
        "2 grep: bad REGEX '(a*)*b'\n",
        "1 sed: bad pattern 's/(a*)*b/x/'\n",
        "0 0\n",
    ]
