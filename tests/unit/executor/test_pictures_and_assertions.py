"""Steps of kind screenshot, upload and assert."""

from typing import Any

import pytest
from tests.support.bench import SHOT, UPLOAD, Bench, adb
from tests.support.phones import (
    MemoryPhone,
    ended,
    picture,
)

from muster.agent.ports import UploadError
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState

# ---- pictures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"error: closed",
        picture()[:-12],
        picture()[: len(picture()) // 2],
        picture("JPEG")[:-40],
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_half_a_picture_is_a_screenshot_error_and_never_reaches_the_spool(data: bytes) -> None:
    bench = Bench(MemoryPhone(pictures=[data]))
    outcome = bench.run(SHOT, UPLOAD)
    assert outcome.failure_reason is FailureReason.SCREENSHOT_ERROR
    assert bench.spool.contents == []


def test_a_broken_picture_is_taken_again() -> None:
    bench = Bench(MemoryPhone(pictures=[b"rubbish", picture()]))
    outcome = bench.run({**SHOT, "onFailure": "retry", "retryCount": 1}, UPLOAD)
    assert outcome.status is TaskState.SUCCEEDED and len(bench.spool.contents) == 1


def test_an_upload_that_never_gets_through_fails_the_task_and_leaves_the_picture_in_the_spool() -> None:
    bench = Bench()
    bench.spool.outcomes = [UploadError("503 from the store")]
    outcome = bench.run(SHOT, {**UPLOAD, "onFailure": "retry", "retryCount": 2})
    assert outcome.failure_reason is FailureReason.UPLOAD_ERROR and outcome.artifact is None
    assert "503 from the store" in (outcome.error_message or "")
    assert bench.spool.uploads == 3 and len(bench.spool.pictures) == 1


def test_an_upload_that_hangs_is_ended_by_the_nodes_upload_limit_and_tried_again() -> None:
    bench = Bench(upload_timeout_ms=5_000)
    bench.spool.outcomes = [float("inf"), None]
    outcome = bench.run(SHOT, {**UPLOAD, "onFailure": "retry", "retryCount": 1})
    assert outcome.status is TaskState.SUCCEEDED and outcome.artifact is not None
    assert [step.duration_ms for step in bench.told.steps if step.status is StepState.FAILED] == [5_000]


def test_an_upload_of_a_step_that_took_no_picture_fails_and_of_one_that_was_skipped_is_skipped() -> None:
    bench = Bench(MemoryPhone(pictures=[b"rubbish"]))
    outcome = bench.run({**SHOT, "onFailure": "continue"}, {**UPLOAD, "onFailure": "continue"})
    assert outcome.failed_steps == ("shot", "upload")
    bench = Bench()
    outcome = bench.run({**SHOT, "probability": 0.0}, UPLOAD)
    assert outcome.status is TaskState.SUCCEEDED and bench.told.story == ["shot:skipped", "upload:skipped"]


# ---- assertions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expectation", "holds"),
    [
        ({"output": {"equals": "Status: ok\nfine"}}, True),
        ({"output": {"equals": "{{WANTED}}"}}, True),
        ({"output": {"equals": "Status"}}, False),
        ({"output": {"contains": "ok"}}, True),
        ({"output": {"contains": "OK"}}, False),
        ({"output": {"matches": "^Status: (ok|done)"}}, True),
        ({"output": {"matches": "ok$"}}, False),
        ({"exitCode": 0}, True),
        ({"exitCode": 1}, False),
        ({"exitCode": 0, "output": {"contains": "nope"}}, False),
    ],
)
def test_an_assertion_compares_an_earlier_steps_output(expectation: dict[str, Any], holds: bool) -> None:
    bench = Bench(MemoryPhone(answers={"look": [ended("Status: ok\nfine\n\n")]}))
    outcome = bench.run(
        adb("look", "look"),
        {"id": "check", "kind": "assert", "phase": "BOOTSTRAP", "assert": {"step": "look", **expectation}},
        params={"WANTED": "Status: ok\nfine"},
    )
    assert outcome.failure_reason is (None if holds else FailureReason.ASSERTION_FAILED)


def test_an_assertion_sees_the_exit_status_of_a_step_whose_failure_was_continued() -> None:
    bench = Bench(MemoryPhone(answers={"look": [ended(exit_code=7)]}))
    check = {"id": "check", "kind": "assert", "assert": {"step": "look", "exitCode": 7}}
    outcome = bench.run(adb("look", "look", onFailure="continue"), check)
    assert outcome.status is TaskState.SUCCEEDED
