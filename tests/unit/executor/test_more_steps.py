"""`wait`, `vendor`, `install`, `push`, `pull` against a phone in memory and in virtual time."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.phones import (
    CUT_OFF,
    NOT_SENT,
    MemoryPhone,
    MemoryPhones,
    MemorySpool,
    Told,
    ended,
    executor_settings,
    plan,
    task,
)
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.file_library import FileLibrary, FileRefused
from muster.agent.ports import PhoneError, TaskOutcome
from muster.agent.secrets import NodeSecrets
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState

APK = b"PK an app"


class Bench:
    """A phone, a node's file library and a reporter around one executor."""

    def __init__(self, folder: Path | None = None, **settings: Any) -> None:
        self.phone = MemoryPhone()
        self.phones = MemoryPhones()
        self.phones.add(self.phone)
        self.told = Told()
        self.library = folder / "files" if folder else None
        if self.library is not None:
            self.library.mkdir()
            (self.library / "app.apk").write_bytes(APK)
        self.settings = executor_settings(files_folder=self.library, **settings)
        self.seconds = 0.0

    def run(self, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
        async def execute() -> TaskOutcome:
            executor = TaskExecutor(self.phones, MemorySpool(), self.settings, LoopClock())
            outcome = await executor.execute(task(plan(*steps, **head)), self.told)
            self.seconds = asyncio.get_running_loop().time()
            assert self.phone.in_flight == 0
            assert isinstance(outcome, TaskOutcome)
            return outcome

        return run_in_virtual_time(execute())


def step(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": kind, "phase": "STEPS", "kind": kind, **fields}


# ---- wait ------------------------------------------------------------------------------------------------------------


def test_a_pause_lasts_as_long_as_it_says_and_asks_the_phone_nothing() -> None:
    bench = Bench()
    assert bench.run(step("wait", durationMs=4_000)).status is TaskState.SUCCEEDED
    assert 4.0 <= bench.seconds < 4.1
    assert bench.phone.steps_commands == []


def test_a_condition_is_asked_until_it_holds() -> None:
    bench = Bench()
    bench.phone.answers["pidof 'com.example'"] = [
        ended(exit_code=1),
        NOT_SENT,
        CUT_OFF,
        ended(exit_code=1),
        ended("77"),
    ]
    wait = step("wait", until="pidof {{PACKAGE}}", intervalMs=2_000)
    assert bench.run(wait, params={"PACKAGE": "com.example"}).status is TaskState.SUCCEEDED
    assert 8.0 <= bench.seconds < 8.1
    assert bench.told.steps[-1].log_snippet == "it held at look 5"


def test_a_condition_that_never_holds_ends_with_what_it_said_last() -> None:
    bench = Bench()
    bench.phone.answers["look"] = [ended("", 2, "no such window")]
    outcome = bench.run(step("wait", until="look", timeoutMs=5_000))
    assert outcome.failure_reason is FailureReason.STEP_TIMEOUT
    assert "the condition does not hold after 5 looks: adb exit 2: no such window" in (outcome.error_message or "")


def test_a_condition_on_a_phone_that_hangs_ends_with_the_steps_limit() -> None:
    bench = Bench()
    bench.phone.answers["look"] = [float("inf")]
    outcome = bench.run(step("wait", until="look", timeoutMs=5_000))
    assert (outcome.failure_reason, bench.seconds) == (FailureReason.STEP_TIMEOUT, 5.0)


def test_a_wait_that_timed_out_is_tried_again_where_it_says_so() -> None:
    bench = Bench()
    bench.phone.answers["look"] = [*(ended(exit_code=1) for _ in range(7)), ended()]
    outcome = bench.run(step("wait", until="look", timeoutMs=5_000, onFailure="retry", retryCount=1))
    assert outcome.status is TaskState.SUCCEEDED


# ---- vendor ----------------------------------------------------------------------------------------------------------


def test_an_action_gets_its_params_filled_and_its_answer_can_be_asserted() -> None:
    bench = Bench(secrets=NodeSecrets({"PIN": "s3cret"}))
    bench.phone.vendor_answers = {"inputText": {"typed": ["s3cret"]}}
    outcome = bench.run(
        step("vendor", action="INPUTTEXT", params={"content": "{{A}} {{secret.PIN}}; $(b)", "A": "mine"}),
        step("assert", **{"assert": {"step": "vendor", "exitCode": 0, "output": {"contains": "typed"}}}),
        recipe_params={"A": "it's"},
    )
    assert outcome.status is TaskState.SUCCEEDED
    assert [(action, data) for action, data, _ in bench.phone.vendor_asked] == [
        ("inputText", {"content": "it's s3cret; $(b)", "A": "mine"})
    ]
    assert "s3cret" not in repr(bench.told.steps) and "***" in repr(bench.told.steps)


def test_an_action_is_given_up_just_before_its_steps_limit() -> None:
    bench = Bench()
    bench.run(step("vendor", action="apkList", timeoutMs=7_000))
    assert bench.phone.vendor_asked == [("apkList", {}, 6.5)]


@pytest.mark.parametrize("reason", [FailureReason.VENDOR_WS_ERROR, FailureReason.VENDOR_COMMAND_ERROR])
def test_what_the_vendor_tool_gets_wrong_has_its_own_reason(reason: FailureReason) -> None:
    bench = Bench()
    bench.phone.vendor_answers["apkList"] = PhoneError(reason, "it said 错误", fate_unknown=False)
    outcome = bench.run(step("vendor", action="apkList", onFailure="retry", retryCount=2))
    assert outcome.failure_reason is reason and "错误" in (outcome.error_message or "")
    assert len(bench.phone.vendor_asked) == 3


def test_an_action_whose_fate_is_unknown_is_not_done_twice() -> None:
    bench = Bench()
    bench.phone.vendor_answers["inputText"] = PhoneError(FailureReason.VENDOR_WS_ERROR, "no answer")
    outcome = bench.run(step("vendor", action="inputText", onFailure="retry", retryCount=2))
    assert (outcome.failure_reason, len(bench.phone.vendor_asked)) == (FailureReason.VENDOR_WS_ERROR, 1)


@pytest.mark.parametrize(("action", "sent"), [("adb", "adb shell echo 'a; reboot'"), ("adb_shell", "echo 'a; reboot'")])
@pytest.mark.parametrize("allowed", [True, False])
def test_a_command_line_runs_only_where_raw_is_allowed_and_its_values_are_quoted(
    action: str, sent: str, allowed: bool
) -> None:
    bench = Bench(allow_raw_shell=allowed)
    command = {"command": "adb shell echo {{X}}"}
    outcome = bench.run(step("vendor", action=action, params=command), params={"X": "a; reboot"})
    assert outcome.failure_reason is (None if allowed else FailureReason.RAW_NOT_ALLOWED)
    assert [data for _, data, _ in bench.phone.vendor_asked] == ([{"command": sent}] if allowed else [])


# ---- install, push, pull ---------------------------------------------------------------------------------------------

INSTALL = (
    "pm install -r -g '/data/local/tmp/muster-install.apk'; status=$?;"
    " rm -f '/data/local/tmp/muster-install.apk'; exit $status"
)


def test_an_app_is_pushed_and_installed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.phone.answers[INSTALL] = [ended("Success\n")]
    assert bench.run(step("install", source="{{APK}}"), params={"APK": "app.apk"}).status is TaskState.SUCCEEDED
    assert bench.phone.files == {"/data/local/tmp/muster-install.apk": APK}
    assert bench.phone.steps_commands == [INSTALL]


@pytest.mark.parametrize("exit_code", [0, 1])
def test_an_app_that_the_phone_refuses_is_a_failure_whatever_its_exit_status(tmp_path: Path, exit_code: int) -> None:
    bench = Bench(tmp_path)
    bench.phone.answers[INSTALL] = [ended("Failure [INSTALL_FAILED_VERSION_DOWNGRADE]\n", exit_code)]
    outcome = bench.run(step("install", source="app.apk"))
    assert outcome.failure_reason is FailureReason.STEP_FAILED
    assert "app.apk was not installed" in (outcome.error_message or "")
    assert "VERSION_DOWNGRADE" in (outcome.error_message or "")


def test_a_pushed_file_arrives_and_is_pulled_to_a_place_of_its_own(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.run(
        step("push", source="app.apk", target="/sdcard/{{NAME}}"),
        step("pull", source="/sdcard/{{NAME}}"),
        params={"NAME": "a b.txt"},
    )
    assert outcome.status is TaskState.SUCCEEDED and bench.library is not None
    (pulled,) = (path for path in (bench.library / "pulled").rglob("*") if path.is_file())
    assert pulled.read_bytes() == APK
    assert pulled.relative_to(bench.library).parts == (
        "pulled",
        "0190a000-0000-7000-8000-000000000001",
        "ABC123",
        "pull",
    )
    assert pulled.relative_to(bench.library).as_posix() in (bench.told.steps[-1].log_snippet or "")


@pytest.mark.parametrize(
    "name", ["..", "../secrets.yaml", "/etc/passwd", "a/../../x", "pulled/x", "C:x", "", ".hidden", "x\n", "absent.txt"]
)
def test_no_value_of_a_run_names_a_file_outside_of_the_library(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path)
    (tmp_path / "secrets.yaml").write_text("node: {}")
    outcome = bench.run(step("push", source="{{NAME}}", target="/sdcard/x"), params={"NAME": name})
    assert outcome.failure_reason is FailureReason.STEP_FAILED
    assert bench.phone.files == {}


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_out_of_the_library_is_not_followed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.library is not None
    (tmp_path / "outside").write_text("x")
    (bench.library / "inside").symlink_to(tmp_path / "outside")
    (bench.library / "folder").mkdir()
    for name in ("inside", "folder"):
        outcome = bench.run(step("push", source=name, target="/sdcard/x"))
        assert "has no file" in (outcome.error_message or "")


@pytest.mark.parametrize("target", ["relative", "/folder/", "/a\nb"])
def test_no_value_of_a_run_makes_a_path_that_adb_cannot_carry(tmp_path: Path, target: str) -> None:
    bench = Bench(tmp_path)
    outcome = bench.run(step("push", source="app.apk", target="{{PATH}}"), params={"PATH": target})
    assert (outcome.failure_reason, bench.phone.files) == (FailureReason.STEP_FAILED, {})


def test_a_transfer_to_a_phone_that_hangs_ends_with_the_steps_limit(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.phone.faults["/sdcard/x"] = [float("inf")]
    outcome = bench.run(step("push", source="app.apk", target="/sdcard/x", timeoutMs=5_000))
    assert (outcome.failure_reason, bench.seconds) == (FailureReason.STEP_TIMEOUT, 5.0)


def test_a_file_that_the_phone_has_not_leaves_nothing_behind(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outcome = bench.run(step("pull", source="/sdcard/absent"))
    assert outcome.failure_reason is FailureReason.STEP_FAILED and bench.library is not None
    assert [path for path in (bench.library / "pulled").rglob("*") if path.is_file()] == []


def test_a_node_without_a_library_says_so() -> None:
    outcome = Bench().run(step("install", source="app.apk"))
    assert "no folder for files" in (outcome.error_message or "")


async def test_what_was_pulled_stays_within_its_room(tmp_path: Path) -> None:
    library = FileLibrary(tmp_path, pulled_bytes_max=65 * 1024 * 1024)
    place = await library.place_for("run", "dev/ice", "step", ".txt")
    assert place.relative_to(tmp_path).as_posix() == "pulled/run/dev%2Fice/step.txt"
    place.write_bytes(bytes(2 * 1024 * 1024))
    with pytest.raises(FileRefused, match="remove old files"):
        await library.place_for("run", "device", "step", "")
