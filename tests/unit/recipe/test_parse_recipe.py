"""What is wrong with a recipe is told whole, at its place, in words."""

from typing import Any

import pytest

from muster.recipe.parse import RecipeIssue, parse_recipe
from muster.recipe.seeds import seed_documents


def adb(step_id: str = "a", command: str = "true", **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "kind": "adb", "command": command, **fields}


def recipe(*steps: Any, **head: Any) -> dict[str, Any]:
    return {"workflow_id": "w", "steps": list(steps) or [adb()], **head}


def errors(document: object) -> list[str]:
    return [str(issue) for issue in parse_recipe(document).errors]


def warnings(document: object) -> list[str]:
    return [str(issue) for issue in parse_recipe(document).warnings]


SHOT: dict[str, Any] = {"id": "shot", "kind": "screenshot"}


def upload(source: str) -> dict[str, Any]:
    return {"id": "u", "kind": "upload", "source": source}


def asserting(**assertion: Any) -> dict[str, Any]:
    return recipe(adb(), SHOT, {"id": "c", "kind": "assert", "assert": {"step": "a", **assertion}})


def test_a_good_recipe_has_neither_errors_nor_warnings_and_survives_being_written_out() -> None:
    document = recipe(
        adb(when={"not": {"device": "sdk", "atLeast": 29}}, timeoutMs=5000, onFailure="retry", retryCount=2),
        SHOT,
        {"id": "up", "kind": "upload", "source": "shot", "probability": 0.5},
        {"id": "check", "kind": "assert", "assert": {"step": "a", "exitCode": 0, "output": {"matches": "^ok"}}},
    )
    parsed = parse_recipe(document)
    assert parsed.recipe is not None and parsed.errors == () and parsed.warnings == ()
    again = parse_recipe(parsed.recipe.document())
    assert again.recipe == parsed.recipe and again.warnings == ()


@pytest.mark.parametrize("document", seed_documents(), ids=lambda document: str(document["workflow_id"]))
def test_seed_recipes_have_neither_errors_nor_warnings(document: dict[str, Any]) -> None:
    parsed = parse_recipe(document)
    assert parsed.recipe is not None and (parsed.errors, parsed.warnings) == ((), ())


def test_the_demo_has_more_than_twenty_steps_and_bootstrap_covers_what_the_spec_lists() -> None:
    documents = {document["workflow_id"]: document for document in seed_documents()}
    assert set(documents) == {"bootstrap_only_v1", "demo_20steps_v1", "login_settings_screenshot_v1"}
    assert len(documents["demo_20steps_v1"]["steps"]) > 20
    ids = {step["id"] for step in documents["bootstrap_only_v1"]["steps"]}
    assert ids >= {"locale", "resolution", "density", "stay-awake", "wake", "unlock", "accessibility"}


# ---- one thing wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (5, "a recipe is an object with workflow_id and steps, not the number 5"),
        (None, "a recipe is an object with workflow_id and steps, not nothing"),
        ([], "a recipe is an object with workflow_id and steps, not a list"),
        ({"steps": [adb()]}, "workflow_id: is missing"),
        ({"workflow_id": "w"}, "steps: is missing"),
        ({"workflow_id": "w", "steps": []}, "steps: is empty"),
        ({"workflow_id": "w", "steps": {}}, "steps: must be a list, not an object"),
        (recipe(*([adb(f"s{n}") for n in range(201)])), "steps: is too long: at most 200 items are allowed"),
        (recipe(workflow_id="a b"), "workflow_id: a b is not allowed here; letters, digits"),
        (recipe(version=0), "version: 0 is below 1"),
        (recipe(version="1"), "version: must be a whole number, not the text \"1\""),
        (recipe(globalTimeoutMs=59_999), "globalTimeoutMs: 59999 is below 60000"),
        (recipe(defaultOnFailure="retry"), "defaultOnFailure: retry is not one of stop, continue"),
        (recipe(globaltimeoutms=1), "globaltimeoutms: there is no such field; did you mean globalTimeoutMs?"),
        (recipe(params={"K": 5}), "params.K: must be text, not the number 5; put it in quotes"),
        (recipe(params={"K": True}), "params.K: must be text, not true; put it in quotes"),
        (recipe(params={"K": None}), "params.K: must be text, not nothing"),
        (recipe(params={"1K": "x"}), "params.1K: 1K is not allowed here; letters, digits and `_`"),
        (recipe(5), "steps[0]: must be an object, not the number 5"),
        (recipe({"id": "a"}), "steps[0].kind: is missing; the kinds are adb, screenshot, upload, assert"),
        (recipe({"id": "a", "kind": "tap"}), "steps[0].kind: tap is not a kind of step; the kinds are adb, "),
        (recipe({"kind": "adb", "command": "x"}), "steps[0].id: is missing"),
        (recipe(adb("-a")), "steps[0].id: -a is not allowed here"),
        (recipe({"id": "a", "kind": "adb"}), "steps[0].command: is missing"),
        (recipe(adb(command="")), "steps[0].command: is empty"),
        (recipe(adb(command="adb shell ")), "steps[0].command: is empty"),
        (recipe(adb(command="x" * 16_385)), "steps[0].command: is too long: at most 16384 characters are allowed"),
        (recipe(adb(timeoutMs=700_000)), "steps[0].timeoutMs: 700000 is above 600000"),
        (recipe(adb(timeoutMs=4_999)), "steps[0].timeoutMs: 4999 is below 5000"),
        (recipe(adb(timeoutMs=5000.5)), "steps[0].timeoutMs: must be a whole number, not the number 5000.5"),
        (recipe(adb(timeoutMs=10**5000)), "steps[0].timeoutMs: "),
        (recipe(adb(timeoutMS=5000)), "steps[0].timeoutMS: there is no such field; did you mean timeoutMs?"),
        (recipe(adb(onFailure="ignore")), "steps[0].onFailure: ignore is not one of stop, continue, retry"),
        (recipe(adb(onFailure="retry", retryCount=11)), "steps[0].retryCount: 11 is above 10"),
        (recipe(adb(probability=1.5)), "steps[0].probability: 1.5 is above 1"),
        (recipe(adb(probability=float("nan"))), "steps[0].probability: must be a finite number"),
        (recipe(adb(probability=True)), "steps[0].probability: must be a number, not true"),
        (recipe(adb(idempotent="yes")), "steps[0].idempotent: must be true or false, not the text \"yes\""),
        (recipe(adb(source="x")), "steps[0].source: there is no such field; the fields are id, phase"),
        (recipe(adb("a"), adb("b"), adb("a")), "steps[2].id: a is already the id of steps[0]"),
        (recipe(upload("x")), "steps[0].source: x names no earlier step; earlier steps: none"),
        (recipe(SHOT, upload("u")), "steps[1].source: u names no earlier"),
        (recipe(adb(), upload("a")), "steps[1].source: a takes no picture; name a"),
        (asserting(step="shot", exitCode=0), "steps[2].assert.step: shot has no output"),
        (asserting(), "steps[2].assert: needs output or exitCode"),
        (asserting(output={}), "steps[2].assert.output: needs exactly one of"),
        (asserting(output={"matches": "("}), "steps[2].assert.output.matches: does not compile: unc"),
        (asserting(output={"matches": "a(?=b)"}), "look-around"),
        (asserting(output={"equal": "x"}), "did you mean equals?"),
        (asserting(output={"equals": "{{X|raw}}"}), "filters are for commands"),
        (recipe(adb(when={"step": "b", "is": "failed"})), "steps[0].when.step: b names no earlier step"),
        (recipe(adb(), adb("b", when={"step": "a", "is": "done"})), "steps[1].when.is: done is not one of completed"),
        (recipe(adb(when={"device": "sdk"})), "steps[0].when: needs exactly one of atLeast, matches, equals"),
        (recipe(adb(when={"device": "model", "atLeast": 3})), "steps[0].when: atLeast compares a number, and model is"),
        (recipe(adb(when={"device": "colour", "equals": "red"})), "steps[0].when.device: colour is not one of sdk"),
        (recipe(adb(when={"device": "model", "matches": "["})), "steps[0].when.matches: does not compile"),
        (recipe(adb(when={"all": [{"any": [{"not": {"nope": 1}}]}]})), "steps[0].when.all[0].any[0].not: needs one of"),
        (recipe(adb(when={"all": []})), "steps[0].when.all: is empty"),
        (recipe(adb(when=5)), "steps[0].when: needs one of step, device, all, any, not"),
        (recipe(adb(command="echo {{}}")), "steps[0].command: `{{}}` is no placeholder"),
        (recipe(adb(command="echo {{A")), "steps[0].command: `{{A` is no placeholder"),
        (recipe(adb(command="echo {{A|upper}}")), "there is no filter 'upper'; the filters are input and raw"),
        (recipe(adb(command="echo $(id {{A}})")), "stands in or behind $("),
        (recipe(adb(command="echo '{{A}}")), "a ' is opened and not closed"),
        (recipe(adb(command="adb -s X shell id")), "`adb -s` chooses a phone; muster does that"),
        (recipe(adb(command="adb install x.apk")), "`adb install` is a command of the PC"),
        (recipe(adb(command="a\0b")), "steps[0].command: holds a NUL character"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(document: object, expected: str) -> None:
    parsed = parse_recipe(document)
    assert parsed.recipe is None
    assert len(parsed.errors) == 1, errors(document)
    assert expected in str(parsed.errors[0])


# ---- many things wrong ----------------------------------------------------------------------------------------------


def test_all_errors_are_told_at_once_in_the_documents_order() -> None:
    document = {
        "workflow_id": "bad id",
        "steps": [
            adb("a", "input text {{X|upper}}", timeoutMs=1),
            {"id": "a", "kind": "swipe", "timeoutMs": 2},
            "not a step",
            {"id": "up", "kind": "upload", "source": "nowhere", "retryCount": 99},
        ],
    }
    paths = [issue.path for issue in parse_recipe(document).errors]
    assert paths == [
        "workflow_id",
        "steps[0].command",
        "steps[0].timeoutMs",
        "steps[1].id",
        "steps[1].kind",
        "steps[1].timeoutMs",
        "steps[2]",
        "steps[3].retryCount",
        "steps[3].source",
    ]


def test_steps_beyond_the_ninth_come_in_number_order() -> None:
    document = recipe(*(adb(f"s{n}", timeoutMs=1) for n in range(12)))
    assert [issue.path for issue in parse_recipe(document).errors] == [f"steps[{n}].timeoutMs" for n in range(12)]


def test_a_document_of_nothing_but_errors_gives_a_bounded_answer() -> None:
    document = recipe(*({"id": "a", "kind": "adb", "command": "{{", "timeoutMs": 1} for _ in range(5_000)))
    assert len(parse_recipe(document).errors) == 500


def test_a_document_nested_beyond_reason_is_refused_and_not_followed() -> None:
    condition: dict[str, Any] = {"device": "sdk", "atLeast": 1}
    for _ in range(5_000):
        condition = {"not": condition}
    assert errors(recipe(adb(when=condition))) == ["the document is nested deeper than 32 levels"]


# ---- worth a look ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (adb(retryCount=2), "steps[0].retryCount: has no effect without onFailure: retry"),
        (adb(retryCount=2, onFailure="continue"), "steps[0].retryCount: has no effect without onFailure: retry"),
        (adb(onFailure="retry"), "steps[0].onFailure: retry without a retryCount tries no second time"),
        (adb(command="echo {{X}}"), "steps[0].command: {{X}} has no value here; every run must give the param X"),
        (adb(command="echo {{VIDEO_ID}}"), "steps[0].command: {{VIDEO_ID}} has no value in a run without a youtubeV"),
        (adb(command="echo {{KNOWN|raw}}"), "steps[0].command: {{KNOWN|raw}} inserts a value as it is"),
        (adb(command="adb shell 'am start x'"), "steps[0].command: stands in quotes as a whole"),
    ],
)
def test_what_is_doubtful_is_a_warning_and_no_error(step: dict[str, Any], expected: str) -> None:
    parsed = parse_recipe(recipe(step, params={"KNOWN": "x"}))
    assert parsed.recipe is not None
    assert len(parsed.warnings) == 1 and expected in str(parsed.warnings[0])


@pytest.mark.parametrize(
    "command", ["echo {{KNOWN}}", "echo {{OWN}}", "echo {{RUN_ID}} {{DEVICE_ID}}", "echo {{secret.PW}}"]
)
def test_keys_with_a_value_are_no_reason_for_a_warning(command: str) -> None:
    assert warnings(recipe(adb(command=command, params={"OWN": "x"}), params={"KNOWN": "x"})) == []


def test_warnings_are_told_beside_errors() -> None:
    parsed = parse_recipe(recipe(adb(command="echo {{X}}"), adb("b", timeoutMs=1)))
    assert len(parsed.errors) == 1 and len(parsed.warnings) == 1


def test_an_issue_reads_path_then_message() -> None:
    assert str(RecipeIssue.at(("steps", 3, "timeoutMs"), "700000 is above 600000")) == (
        "steps[3].timeoutMs: 700000 is above 600000"
    )
