"""Whatever stands in a document, the parser answers."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from muster.recipe.load import DocumentError, load_document
from muster.recipe.parse import parse_recipe
from muster.recipe.seeds import seed_documents

JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["id", "kind", "command", "phase", "timeoutMs", "onFailure", "retryCount", "probability", "when", "params",
     "source", "assert", "step", "output", "matches", "equals", "contains", "exitCode",
     "device", "is", "all", "any", "not", "x"]
)  # fmt: skip
VALUES = st.one_of(
    JSON,
    st.sampled_from(["adb", "screenshot", "upload", "assert", "a", "b", "retry", "{{A}}", "{{", "(", "\ud800", "\0"]),
)
NESTED = st.recursive(
    VALUES,
    lambda inner: st.one_of(st.dictionaries(FIELDS, inner, max_size=6), st.lists(inner, max_size=3)),
    max_leaves=15,
)
STEPS = st.dictionaries(FIELDS, NESTED, max_size=8)
NEARLY = st.fixed_dictionaries(
    {"workflow_id": st.one_of(st.just("w"), VALUES), "steps": st.lists(STEPS, max_size=4)},
    optional={"params": VALUES, "version": VALUES, "defaultOnFailure": VALUES, "globalTimeoutMs": VALUES},
)  # fmt: skip


@given(st.one_of(JSON, NEARLY))
def test_any_document_is_a_recipe_or_has_errors_and_each_error_says_something(document: object) -> None:
    parsed = parse_recipe(document)
    assert (parsed.recipe is None) == bool(parsed.errors)
    for issue in (*parsed.errors, *parsed.warnings):
        assert issue.message.strip()
        assert "Input should" not in issue.message, "Pydantic's words are not ours"


@given(st.sampled_from(seed_documents()), st.data())
def test_any_one_change_of_a_seed_recipe_is_taken_or_told(document: dict[str, Any], data: st.DataObject) -> None:
    changed = json.loads(json.dumps(document))
    place: Any = changed
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(VALUES)
    parsed = parse_recipe(changed)
    assert (parsed.recipe is None) == bool(parsed.errors)


@given(st.one_of(JSON, NEARLY))
def test_what_the_parser_takes_it_takes_again_after_it_was_stored(document: object) -> None:
    recipe = parse_recipe(document).recipe
    if recipe is not None:
        stored = json.loads(json.dumps(recipe.document()))
        assert parse_recipe(stored).recipe == recipe


@given(st.text(max_size=200), st.booleans())
def test_any_text_is_a_document_or_a_document_error(text: str, yaml: bool) -> None:
    try:
        load_document(text, yaml=yaml)
    except DocumentError as error:
        assert str(error)


@given(JSON)
def test_a_document_written_as_json_reads_as_itself_in_yaml_too_where_yaml_has_such_keys(document: object) -> None:
    text = json.dumps(document, ensure_ascii=True)
    try:
        assert load_document(text, yaml=False) == document
    except DocumentError as error:
        assert "not JSON" in str(error)
