"""JSON and YAML texts, read strictly."""

import pytest

from muster.domain.limits import RECIPE_BYTES_MAX
from muster.recipe.load import DocumentError, load_document
from muster.recipe.patterns import PatternError, compile_pattern


def test_the_same_recipe_in_json_and_in_yaml_is_the_same_document() -> None:
    json_text = '{"workflow_id": "w", "params": {"PIN": "0123"}, "steps": [{"id": "a", "probability": 0.5}]}'
    yaml_text = "workflow_id: w\nparams:\n  PIN: '0123'\nsteps:\n  - id: a\n    probability: 0.5\n"
    assert load_document(json_text, yaml=False) == load_document(yaml_text, yaml=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0123", "0123"),
        ("12:30:00", "12:30:00"),
        ("yes", "yes"),
        ("off", "off"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("1e3", "1e3"),
        ("true", True),
        ("12", 12),
        ("-1.5", -1.5),
        ("~", None),
        ("", None),
        ("'12'", "12"),
    ],
)
def test_yaml_guesses_nothing_but_true_false_null_and_plain_numbers(text: str, value: object) -> None:
    assert load_document(f"key: {text}", yaml=True) == {"key": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2", "line 2, column 1: the key 'a' is given twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("1: a", "a key must be text"),
        ("? [a]\n: b", "a key must be text"),
        ("a: !!python/object:os.system 1", "constructor"),
        ("a: [", "line"),
        ("a: \x00", "character"),
        ("--- 1\n--- 2", "document"),
        ("[" * 20_000, ""),
    ],
)
def test_broken_or_dangerous_yaml_is_refused(text: str, words: str) -> None:
    with pytest.raises(DocumentError) as refused:
        load_document(text, yaml=True)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ("[NaN]", "NaN is not JSON"),
        ("[Infinity]", "Infinity is not JSON"),
        ("{", "line 1, column 2"),
        ("", "line 1, column 1"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5_000, "digits"),
    ],
)
def test_broken_or_dangerous_json_is_refused(text: str, words: str) -> None:
    with pytest.raises(DocumentError) as refused:
        load_document(text, yaml=False)
    assert words in str(refused.value)


@pytest.mark.parametrize("yaml", [True, False])
def test_a_document_beyond_the_limit_is_refused_before_it_is_read(yaml: bool) -> None:
    with pytest.raises(DocumentError, match=str(RECIPE_BYTES_MAX)):
        load_document('"' + "한" * (RECIPE_BYTES_MAX // 3 + 1) + '"', yaml=yaml)


def test_a_pattern_that_would_take_a_backtracking_engine_for_ever_is_matched_at_once() -> None:
    assert compile_pattern("^(a+)+$").found_in("a" * 100_000 + "b") is False


def test_patterns_are_found_anywhere_unless_they_bind_themselves() -> None:
    assert compile_pattern("b+").found_in("abbc")
    assert not compile_pattern("^b").found_in("abbc")
    assert compile_pattern(r"(?m)^two$").found_in("one\ntwo\nthree")


@pytest.mark.parametrize("pattern", ["(", "a(?=b)", r"(a)\1", "(a{1000}){1000}", "[z-a]"])
def test_patterns_that_the_engine_does_not_take_are_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        compile_pattern(pattern)
