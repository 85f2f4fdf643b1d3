"""Every place of a recipe in which a value may stand, and what hostile values do there: nothing but be values.

The places are found in the language's own models: a new field of a step fails here until somebody has said what reads
it. `make chaos` sends HOSTILE_PLACES=10000 values through each; the quotes around a value are varied in
`test_template_quoting.py`.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.phones import MemoryPhone, MemoryPhones, MemorySpool, Told, ended, executor_settings, plan, task
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.adb.errors import AdbRequestInvalid
from muster.adb.fence import fenced
from muster.adb.sync_protocol import path_request, send_request
from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import TaskOutcome
from muster.agent.secrets import NodeSecrets
from muster.domain.artifact_key import artifact_key
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.recipe.model import STEP_MODELS, Recipe, StepBase
from muster.recipe.parse import parse_recipe
from muster.vendor.protocol import request

VALUES = int(os.environ.get("HOSTILE_PLACES", "60"))
SEED = int(os.environ.get("HOSTILE_SEED", "1"))
BATCH = 100
pytestmark = pytest.mark.timeout(120 + VALUES // 5)
SHELLS = sorted(
    {str(Path(found).resolve()) for name in ("mksh", "dash", "bash", "sh") if (found := shutil.which(name))}
)
PIECES = [
    *"'\"\\$`(){}[]<>|&;#!*?~=%@^,. \t\n\rab-/0é한\U0001f600", "';", "$(", "${", "&&", "||", ">>", "<<E\n",
    "touch canary", "\\'", "'\\''", "$IFS", "%s", "-rf", "../", "..\\", "{{V}}", "{{secret.S}}",
    '","command":"reboot', "\\u0022",
    ".apk", "app.apk", "/etc/passwd", "%2e%2e%2f", "?x=1", "#f", "http://", "\x7f", "\x1b[0m",
]  # fmt: skip


def hostile_values(count: int) -> list[str]:
    """Of what shells, JSON, paths and addresses trip over; the same seed gives the same values."""
    rng = random.Random(SEED)
    return ["".join(rng.choices(PIECES, k=rng.randint(1, 16))) for _ in range(count)]


# ---- which places there are ------------------------------------------------------------------------------------------

PATTERNED = "what the recipe's author alone writes; a placeholder there is refused"
LITERAL = "taken as it is written"
SHELL, JSON, LIBRARY, PATH, COMPARED = "a shell", "JSON", "the file library", "a path on the phone", "a comparison"
OUTPUT = {"kind": "adb", "command": "true"}
# Every field of text of every step, by model: what reads it, and a step with `{{V}}` in it.
PLACES: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("StepBase", "id"): (PATTERNED, {**OUTPUT, "id": "{{V}}"}),
    ("StepBase", "phase"): (PATTERNED, {**OUTPUT, "phase": "{{V}}"}),
    ("StepBase", "name"): (LITERAL, {**OUTPUT, "name": "{{V}}"}),
    ("StepBase", "params"): (LITERAL, {**OUTPUT, "params": {"A": "{{V}}"}}),
    ("AdbStep", "command"): (SHELL, {"kind": "adb", "command": "show {{V}}"}),
    ("WaitStep", "until"): (SHELL, {"kind": "wait", "until": "show {{V}}"}),
    ("VendorStep", "action"): (PATTERNED, {"kind": "vendor", "action": "{{V}}"}),
    ("VendorStep", "params"): (JSON, {"kind": "vendor", "action": "inputText", "params": {"content": "{{V}}"}}),
    ("VendorStep", "params.command"): (SHELL, {"kind": "vendor", "action": "adb", "params": {"command": "show {{V}}"}}),
    ("InstallStep", "source"): (LIBRARY, {"kind": "install", "source": "{{V}}"}),
    ("PushStep", "source"): (LIBRARY, {"kind": "push", "source": "{{V}}", "target": "/sdcard/x"}),
    ("PushStep", "target"): (PATH, {"kind": "push", "source": "app.apk", "target": "/sdcard/{{V}}"}),
    ("PullStep", "source"): (PATH, {"kind": "pull", "source": "/sdcard/{{V}}"}),
    ("UploadStep", "source"): (PATTERNED, {"kind": "upload", "source": "{{V}}"}),
    ("Assertion", "step"): (PATTERNED, {"kind": "assert", "assert": {"step": "{{V}}", "exitCode": 0}}),
    ("OutputExpectation", "equals"): (
        COMPARED, {"kind": "assert", "assert": {"step": "s0", "output": {"equals": "{{V}}"}}}),
    ("OutputExpectation", "contains"): (
        COMPARED, {"kind": "assert", "assert": {"step": "s0", "output": {"contains": "{{V}}"}}}),
    ("OutputExpectation", "matches"): (
        PATTERNED, {"kind": "assert", "assert": {"step": "s0", "output": {"matches": "{{V}}"}}}),
    ("WhenStep", "step"): (PATTERNED, {**OUTPUT, "when": {"step": "{{V}}", "is": "failed"}}),
    ("WhenDevice", "matches"): (PATTERNED, {**OUTPUT, "when": {"device": "model", "matches": "{{V}}"}}),
    ("WhenDevice", "equals"): (LITERAL, {**OUTPUT, "when": {"device": "model", "equals": "{{V}}"}}),
}  # fmt: skip
FILLED = {SHELL, JSON, LIBRARY, PATH, COMPARED}


def text_fields() -> set[tuple[str, str]]:
    """(model, field) of every free text that a step may hold, out of the language's JSON schema."""
    definitions = Recipe.model_json_schema()["$defs"]
    common = set(StepBase.model_json_schema()["properties"])
    steps = {model.__name__ for model in STEP_MODELS.values()}
    found = set()
    for model, schema in definitions.items():
        for name, field in schema.get("properties", {}).items():
            if not _is_text(field):
                continue
            is_common = model in steps and name in common and not (model == "VendorStep" and name == "params")
            found.add(("StepBase" if is_common else model, name))
    return found


def _is_text(field: dict[str, Any]) -> bool:
    if "enum" in field or "const" in field:
        return False
    inner = [*field.get("anyOf", []), *field.get("patternProperties", {}).values(), field.get("items")]
    return field.get("type") == "string" or any(isinstance(form, dict) and _is_text(form) for form in inner)


def test_every_text_of_a_step_has_been_judged() -> None:
    # Where the vendor's action is a command line, its `command` is read by a shell.
    assert text_fields() == set(PLACES) - {("VendorStep", "params.command")}


@pytest.mark.parametrize("place", PLACES, ids=".".join)
def test_the_parser_sees_a_placeholder_exactly_where_a_value_is_filled_in(place: tuple[str, str]) -> None:
    reader, step = PLACES[place]
    parsed = parse_recipe({"workflow_id": "w", "steps": [{**OUTPUT, "id": "s0"}, {"id": "s1", **step}]})
    warned = any("{{V}} has no value here" in str(issue) for issue in parsed.warnings)
    assert (bool(parsed.errors), warned) == (reader == PATTERNED, reader in FILLED), [*parsed.errors, *parsed.warnings]


# ---- what a value does there -----------------------------------------------------------------------------------------


class Bench:
    """A phone under hostile names, and a library with one file, beside which lies one that nobody may have."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "library"
        self.library.mkdir()
        (self.library / "app.apk").write_bytes(b"mine")
        (folder / "secret.apk").write_bytes(b"not mine")

    def run(self, value: str, *steps: dict[str, Any]) -> tuple[TaskOutcome, MemoryPhone]:
        """The value is a param, a secret, the video, the phone's id and its handle, all at once."""
        phone = MemoryPhone(value, value, {"say": [ended(value)], "say more": [ended(f"<{value}>")]})
        phones = MemoryPhones()
        phones.add(phone)
        settings = executor_settings(files_folder=self.library, allow_raw_shell=True, secrets=NodeSecrets({"S": value}))
        run = plan(
            *({"id": f"s{index}", **step} for index, step in enumerate(steps)), params={"V": value}, video_id=value
        )

        async def execute() -> TaskOutcome:
            executor = TaskExecutor(phones, MemorySpool(), settings, LoopClock())
            outcome = await executor.execute(task(run, value), Told())
            assert isinstance(outcome, TaskOutcome)
            return outcome

        return run_in_virtual_time(execute()), phone


def filled(reader: str) -> list[dict[str, Any]]:
    return [step for known, step in PLACES.values() if known == reader]


ALL = "{{V}} {{secret.S}} {{VIDEO_ID}} {{DEVICE_ID}} {{RUNTIME_HANDLE}}"


def in_shell(step: dict[str, Any]) -> dict[str, Any]:
    """The step with all that a value can come from."""
    return json.loads(json.dumps(step).replace("{{V}}", ALL))  # type: ignore[no-any-return]


def sent(phone: MemoryPhone) -> str:
    """The one command line that reached the phone's shell, by whichever way."""
    commands = phone.steps_commands or [data["command"].removeprefix("adb shell ") for _, data, _ in phone.vendor_asked]
    (command,) = commands
    return command


@pytest.mark.skipif(sys.platform == "win32" or not SHELLS, reason="needs a POSIX shell on this PC")
def test_in_a_shell_a_value_is_one_argument_of_one_command(tmp_path: Path) -> None:
    bench, sandbox = Bench(tmp_path), tmp_path / "sandbox"
    sandbox.mkdir()
    values = hostile_values(VALUES)
    for step in filled(SHELL):
        for first in range(0, len(values), BATCH):
            batch = values[first : first + BATCH]
            commands = [sent(bench.run(value, in_shell(step))[1]) for value in batch]
            wanted = "".join("5\n" + 5 * (value + "\n") for value in batch).encode()
            for shell in SHELLS:
                assert said(shell, commands, sandbox) == wanted, f"HOSTILE_SEED={SEED}, {step}, from {first} on"


def said(shell: str, commands: list[str], folder: Path) -> bytes:
    """What `show` was given by all the commands together, each tenth of them behind a fence."""
    show = "print -r --" if Path(shell).name == "mksh" else "printf '%s\\n'"
    deadline = int(time.time()) + 3600
    lines = [fenced(command, deadline) if index % 10 == 0 else command for index, command in enumerate(commands)]
    script = "\n".join([f'show() {{ {show} "$#"; for each in "$@"; do {show} "$each"; done; }}', *lines])
    done = subprocess.run(
        [shell, "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(folder.iterdir()) == [], "a value ran a command of its own"
    return done.stdout


def test_in_json_a_value_is_one_text_of_one_action_on_one_phone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for step in filled(JSON):
        for value in hostile_values(VALUES):
            outcome, phone = bench.run(value, step)
            assert outcome.status is TaskState.SUCCEEDED
            ((action, data, _),) = phone.vendor_asked
            assert (action, data) == ("inputText", {"content": value})
            told = json.loads(request(action, ["127.0.0.1:41001"], data))
            assert told == {"action": "inputText", "devices": "127.0.0.1:41001", "data": {"content": value}}


def test_as_a_file_of_the_library_a_value_is_its_name_or_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for step in filled(LIBRARY):
        for value in ["app.apk", "../secret.apk", str(tmp_path / "secret.apk"), *hostile_values(VALUES)]:
            outcome, phone = bench.run(value, step)
            assert set(phone.files.values()) <= {b"mine"}
            if value != "app.apk":
                assert outcome.failure_reason is FailureReason.STEP_FAILED
                assert (phone.files, phone.steps_commands) == ({}, [])
            else:
                assert list(phone.files.values()) == [b"mine"]


def test_as_a_path_on_the_phone_a_value_stays_in_its_folder_and_is_one_path(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for step in filled(PATH):
        for value in hostile_values(VALUES):
            outcome, phone = bench.run(value, step)
            assert phone.steps_commands == [], "no shell has a part in it"
            assert ".." not in "".join(phone.asked_for).split("/")
            assert set(phone.asked_for) <= {f"/sdcard/{value}"}
            assert phone.asked_for or outcome.failure_reason is FailureReason.STEP_FAILED
            for path in phone.asked_for:
                assert as_adb_sends(path) == path
            # Each value is a phone's id too, and would leave a folder of its own.
            shutil.rmtree(bench.library / "pulled", ignore_errors=True)


def as_adb_sends(path: str) -> str:
    """The path as the phone's file service reads it, in a push and in a pull: a length, and what is before the mode."""
    pushed, pulled = send_request(path, 0o644), path_request(b"RECV", path)
    assert int.from_bytes(pulled[4:8], "little") == len(pulled) - 8
    assert pushed[8:].rpartition(b",")[0] == pulled[8:]
    return pulled[8:].decode(errors="surrogateescape")


@pytest.mark.parametrize("path", ["/sdcard/a\0b", "/sdcard/\ud800", "", "/" + "x" * 2_000])
def test_what_adb_cannot_carry_as_a_path_is_refused_before_anything_is_sent(path: str) -> None:
    for kind in (path_request, lambda _kind, text: send_request(text, 0o644)):
        with pytest.raises(AdbRequestInvalid):
            kind(b"STAT", path)


def test_in_a_comparison_a_value_is_text_and_no_pattern(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for said_by, step in zip(("say", "say more"), filled(COMPARED), strict=True):
        for value in hostile_values(VALUES):
            outcome, _ = bench.run(value, {"kind": "adb", "command": said_by}, step)
            assert (outcome.status, outcome.error_message) == (TaskState.SUCCEEDED, None)
    outcome, _ = bench.run("b", {"kind": "adb", "command": "true"}, filled(COMPARED)[0])
    assert outcome.failure_reason is FailureReason.ASSERTION_FAILED


def test_what_is_literal_is_never_filled_nor_is_a_value_that_looks_like_a_placeholder(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    step = {"kind": "adb", "command": "echo {{A}}", "name": "{{V}}", "params": {"A": "{{V}}"}}
    assert sent(bench.run("filled", step)[1]) == "echo '{{V}}'"


def test_as_a_part_of_a_storage_key_a_value_stays_in_its_place() -> None:
    for value in hostile_values(VALUES):
        key = artifact_key(video_id=value, node_id=value, device_id=value, run_id=value, taken_at_ms=1_739_012_345_678)
        first, node, device, run, name = key.split("/")
        assert first == node == device == run and name == "1739012345.png"
        assert first not in ("", ".", "..") and first.isascii() and first.isprintable()
        assert not set(first) & set("\\:*?\"<>|&#' ;$`")
