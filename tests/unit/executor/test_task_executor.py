"""One task from preflight to its outcome, against phones in memory and in virtual time."""

import asyncio
import itertools
from collections.abc import Callable
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
    picture,
    plan,
    task,
)
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import PhoneError, SpoolError, TaskOutcome, UploadError
from muster.agent.preflight.device import PROBE
from muster.agent.secrets import NodeSecrets
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.task import StepState, TaskState

SHOT = {"id": "shot", "phase": "SCREENSHOT", "kind": "screenshot"}
SAMSUNG = {"device": "manufacturer", "equals": "samsung"}
WAITS = TaskState.WAITING
"""Here: the executor answered that the phone is not ready, and the task waits for it without a slot."""
UPLOAD = {"id": "upload", "phase": "UPLOAD", "kind": "upload", "source": "shot"}


def adb(step_id: str, command: str = "true", **fields: Any) -> dict[str, Any]:
    return {"id": step_id, "kind": "adb", "command": command, **fields}


class Bench:
    """A phone, a spool and a reporter around one executor."""

    def __init__(self, phone: MemoryPhone | None = None, **settings: Any) -> None:
        self.phone = phone or MemoryPhone()
        self.phones = MemoryPhones()
        self.phones.add(self.phone)
        self.spool = MemorySpool()
        self.told = Told()
        self.settings = executor_settings(**settings)

    def run(self, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
        return run_in_virtual_time(self.execute(*steps, **head))

    async def execute(self, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
        executor = TaskExecutor(self.phones, self.spool, self.settings, LoopClock())
        before = asyncio.all_tasks()
        outcome = await executor.execute(task(plan(*steps, **head)), self.told)
        assert asyncio.all_tasks() == before, "nothing is left running"
        assert self.phone.in_flight == 0, "no command is left open"
        return outcome if isinstance(outcome, TaskOutcome) else TaskOutcome(WAITS, outcome.reason, outcome.message)


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


# ---- preflight -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "fields", "status", "reason"),
    [
        (AttachState.UNAUTHORIZED, {}, TaskState.FAILED, FailureReason.NEEDS_USB_AUTHORIZATION),
        (AttachState.UNAUTHORIZED, {"last_seen": None}, TaskState.FAILED, FailureReason.NEEDS_USB_AUTHORIZATION),
        (AttachState.OFFLINE, {"last_seen": None}, TaskState.SKIPPED_OFFLINE, FailureReason.ADB_OFFLINE),
        (AttachState.OFFLINE, {"last_seen": -29.0}, WAITS, FailureReason.ADB_OFFLINE),
        (AttachState.OFFLINE, {"last_seen": -31.0}, TaskState.SKIPPED_OFFLINE, FailureReason.ADB_OFFLINE),
        (AttachState.MISSING, {"last_seen": -29.0}, WAITS, FailureReason.ADB_MISSING),
        (AttachState.MISSING, {"last_seen": -31.0}, TaskState.SKIPPED_OFFLINE, FailureReason.ADB_MISSING),
    ],
)
def test_a_phone_that_takes_no_commands_ends_its_task_before_it_starts(
    state: AttachState, fields: dict[str, Any], status: TaskState, reason: FailureReason
) -> None:
    bench = Bench()
    bench.phones.lose("ABC123")
    bench.phones.add(MemoryPhone(), state=state, **fields)
    outcome = bench.run(adb("a"))
    assert (outcome.status, outcome.failure_reason) == (status, reason)
    assert outcome.error_message
    assert bench.told.handles == [] and bench.told.steps == [] and bench.phone.commands == []


def test_a_phone_that_this_node_has_never_seen_is_skipped_as_offline() -> None:
    bench = Bench()
    bench.phones.attached.clear()
    bench.phones.statuses.clear()
    outcome = bench.run(adb("a"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.SKIPPED_OFFLINE, FailureReason.ADB_MISSING)


def test_two_phones_with_one_id_are_not_started() -> None:
    bench = Bench()
    bench.phones.attached.clear()
    bench.phones.add(MemoryPhone(), problem=FailureReason.IDENTITY_CONFLICT, last_error_message="two phones")
    bench.phones.attached.clear()
    outcome = bench.run(adb("a"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.IDENTITY_CONFLICT)
    assert outcome.error_message == "two phones"


@pytest.mark.parametrize(
    ("probe", "reason", "words"),
    [
        (float("inf"), FailureReason.DEVICE_UNRESPONSIVE, "15 s"),
        (ended("muster-probe\n0\n33\nx\ny\n"), FailureReason.DEVICE_UNRESPONSIVE, "starting up"),
        (ended("muster-probe\n\n\n\n\n"), FailureReason.DEVICE_UNRESPONSIVE, "starting up"),
        (ended("", 1, "sh: no such"), FailureReason.DEVICE_UNRESPONSIVE, "nonsense"),
        (CUT_OFF, FailureReason.ADB_OFFLINE, "stream ended"),
        (NOT_SENT, FailureReason.ADB_MISSING, "no such phone"),
    ],
)
def test_a_phone_that_does_not_answer_the_probe_is_to_be_waited_for_before_any_step(
    probe: Any, reason: FailureReason, words: str
) -> None:
    bench = Bench(MemoryPhone(answers={PROBE: [probe]}))
    outcome = bench.run(adb("a"))
    assert (outcome.status, outcome.failure_reason) == (WAITS, reason)
    assert words in (outcome.error_message or "")
    assert bench.told.handles == ["192.168.0.11:5555"], "it had its slot and its phone"
    assert bench.phone.steps_commands == []


def test_conditions_see_what_the_probe_learnt() -> None:
    bench = Bench()
    outcome = bench.run(
        adb("new", when={"device": "sdk", "atLeast": 33}),
        adb("newer", when={"device": "sdk", "atLeast": 34}),
        adb("samsung", when={"all": [{"device": "model", "matches": "^SM-"}, SAMSUNG]}),
    )
    assert outcome.status is TaskState.SUCCEEDED
    assert bench.told.story == ["new:running", "new:completed", "newer:skipped", "samsung:running", "samsung:completed"]


# ---- failures --------------------------------------------------------------------------------------------------------


def test_an_exit_status_stops_the_task_and_the_message_tells_stderr() -> None:
    bench = Bench(MemoryPhone(answers={"boom": [ended("out", 3, "first\nno such package\n")]}))
    outcome = bench.run(adb("a", "boom"), adb("b"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.STEP_FAILED)
    assert outcome.error_message == "step a: adb exit 3: first\nno such package"
    assert outcome.failed_steps == ("a",)
    assert bench.phone.steps_commands == ["boom"]
    failed = bench.told.steps[-1]
    assert failed.exit_code == 3 and failed.log_snippet == "out\nstderr: first\nno such package"


def test_a_task_whose_failures_were_all_continued_succeeds_and_lists_them() -> None:
    bench = Bench(MemoryPhone(answers={"boom": [ended(exit_code=1)]}))
    outcome = bench.run(adb("a", "boom", onFailure="continue"), adb("b"), adb("c", "boom", onFailure="continue"))
    assert outcome.status is TaskState.SUCCEEDED and outcome.failed_steps == ("a", "c")


def test_a_plain_failure_is_tried_again_after_a_growing_pause() -> None:
    bench = Bench(MemoryPhone(answers={"boom": [ended(exit_code=1), ended(exit_code=1), ended("fine")]}))
    outcome = bench.run(adb("a", "boom", onFailure="retry", retryCount=2))
    assert outcome.status is TaskState.SUCCEEDED and outcome.failed_steps == ()
    assert [(step.status.value, step.try_number) for step in bench.told.steps] == [
        ("running", 1), ("failed", 1), ("running", 2), ("failed", 2), ("running", 3), ("completed", 3),
    ]  # fmt: skip
    begins = [step.started_at_ms or 0 for step in bench.told.steps if step.status is StepState.RUNNING]
    assert [second - first for first, second in itertools.pairwise(begins)] == [500, 1000]


@pytest.mark.parametrize(("idempotent", "tries"), [(True, 3), (False, 1), (None, 1)])
def test_a_command_that_timed_out_is_tried_again_only_if_it_is_idempotent(idempotent: bool | None, tries: int) -> None:
    bench = Bench(MemoryPhone(answers={"hang": [float("inf")]}))
    fields = {} if idempotent is None else {"idempotent": idempotent}
    step = adb("a", "hang", phase="PLAY", timeoutMs=5000, onFailure="retry", retryCount=2, **fields)
    outcome = bench.run(step)
    assert len(bench.phone.steps_commands) == tries
    assert outcome.failure_reason is FailureReason.STEP_TIMEOUT
    assert "not done within 5 s" in (outcome.error_message or "")


def test_a_command_that_never_left_is_tried_again_and_one_that_was_cut_off_is_not() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT, ended()], "b": [CUT_OFF, ended()]}))
    retry = {"onFailure": "retry", "retryCount": 3}
    outcome = bench.run(adb("a", "a", **retry), adb("b", "b", **retry))
    assert bench.phone.steps_commands == ["a", "a", "b"]
    assert outcome.failure_reason is FailureReason.ADB_OFFLINE


def test_a_phone_that_is_lost_between_two_steps_ends_the_task_as_missing() -> None:
    bench = Bench()

    class Losing(Told):
        async def progress(self, step: Any) -> None:
            await super().progress(step)
            if self.story[-1] == "a:completed":
                bench.phones.lose("ABC123")

    bench.told = Losing()
    outcome = bench.run(adb("a"), adb("b"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.ADB_MISSING)


def test_the_tasks_own_limit_ends_a_step_that_has_time_left() -> None:
    bench = Bench(MemoryPhone(answers={"hang": [float("inf")]}))
    outcome = bench.run(adb("quick"), adb("a", "hang", timeoutMs=600_000), global_timeout_ms=60_000)
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.TASK_TIMEOUT)
    assert outcome.failed_steps == ("a",)
    assert outcome.error_message == "the task was not done within 60 s; it was in step a"
    assert bench.told.story[-1] == "a:failed"
    assert bench.told.steps[-1].failure_reason is FailureReason.TASK_TIMEOUT
    assert bench.told.steps[-1].duration_ms == 60_000


def test_the_tasks_limit_counts_preflight_too() -> None:
    bench = Bench(MemoryPhone(answers={PROBE: [float("inf")]}), preflight_timeout_ms=120_000)
    outcome = bench.run(adb("a"), global_timeout_ms=60_000)
    assert outcome.failure_reason is FailureReason.TASK_TIMEOUT and outcome.failed_steps == ()


def test_an_override_of_a_phase_bounds_the_phase_as_a_whole() -> None:
    bench = Bench(MemoryPhone(answers={"slow": [4.0]}))
    outcome = bench.run(
        adb("a", "slow", onFailure="continue"), adb("b", "slow", onFailure="continue"), adb("c", "slow"), adb("d"),
        timeout_overrides_ms={"LOGIN_FLOW": 7000},
    )  # fmt: skip
    assert outcome.failure_reason is FailureReason.LOGIN_FLOW_TIMEOUT
    assert outcome.failed_steps == ("b", "c")
    assert bench.phone.steps_commands == ["slow", "slow"], "the third was not sent: no time was left"


def test_cancelling_ends_the_command_at_once_and_raises() -> None:
    bench = Bench(MemoryPhone(answers={"hang": [float("inf")]}))

    async def work() -> None:
        executor = TaskExecutor(bench.phones, bench.spool, bench.settings, LoopClock())
        execution = asyncio.create_task(executor.execute(task(plan(adb("a", "hang"))), bench.told))
        await bench.phone.hung.wait()
        assert bench.phone.in_flight == 1
        execution.cancel()
        with pytest.raises(asyncio.CancelledError):
            await execution
        assert bench.phone.in_flight == 0

    run_in_virtual_time(work())


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


def test_a_picture_that_this_node_has_no_room_for_fails_its_step_and_says_so() -> None:
    class Full(MemorySpool):
        async def add(self, *_args: Any) -> Any:
            raise SpoolError("no space left on device")

    bench = Bench()
    bench.spool = Full()
    outcome = bench.run(SHOT)
    assert outcome.failure_reason is FailureReason.SCREENSHOT_ERROR
    assert "no space left" in (outcome.error_message or "")


# ---- a phone that goes away in the middle (R8.3, R8.5) -------------------------------------------------------------


def gone_for(seconds: float, bench: Bench, *steps: dict[str, Any], **head: Any) -> TaskOutcome:
    """The phone is taken away when its first command is cut off, and put back after so long."""

    async def run() -> TaskOutcome:
        phone = bench.phone

        async def come_back() -> None:
            await asyncio.sleep(seconds)
            bench.phones.add(phone)

        def went(command: str) -> None:
            if command != PROBE and len(phone.steps_commands) == 1:
                bench.phones.lose(phone.device_id)
                coming.append(asyncio.get_running_loop().create_task(come_back()))

        coming: list[asyncio.Task[None]] = []
        phone.on_command = went
        executor = TaskExecutor(bench.phones, bench.spool, bench.settings, LoopClock())
        outcome = await executor.execute(task(plan(*steps, **head)), bench.told)
        await asyncio.gather(*coming)
        assert isinstance(outcome, TaskOutcome)
        return outcome

    return run_in_virtual_time(run())


def test_a_step_whose_phone_goes_away_waits_for_it_and_is_begun_again() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT, ended()]}))
    outcome = gone_for(10, bench, adb("a", "a"), adb("b", "b"))
    assert outcome.status is TaskState.SUCCEEDED
    assert bench.phone.steps_commands == ["a", "a", "b"]
    assert bench.told.story == ["a:running", "a:waiting", "a:running", "a:completed", "b:running", "b:completed"]
    waiting = bench.told.steps[1]
    assert waiting.wait_until_ms is not None and waiting.started_at_ms is not None
    assert waiting.wait_until_ms - waiting.started_at_ms == 15_000
    assert (bench.told.steps[3].duration_ms or 0) < 1_000, "the wait is not the step's"


def test_a_phone_that_stays_away_longer_than_its_grace_fails_the_step_with_its_reason() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT, ended()]}))
    outcome = gone_for(20, bench, adb("a", "a"), adb("b", "b"))
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, FailureReason.ADB_MISSING)
    assert bench.phone.steps_commands == ["a"]


def test_a_command_that_may_have_run_is_begun_again_only_where_the_recipe_calls_it_idempotent() -> None:
    bench = Bench(MemoryPhone(answers={"a": [CUT_OFF, ended()]}))
    assert gone_for(5, bench, adb("a", "a")).failure_reason is FailureReason.ADB_OFFLINE
    assert bench.told.story == ["a:running", "a:failed"], "nobody waits for what must not be begun again"
    bench = Bench(MemoryPhone(answers={"a": [CUT_OFF, ended()]}))
    assert gone_for(5, bench, adb("a", "a", idempotent=True)).status is TaskState.SUCCEEDED


def test_a_step_gets_one_grace_a_try() -> None:
    bench = Bench(MemoryPhone(answers={"a": [NOT_SENT]}))
    outcome = bench.run(adb("a", "a"))
    assert outcome.failure_reason is FailureReason.ADB_MISSING
    assert bench.phone.steps_commands == ["a", "a"]


class SlowlyWritten(Told):
    """A journal that takes a second for a task's start, or refuses it. `probed_at`: the probe, seconds from then."""

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__()
        self.refusal = refusal

    async def started(self, runtime_handle: str) -> None:
        await asyncio.sleep(1.0)
        if self.refusal is not None:
            raise self.refusal
        await super().started(runtime_handle)


def test_the_phone_is_probed_while_the_start_is_written_and_no_step_is_sent_before_it_is() -> None:
    bench = Bench()
    bench.told = SlowlyWritten()
    sent: list[tuple[str, bool, float]] = []
    clock = LoopClock()

    async def execute() -> None:
        began = clock.monotonic()
        bench.phone.on_command = lambda command: sent.append(
            (command, bool(bench.told.handles), clock.monotonic() - began)
        )
        await bench.execute(adb("only", "input tap 1 2"))

    run_in_virtual_time(execute())
    assert sent == [(PROBE, False, 0.0), ("input tap 1 2", True, 1.0)]


def test_a_start_that_the_journal_refuses_is_raised_as_it_is_and_leaves_no_probe_behind() -> None:
    bench = Bench(MemoryPhone(answers={PROBE: [5.0]}))
    bench.told = SlowlyWritten(refusal=LookupError("another attempt"))
    with pytest.raises(LookupError, match="another attempt"):
        bench.run(adb("only"))
    assert bench.phone.in_flight == 0
    assert bench.phone.steps_commands == []


def test_a_phone_that_needs_its_grace_is_told_of_only_after_the_start() -> None:
    bench = Bench(MemoryPhone(answers={PROBE: [PhoneError(FailureReason.ADB_OFFLINE, "gone")]}))
    bench.told = SlowlyWritten()
    assert bench.run(adb("only")).status is WAITS
    assert bench.told.handles == [bench.phone.runtime_handle]
