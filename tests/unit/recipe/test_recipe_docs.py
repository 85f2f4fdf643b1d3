"""What docs/recipes.md shows and says is so."""

import re
from pathlib import Path

import pytest

from muster.domain import limits
from muster.recipe.model import STEP_KINDS, Recipe, StepBase
from muster.recipe.parse import load_document, parse_recipe
from muster.recipe.template import BUILT_INS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "recipes.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(yaml|json)\n(.*?)```", TEXT, re.DOTALL)


def test_there_are_examples_in_both_notations() -> None:
    assert {language for language, _ in EXAMPLES} == {"yaml", "json"}
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize(("language", "text"), EXAMPLES)
def test_every_example_is_a_recipe_without_errors_or_warnings(language: str, text: str) -> None:
    parsed = parse_recipe(load_document(text, yaml=language == "yaml"))
    assert (parsed.errors, parsed.warnings) == ((), ())
    assert parsed.recipe is not None


@pytest.mark.parametrize("model", [Recipe, StepBase])
def test_every_field_is_explained(model: type[Recipe] | type[StepBase]) -> None:
    fields = {field.alias or name for name, field in model.model_fields.items()}
    explained = set(re.findall(r"`([A-Za-z_]+)`", "\n".join(re.findall(r"^\| `.*?\|", TEXT, re.MULTILINE))))
    assert fields - explained == set()


def test_every_kind_and_built_in_is_named() -> None:
    assert [kind for kind in STEP_KINDS if f"### `{kind}`" not in TEXT] == []
    assert [key for key in sorted(BUILT_INS) if f"`{key}`" not in TEXT] == []


def test_the_numbers_are_those_of_the_limits() -> None:
    assert f"{limits.STEP_TIMEOUT_MS_MIN} to {limits.STEP_TIMEOUT_MS_MAX}" in TEXT
    assert f"0 to {limits.RETRY_COUNT_MAX} further tries; 0.5 s before" in TEXT and limits.STEP_RETRY_PAUSE_MS == 500
    assert f"1 to {limits.RECIPE_STEPS_MAX}, done in this order" in TEXT
    assert f"| {limits.TASK_TIMEOUT_MS_DEFAULT} |" in TEXT and f"| {limits.STEP_TIMEOUT_MS_DEFAULT} |" in TEXT
