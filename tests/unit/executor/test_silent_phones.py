"""Phones that fall silent in the middle of a task: one right reason, whatever a repair makes of their connection."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.bench import SHOT, UPLOAD, Bench, adb
from tests.support.phones import CUT_OFF, HEALTHY_PROBE, Answer, MemoryPhone, Told, ended, plan, task
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.executor.task import TaskExecutor
from muster.agent.ports import Fence, PhoneError, ShellOutput, StepProgress
from muster.agent.preflight.device import PROBE
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason as R
from muster.domain.task import StepState, TaskState

INF = float("inf")
SILENT = PhoneError(R.DEVICE_UNRESPONSIVE, "adb: the phone did not answer within 15 s")
TRY_TWICE = {"idempotent": True, "onFailure": "retry", "retryCount": 1}


class Repairing(Told):
    """As the recovery ladder does to a phone that is waited for: its connection is taken down, and not made again."""

    def __init__(self, bench: Bench, state: AttachState) -> None:
        super().__init__()
        self._bench = bench
        self._state = state

    async def progress(self, step: StepProgress) -> None:
        await super().progress(step)
        if step.status is StepState.WAITING and self._bench.phones.attached:
            self._bench.phones.lose("ABC123", self._state)


@pytest.mark.parametrize("state", [AttachState.OFFLINE, AttachState.MISSING])
@pytest.mark.parametrize(
    "steps",
    [
        [adb("a", "a", **TRY_TWICE)],
        [adb("a", "a", idempotent=True, onFailure="continue"), adb("b", "b")],
        [adb("a", "a", idempotent=True, onFailure="continue"), {"id": "p", "kind": "wait", "durationMs": 1}, SHOT],
    ],
    ids=["at its next try", "at the next step", "at a step after one that asks it nothing"],
)
def test_a_phone_that_hung_stays_unresponsive_when_its_repair_has_taken_its_connection_down(
    state: AttachState, steps: list[dict[str, Any]]
) -> None:
    bench = Bench(MemoryPhone(answers={"a": [SILENT], PROBE: [HEALTHY_PROBE, INF]}))
    bench.told = Repairing(bench, state)
    outcome = bench.run(*steps, global_timeout_ms=300_000)
    assert (outcome.status, outcome.failure_reason) == (TaskState.FAILED, R.DEVICE_UNRESPONSIVE)
    assert "did not answer within 15 s" in (outcome.error_message or "")


def test_a_phone_that_answered_and_whose_connection_then_broke_is_offline() -> None:
    bench = Bench(MemoryPhone(answers={"a": [SILENT, ended()], "b": [CUT_OFF]}))
    outcome = bench.run(adb("a", "a", idempotent=True), adb("b", "b"))
    assert bench.told.story[:4] == ["a:running", "a:waiting", "a:running", "a:completed"]
    assert outcome.failure_reason is R.ADB_OFFLINE


@pytest.mark.parametrize(
    ("state", "reason"), [(AttachState.OFFLINE, R.ADB_OFFLINE), (AttachState.MISSING, R.ADB_OFFLINE)]
)
def test_a_phone_whose_connection_went_by_itself_is_offline_all_the_grace_long(state: AttachState, reason: R) -> None:
    bench = Bench(MemoryPhone(answers={"a": [CUT_OFF]}))
    bench.told = Repairing(bench, state)
    assert bench.run(adb("a", "a", **TRY_TWICE), global_timeout_ms=300_000).failure_reason is R.ADB_OFFLINE


def test_a_phone_that_comes_back_and_hangs_is_unresponsive() -> None:
    bench = Bench(MemoryPhone(answers={"a": [CUT_OFF], PROBE: [HEALTHY_PROBE, INF]}))
    outcome = bench.run(adb("a", "a", idempotent=True))
    assert outcome.failure_reason is R.DEVICE_UNRESPONSIVE
    assert outcome.error_message == (
        "step a: no answer to a probe within 5 s: the phone hangs; then: adb: the stream ended"
    )


# ---- a step that ran out of time: is it the command, or the phone? ---------------------------------------------------

ASKING: list[dict[str, Any]] = [
    {"kind": "adb", "command": "x"},
    {"kind": "wait", "until": "x"},
    {"kind": "screenshot"},
    {"kind": "push", "source": "app", "target": "/sdcard/x"},
    {"kind": "pull", "source": "/sdcard/x"},
]


def hanging(*probes: Answer) -> MemoryPhone:
    """It answers its preflight, and nothing after that but, when asked again and again, as `probes` say."""
    return MemoryPhone(
        answers={"x": [INF], PROBE: [HEALTHY_PROBE, INF, *probes]},
        pictures=[INF],
        faults={"/sdcard/x": [INF]},
    )


@pytest.mark.parametrize("phase", ["BOOTSTRAP", "LOGIN_FLOW", "SCREENSHOT", "TOUR"])
@pytest.mark.parametrize("step", ASKING, ids=[step["kind"] for step in ASKING])
def test_a_phone_that_hangs_under_a_step_is_unresponsive_whatever_the_step(
    step: dict[str, Any], phase: str, tmp_path: Any
) -> None:
    (tmp_path / "app").write_bytes(b"an app")
    bench = Bench(hanging(), files_folder=tmp_path)
    outcome = bench.run({"id": "a", "phase": phase, **step})
    assert outcome.failure_reason is R.DEVICE_UNRESPONSIVE
    assert outcome.error_message is not None and "not done within 30 s" in outcome.error_message
    assert outcome.error_message.endswith("no answer to a probe within 15 s: the phone hangs")


def test_a_step_that_asks_the_phone_nothing_says_nothing_of_it() -> None:
    bench = Bench(hanging())
    bench.phone.pictures, bench.spool.outcomes = MemoryPhone().pictures, [INF]
    assert bench.run(SHOT, UPLOAD).failure_reason is R.UPLOAD_ERROR
    assert bench.phone.commands == [PROBE]


def test_a_phone_that_hangs_is_asked_once_with_patience_and_then_briefly_and_its_phase_does_not_pay() -> None:
    bench = Bench(hanging())
    step = adb("a", "x", phase="TOUR", timeoutMs=5000, idempotent=True, onFailure="retry", retryCount=1)
    outcome = bench.run(step, timeout_overrides_ms={"a": 5000, "TOUR": 10_000})
    assert outcome.failure_reason is R.DEVICE_UNRESPONSIVE
    assert [step.duration_ms for step in bench.told.steps if step.status is StepState.FAILED] == [5000, 5000]
    begins = [step.started_at_ms or 0 for step in bench.told.steps if step.status is StepState.RUNNING]
    assert begins[1] - begins[0] == 5000 + 15_000 + 500


def test_a_phone_that_thawed_since_has_a_slow_command() -> None:
    bench = Bench(hanging(HEALTHY_PROBE))
    steps = [adb(name, "x", phase="TOUR", timeoutMs=5000, onFailure="continue") for name in "ab"]
    bench.run(*steps)
    reasons = [step.failure_reason for step in bench.told.steps if step.status is StepState.FAILED]
    assert reasons == [R.DEVICE_UNRESPONSIVE, R.STEP_TIMEOUT]


def test_a_phone_that_went_away_while_its_command_ran_out_of_time_is_not_said_to_hang() -> None:
    bench = Bench(hanging())
    bench.phone.on_command = lambda command: bench.phones.lose("ABC123") if command == "x" else None
    assert bench.run(adb("a", "x", phase="TOUR")).failure_reason is R.STEP_TIMEOUT


@pytest.mark.parametrize(("left_sec", "reason"), [(4.0, R.STEP_TIMEOUT), (8.0, R.DEVICE_UNRESPONSIVE)])
def test_asking_keeps_within_the_tasks_time(left_sec: float, reason: R) -> None:
    bench = Bench(hanging())
    fields = {"timeoutMs": round(1000 * (60 - left_sec))}
    outcome = bench.run(adb("a", "x", phase="TOUR", **fields), global_timeout_ms=60_000)
    assert outcome.failure_reason is reason


# ---- begun again after a grace, within the phase ---------------------------------------------------------------------


@dataclass
class Deaf(MemoryPhone):
    """As adb tells of a phone that does not let it in: after a while, the first time. Notes how long commands took."""

    after_sec: float = 12.0
    took: float = 0.0

    async def shell(self, command: str, *, fence: Fence | None = None) -> ShellOutput:
        if command == PROBE:
            return await super().shell(command)
        began = asyncio.get_running_loop().time()
        try:
            if not self.steps_commands:
                self.commands.append(command)
                await asyncio.sleep(self.after_sec)
                raise SILENT
            return await super().shell(command, fence=fence)
        finally:
            self.took += asyncio.get_running_loop().time() - began


def test_a_step_that_is_begun_again_has_what_is_left_of_its_phase() -> None:
    phone = Deaf(answers={"x": [INF]})
    outcome = Bench(phone).run(
        adb("a", "x", phase="TOUR", idempotent=True), timeout_overrides_ms={"TOUR": 20_000}, global_timeout_ms=300_000
    )
    assert (outcome.failure_reason, phone.steps_commands) == (R.STEP_TIMEOUT, ["x", "x"])
    assert phone.took == 20.0


def test_a_step_whose_phase_has_used_up_its_time_is_not_begun_again() -> None:
    phone = Deaf(answers={"x": [ended()]}, after_sec=20.0 - 1e-4)
    outcome = Bench(phone).run(
        adb("a", "x", phase="TOUR", idempotent=True), timeout_overrides_ms={"TOUR": 20_000}, global_timeout_ms=300_000
    )
    assert (outcome.failure_reason, phone.steps_commands) == (R.STEP_TIMEOUT, ["x"])
    assert phone.commands == [PROBE, "x", PROBE], "asked in its grace, and not for a command that was never sent"


# ---- a stop at the moment of another failure -------------------------------------------------------------------------


@dataclass
class Failing(Told):
    """The journal fails when it is told of the start, and at that very moment `stopped` is cancelled."""

    stopped: asyncio.Task[Any] | None = None

    async def started(self, runtime_handle: str) -> None:
        if self.stopped is not None:
            asyncio.get_running_loop().call_soon(self.stopped.cancel)
        raise OSError("the disk is gone")


def test_a_stop_at_the_moment_when_the_journal_fails_is_obeyed() -> None:
    async def work() -> None:
        bench, told = Bench(MemoryPhone(answers={PROBE: [INF]})), Failing()
        executor = TaskExecutor(bench.phones, bench.spool, bench.settings, LoopClock())
        told.stopped = asyncio.create_task(executor.execute(task(plan(adb("a"))), told))
        with pytest.raises(asyncio.CancelledError):
            await told.stopped
        assert bench.phone.in_flight == 0

    run_in_virtual_time(work())


def test_a_journal_that_fails_alone_is_told_as_what_it_is() -> None:
    bench = Bench(MemoryPhone(answers={PROBE: [INF]}))
    bench.told = Failing()
    with pytest.raises(OSError, match="the disk is gone"):
        bench.run(adb("a"))
