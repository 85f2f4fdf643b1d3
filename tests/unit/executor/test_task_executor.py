"""One task from preflight to its outcome, against phones in memory and in virtual time."""

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.bench import SHOT, UPLOAD, Bench, adb
from tests.support.phones import (
    MemoryPhone,
    MemorySpool,
    ended,
    picture,
    plan,
    task,
)
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import PhoneError, SpoolError, TaskOutcome
from muster.agent.quarantine import counts_against
from muster.agent.secrets import NodeSecrets
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.runtime.logs import configure_logs

# ---- the way it should go --------------------------------------------------------------------------------------------


def test_a_healthy_phone_goes_through_all_steps_and_its_outcome_carries_the_stored_picture() -> None:
    bench = Bench()
    outcome = bench.run(adb("a", "echo hi"), SHOT, UPLOAD)
    assert outcome.status is TaskState.SUCCEEDED and outcome.failure_reason is None
    assert outcome.artifact is not None and outcome.artifact.sha256 == bench.spool.pictures[0].sha256
    assert outcome.runtime_handle == "192.168.0.11:5555"
    assert bench.told.handles == ["192.168.0.11:5555"]
    assert bench.told.story == ["a:running", "a:completed", "shot:running", "shot:completed", "upload:running",
                                "upload:completed"]  # fmt: skip
    assert [step.step_index for step in bench.told.steps] == [0, 0, 1, 1, 2, 2]
    assert {step.steps_total for step in bench.told.steps} == {3}


def test_params_are_filled_from_recipe_step_run_and_built_ins_in_rising_order() -> None:
    bench = Bench()
    bench.run(
        adb("a", "echo {{A}} {{B}} {{C}} {{DEVICE_ID}} {{NODE_ID}} {{RUNTIME_HANDLE}} {{VIDEO_ID}}",
            params={"B": "step", "C": "step"}),
        recipe_params={"A": "recipe", "B": "recipe", "C": "recipe"},
        params={"C": "run", "NODE_ID": "not this"},
    )  # fmt: skip
    assert bench.phone.steps_commands == [
        "echo 'recipe' 'step' 'run' 'ABC123' 'PC-01' '192.168.0.11:5555' 'dQw4w9WgXcQ'"
    ]


def test_a_jpeg_becomes_a_png_before_it_is_spooled() -> None:
    bench = Bench(MemoryPhone(pictures=[picture("JPEG")]))
    assert bench.run(SHOT).status is TaskState.SUCCEEDED
    assert bench.spool.contents[0].startswith(b"\x89PNG")


def test_a_png_is_spooled_as_it_came() -> None:
    bench = Bench()
    bench.run(SHOT)
    assert bench.spool.contents == [picture()]


def test_a_phone_that_comes_back_under_another_handle_is_used_there() -> None:
    bench = Bench(MemoryPhone(answers={"sleep": [5.0]}))
    moved = MemoryPhone(runtime_handle="192.168.0.99:5555")

    async def run() -> TaskOutcome:
        executor = TaskExecutor(bench.phones, bench.spool, bench.settings, LoopClock())
        steps = plan(adb("a", "sleep"), adb("b", "echo {{RUNTIME_HANDLE}}"))
        execution = asyncio.create_task(executor.execute(task(steps), bench.told))
        await bench.phone.hung.wait()
        bench.phones.add(moved)
        outcome = await execution
        assert isinstance(outcome, TaskOutcome)
        return outcome

    outcome = run_in_virtual_time(run())
    assert outcome.status is TaskState.SUCCEEDED
    assert outcome.runtime_handle == "192.168.0.11:5555", "where it was when the task began"
    assert moved.commands == ["echo '192.168.0.99:5555'"]


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_a_missing_param_fails_the_step_before_anything_is_sent_and_is_not_retried() -> None:
    bench = Bench()
    outcome = bench.run(adb("a", "echo {{NOPE}}", phase="BOOTSTRAP", onFailure="retry", retryCount=5))
    assert outcome.failure_reason is FailureReason.PARAM_MISSING
    assert "NOPE" in (outcome.error_message or "")
    assert bench.phone.steps_commands == []
    assert bench.told.story == ["a:running", "a:failed"]


@pytest.mark.parametrize("allowed", [True, False])
def test_raw_runs_only_where_the_nodes_own_settings_allow_it(allowed: bool) -> None:
    bench = Bench(allow_raw_shell=allowed)
    outcome = bench.run(adb("a", "echo {{X|raw}}"), params={"X": "a; b"})
    assert bench.phone.steps_commands == (["echo a; b"] if allowed else [])
    assert outcome.failure_reason is (None if allowed else FailureReason.RAW_NOT_ALLOWED)


def test_a_secret_reaches_the_phone_and_nothing_else() -> None:
    secret = "it's s3cret"
    answer = ended(f"typed {secret}", 1, f"bad: it'\\''s%ss3cret {secret}")
    bench = Bench(MemoryPhone(answers={"input text 'it'\\''s%ss3cret'": [answer]}), secrets=NodeSecrets({"PW": secret}))
    outcome = bench.run(adb("a", "input text {{secret.PW|input}}"))
    assert bench.phone.steps_commands == ["input text 'it'\\''s%ss3cret'"]
    told = repr(bench.told.steps) + repr(outcome)
    assert "s3cret" not in told and "***" in told


def test_a_secret_that_this_node_has_not_is_a_missing_param() -> None:
    outcome = Bench().run(adb("a", "input text {{secret.PW|input}}"), params={"PW": "no secret"})
    assert outcome.failure_reason is FailureReason.PARAM_MISSING
    assert "secrets" in (outcome.error_message or "")


# ---- what must never happen ------------------------------------------------------------------------------------------


def test_a_bug_in_a_part_is_raised_and_not_dressed_up_as_a_failure() -> None:
    class Broken(MemorySpool):
        async def add(self, *_args: Any) -> Any:
            raise ZeroDivisionError

    bench = Bench()
    bench.spool = Broken()
    with pytest.raises(ZeroDivisionError):
        bench.run(SHOT)


@pytest.mark.parametrize("raised", [lambda: PhoneError(FailureReason.VENDOR_WS_ERROR, "gone")])
def test_a_screenshot_that_the_vendor_tool_refuses_is_a_screenshot_error(raised: Callable[[], PhoneError]) -> None:
    bench = Bench(MemoryPhone(pictures=[raised()]))
    assert bench.run(SHOT).failure_reason is FailureReason.SCREENSHOT_ERROR


def test_a_picture_that_this_node_has_no_room_for_fails_its_step_says_so_and_is_held_against_no_phone() -> None:
    class Full(MemorySpool):
        async def add(self, *_args: Any) -> Any:
            raise SpoolError("no space left on device")

    bench = Bench()
    bench.spool = Full()
    outcome = bench.run(SHOT)
    assert outcome.failure_reason is FailureReason.UPLOAD_ERROR
    assert not counts_against(FailureReason.UPLOAD_ERROR), "or a full disk puts the whole node in quarantine"
    assert "no space left" in (outcome.error_message or "")


def test_the_log_hears_of_a_start_and_of_failed_steps_and_of_the_end_from_who_journals_it() -> None:
    log = io.StringIO()
    configure_logs(json_lines=True, stream=log)
    bench = Bench(MemoryPhone(answers={"boom": [ended(exit_code=1)]}))
    bench.run(adb("a", "boom"))
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["Task started", "Step failed"]
    assert {(line["run_id"], line["node_id"], line["device_id"]) for line in lines} == {
        ("0190a000-0000-7000-8000-000000000001", "PC-01", "ABC123")
    }


def test_a_step_that_is_not_sampled_on_this_phone_is_recorded_as_skipped_in_every_attempt() -> None:
    bench = Bench()
    outcome = bench.run(adb("never", probability=0.0), adb("always", probability=1.0))
    again = bench.run(adb("never", probability=0.0), adb("always", probability=1.0))
    assert outcome.status is again.status is TaskState.SUCCEEDED
    assert bench.told.story == 2 * ["never:skipped", "always:running", "always:completed"]
    assert bench.told.steps[0].log_snippet == "not sampled"
