"""`wait`, `vendor`, `install`, `push`, `pull`: what the parser takes and what it says of what it does not take."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.recipe.file_names import why_no_library_name, why_no_phone_path
from muster.recipe.interpreter import is_idempotent
from muster.recipe.model import STEP_MODELS, VendorStep
from muster.recipe.parse import ParsedRecipe, parse_recipe
from muster.recipe.vendor_actions import find_action, why_not


def parsed(*steps: dict[str, Any], **head: Any) -> ParsedRecipe:
    return parse_recipe(
        {"workflow_id": "w", "steps": [{"id": f"s{i}", **step} for i, step in enumerate(steps)], **head}
    )


GOOD: list[dict[str, Any]] = [
    {"kind": "wait", "durationMs": 1},
    {"kind": "wait", "durationMs": 29_999},
    {"kind": "wait", "durationMs": 59_999, "timeoutMs": 60_000},
    {"kind": "wait", "until": "pidof {{PACKAGE}}", "intervalMs": 200},
    {"kind": "vendor", "action": "PUSHEVENT", "params": {"type": "2"}},
    {"kind": "vendor", "action": "inputText", "params": {"content": "{{PACKAGE}} {{secret.PIN}}"}},
    {"kind": "install", "source": "app 2.1+x86_64.APK"},
    {"kind": "install", "source": "{{PACKAGE}}"},
    {"kind": "push", "source": "a", "target": "/sdcard/Download/{{DEVICE_ID}}.txt"},
    {"kind": "pull", "source": "/sdcard/한국어 파일"},
]
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "wait"}, "steps[0]: needs exactly one of durationMs, until"),
    ({"kind": "wait", "durationMs": 5, "until": "true"}, "steps[0]: needs exactly one of durationMs, until"),
    ({"kind": "wait", "durationMs": 0}, "steps[0].durationMs: 0 is below 1"),
    ({"kind": "wait", "durationMs": 1.5}, "steps[0].durationMs: must be a whole number, not the number 1.5"),
    ({"kind": "wait", "durationMs": 30_000}, "steps[0].durationMs: 30000 is not below the step's limit of 30000"),
    ({"kind": "wait", "durationMs": 6_000, "timeoutMs": 5_000}, "steps[0].durationMs: 6000 is not below"),
    ({"kind": "wait", "until": "true", "intervalMs": 100}, "steps[0].intervalMs: 100 is below 200"),
    ({"kind": "wait", "until": "adb install x"}, "steps[0].until: `adb install` is a command of the PC"),
    ({"kind": "wait", "until": 'eval "{{X}}"'}, "steps[0].until: {{X}}: `eval` would read"),
    ({"kind": "wait", "until": ""}, "steps[0].until: is empty"),
    ({"kind": "vendor"}, "steps[0].action: is missing"),
    ({"kind": "vendor", "action": "format"}, "steps[0].action: 'format' is no action of the vendor tool"),
    ({"kind": "vendor", "action": "startAPP"}, "did you mean startApk?"),
    ({"kind": "vendor", "action": "screen"}, "screen is no action for a vendor step; use a screenshot"),
    ({"kind": "vendor", "action": "uploadFile"}, "use a push step"),
    ({"kind": "vendor", "action": "autojsCreate"}, "takes a path of the node's PC"),
    ({"kind": "vendor", "action": "pushEvent", "params": {"type": 2}}, "steps[0].params.type: must be text"),
    ({"kind": "vendor", "action": "inputText", "params": {"content": "{{X|input}}"}}, "{{X|input}}: filters"),
    ({"kind": "vendor", "action": "adb", "params": {"command": "eval {{X}}"}}, "params.command: {{X}}: `eval`"),
    ({"kind": "install", "source": "app.zip"}, "steps[0].source: 'app.zip' is no APK"),
    ({"kind": "install", "source": "../app.apk"}, "'../app.apk' is no name of a file in the node's library"),
    ({"kind": "push", "source": "/etc/passwd", "target": "/sdcard/x"}, "steps[0].source: '/etc/passwd' is no name"),
    ({"kind": "push", "source": "C:\\Users\\x", "target": "/sdcard/x"}, "steps[0].source"),
    ({"kind": "push", "source": "a"}, "steps[0].target: is missing"),
    ({"kind": "push", "source": "a", "target": "sdcard/x"}, "steps[0].target: 'sdcard/x' is no whole path"),
    ({"kind": "push", "source": "a", "target": "/sdcard/../data/x"}, "steps[0].target: '/sdcard/../data/x' leads out"),
    ({"kind": "pull", "source": "/sdcard/"}, "steps[0].source: '/sdcard/' is no whole path"),
    ({"kind": "pull", "source": "/sdcard/a\nb"}, "steps[0].source: a path on the phone holds no control characters"),
    ({"kind": "pull", "source": "/sdcard/{{X"}, "steps[0].source"),
    ({"kind": "pull", "source": "/a", "target": "b"}, "steps[0].target: there is no such field"),
]  # fmt: skip


@pytest.mark.parametrize("step", GOOD, ids=str)
def test_what_is_right_is_taken_without_a_word(step: dict[str, Any]) -> None:
    found = parsed(step, params={"PACKAGE": "com.example"})
    assert (found.errors, found.warnings) == ((), ())
    assert found.recipe is not None
    again = parse_recipe(found.recipe.document()).recipe
    assert again == found.recipe, "what is stored says the same"


@pytest.mark.parametrize(("step", "says"), WRONG, ids=str)
def test_what_is_wrong_is_told_at_its_place(step: dict[str, Any], says: str) -> None:
    found = parsed(step, params={"X": "value"})
    assert found.recipe is None
    assert says in "\n".join(map(str, found.errors))


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = parsed(*(step for step, _ in WRONG), params={"X": "value"})
    assert {error.path.split("]")[0] for error in found.errors} == {f"steps[{index}" for index in range(len(WRONG))}


@pytest.mark.parametrize("action", ["adb", "adb_shell", "ADB_Shell"])
def test_a_command_line_of_the_vendor_tool_is_pointed_out(action: str) -> None:
    found = parsed({"kind": "vendor", "action": action, "params": {"command": "id"}})
    assert found.errors == ()
    assert "runs only on nodes that allow raw shell" in str(found.warnings[0])


def test_an_assert_may_name_a_vendor_step_and_no_pause() -> None:
    expect = {"kind": "assert", "assert": {"step": "s0", "output": {"contains": "x"}}}
    assert parsed({"kind": "vendor", "action": "apkList"}, expect).errors == ()
    assert "has no output" in str(parsed({"kind": "wait", "durationMs": 5}, expect).errors[0])


@pytest.mark.parametrize(("kind", "expected"), [("wait", True), ("vendor", False), ("install", False), ("pull", False)])
def test_only_waiting_is_done_again_when_nobody_knows_whether_it_was_done(kind: str, expected: bool) -> None:
    step = next(step for step in GOOD if step["kind"] == kind)
    assert is_idempotent(STEP_MODELS[kind].model_validate({"id": "s", **step})) is expected  # type: ignore[arg-type]


@given(st.text(max_size=200))
def test_whatever_is_called_a_file_of_the_library_cannot_lead_out_of_it(name: str) -> None:
    if why_no_library_name(name) is None:
        assert not set(name) & set("/\\:\0\n") and name.strip(". ") == name and name != ".."


@given(st.text(max_size=300))
def test_a_path_on_the_phone_can_be_said_to_adb(path: str) -> None:
    if why_no_phone_path(path) is None:
        assert path.startswith("/") and "\0" not in path and "\n" not in path


@given(st.text(max_size=40))
def test_every_name_is_either_an_action_or_explained(name: str) -> None:
    assert find_action(name) is not None or why_not(name)
    assert VendorStep(id="a", kind="vendor", action="x").action == "x"
