"""Document → recipe, with every error at once, each at its place in the document (`steps[3].timeoutMs`)."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from muster.domain import ids
from muster.recipe import check
from muster.recipe.issues import RecipeIssue
from muster.recipe.load import DocumentError, load_document
from muster.recipe.model import (
    STEP_KINDS,
    STEP_MODELS,
    WHEN_TAG,
    Recipe,
    StepBase,
    WhenAll,
    WhenAny,
    WhenDevice,
    WhenNot,
    WhenStep,
)

__all__ = ["DocumentError", "ParsedRecipe", "RecipeIssue", "load_document", "parse_recipe"]

_DEPTH_MAX: Final = 32
_ISSUES_MAX: Final = 500
_TEXT_CHARS_MAX: Final = 60


@dataclass(frozen=True, slots=True)
class ParsedRecipe:
    """`recipe` is None exactly when there are errors. Errors and warnings are in the document's order."""

    recipe: Recipe | None
    errors: tuple[RecipeIssue, ...]
    warnings: tuple[RecipeIssue, ...]


def parse_recipe(document: object) -> ParsedRecipe:
    """Checks a document whole: shapes, limits, references, templates, patterns. Never raises for what it contains."""
    if not isinstance(document, dict):
        return _refused(RecipeIssue("", f"a recipe is an object with workflow_id and steps, not {_describe(document)}"))
    if _is_deeper_than(document, _DEPTH_MAX):
        return _refused(RecipeIssue("", f"the document is nested deeper than {_DEPTH_MAX} levels"))
    recipe, of_shape = _shape_errors(document)
    of_meaning, warnings = check.check_document(document)
    errors = _in_order([*of_shape, *_errors_beside_bad_kinds(document), *of_meaning])
    return ParsedRecipe(None if errors else recipe, errors, _in_order(warnings))


def _in_order(issues: list[RecipeIssue]) -> tuple[RecipeIssue, ...]:
    return tuple(sorted(dict.fromkeys(issues), key=lambda issue: issue.order))[:_ISSUES_MAX]


def _refused(issue: RecipeIssue) -> ParsedRecipe:
    return ParsedRecipe(None, (issue,), ())


def _is_deeper_than(document: object, depth_max: int) -> bool:
    level: list[object] = [document]
    for _ in range(depth_max):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


# ---- Pydantic's errors in words ----------------------------------------------------------------------------------


def _shape_errors(document: dict[Any, Any]) -> tuple[Recipe | None, list[RecipeIssue]]:
    try:
        return Recipe.model_validate(document), []
    except ValidationError as error:
        return None, [_translate(detail) for detail in error.errors(include_url=False)]


def _errors_beside_bad_kinds(document: dict[Any, Any]) -> Iterator[RecipeIssue]:
    """What is wrong with the common fields of steps whose kind is unknown: Pydantic stops at their kind."""
    steps = document.get("steps")
    common = {field.alias or name for name, field in StepBase.model_fields.items()}
    for index, step in enumerate(steps if isinstance(steps, list) else []):
        if not isinstance(step, dict) or step.get("kind") in STEP_KINDS:
            continue
        try:
            StepBase.model_validate({name: value for name, value in step.items() if name in common})
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                yield RecipeIssue.at(("steps", index, *_location(detail["loc"])), _message(detail))


def _translate(detail: ErrorDetails) -> RecipeIssue:
    location = _location(detail["loc"])
    is_step = len(location) == 2 and location[0] == "steps"
    if is_step and detail["type"] == "union_tag_invalid":
        return RecipeIssue.at((*location, "kind"), _unknown_kind(detail.get("ctx", {}).get("tag")))
    if is_step and detail["type"] == "union_tag_not_found":
        return RecipeIssue.at((*location, "kind"), f"is missing; the kinds are {', '.join(STEP_KINDS)}")
    if detail["type"] == "extra_forbidden":
        return RecipeIssue.at(location, _unknown_field(detail["loc"]))
    return RecipeIssue.at(location, _message(detail))


def _location(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place in the document: Pydantic's path without the tags of its unions."""
    kept: list[int | str] = []
    for index, part in enumerate(loc):
        is_kind_tag = index == 2 and loc[0] == "steps" and part in STEP_KINDS
        is_tag = isinstance(part, str) and (part.startswith(WHEN_TAG) or part == "[key]")
        if not (is_kind_tag or is_tag):
            kept.append(part)
    return tuple(kept)


def _unknown_kind(tag: object) -> str:
    return f"{_text(tag)} is not a kind of step; the kinds are {', '.join(STEP_KINDS)}"


def _unknown_field(loc: tuple[int | str, ...]) -> str:
    name, known = str(loc[-1]), _fields_beside(loc)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    same = [field for field in known if field.lower() == name.lower().replace("_", "")]
    hint = (same or close)[:1]
    ending = f"; did you mean {hint[0]}?" if hint else f"; the fields are {', '.join(known)}"
    return f"there is no such field{ending}"


_MODELS_OF_WHEN: Final[Mapping[str, type[BaseModel]]] = {
    "step": WhenStep,
    "device": WhenDevice,
    "all": WhenAll,
    "any": WhenAny,
    "not": WhenNot,
}


def _fields_beside(loc: tuple[int | str, ...]) -> list[str]:
    """The fields of the object in which `loc`'s last part stands."""
    model: type[BaseModel] = Recipe
    if loc[0] == "steps" and len(loc) > 2:
        model = STEP_MODELS[str(loc[2])]
    for part in loc[:-1]:
        if isinstance(part, str) and part.startswith(WHEN_TAG):
            model = _MODELS_OF_WHEN[part.removeprefix(WHEN_TAG)]
    if "assert" in loc[3:-1]:
        model = check.model_of_assertion(loc[3:-1])
    return [field.alias or name for name, field in model.model_fields.items()]


def _message(detail: ErrorDetails) -> str:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    words = _limit_message(kind, value, context) or _type_message(kind, value) or _choice_message(kind, value, context)
    return words or detail["msg"]


def _limit_message(kind: str, value: object, context: Mapping[str, Any]) -> str | None:
    if kind in _BOUNDS:
        word, bound = _BOUNDS[kind]
        return f"{_text(value)} is {word} {context[bound]}"
    if kind in ("string_too_long", "too_long"):
        return f"is too long: at most {context['max_length']} {_unit(kind, value)} are allowed"
    if kind in ("string_too_short", "too_short"):
        return "is empty"
    return None


def _type_message(kind: str, value: object) -> str | None:
    if kind == "string_type" and isinstance(value, (bool, int, float)):
        return f"must be text, not {_describe(value)}; put it in quotes"
    if kind in _WANTED:
        return f"must be {_WANTED[kind]}, not {_describe(value)}"
    return None


def _choice_message(kind: str, value: object, context: Mapping[str, Any]) -> str | None:
    if kind == "string_pattern_mismatch":
        return f"{_text(value)} is not allowed here; {_ALPHABETS.get(context['pattern'], context['pattern'])}"
    if kind in ("literal_error", "enum"):
        return f"{_text(value)} is not one of {_choices(str(context['expected']))}"
    if kind == "value_error":
        return str(context["error"])
    return _FIXED.get(kind)


_BOUNDS: Final = {"greater_than_equal": ("below", "ge"), "less_than_equal": ("above", "le")}
_FIXED: Final = {
    "missing": "is missing",
    "finite_number": "must be a finite number",
    "union_tag_not_found": "needs one of step, device, all, any, not",
    "string_unicode": "holds half a surrogate pair, which is no text",
}
_WANTED: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_ALPHABETS: Final = {
    ids.STEP_ID_PATTERN: "letters, digits, `.`, `_` and `-` are, at most 64, the first a letter or a digit",
    ids.WORKFLOW_ID_PATTERN: "letters, digits, `.`, `_` and `-` are, at most 128, the first a letter or a digit",
    ids.PARAM_KEY_PATTERN: "letters, digits and `_` are, at most 64, the first no digit",
    r"^[A-Za-z][A-Za-z0-9 _-]{0,63}$": "letters, digits, spaces, `_` and `-` are, at most 64, the first a letter",
}


def _choices(expected: str) -> str:
    """Pydantic's list of choices as plain words: `'a', 'b' or 'c'`, `<OnFailure.STOP: stop> or …`."""
    return re.sub(r"<[^:>]+: ([^>]+)>", r"\1", expected).replace(" or ", ", ").replace("'", "")


def _unit(kind: str, value: object) -> str:
    if kind == "string_too_long":
        return "characters"
    return "entries" if isinstance(value, dict) else "items"


def _describe(value: object) -> str:
    """`the number 5`, `true`, `nothing`, `a list`, `the text "5"`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {_text(value)}"
    if isinstance(value, str):
        return f'the text "{_text(value)}"'
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "that"


def _text(value: object) -> str:
    # An integer of thousands of digits cannot be turned into text at once; nobody needs to read it.
    if isinstance(value, int) and abs(value) >= 10**_TEXT_CHARS_MAX:
        return "a very long number"
    text = str(value)
    return text if len(text) <= _TEXT_CHARS_MAX else text[: _TEXT_CHARS_MAX - 1] + "…"
