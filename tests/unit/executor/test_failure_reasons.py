"""The closed list of reasons (spec/02): each can happen, has its class, and comes from the right kinds of step."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_parts import GatedExecutor
from tests.support.bench import SHOT, UPLOAD, Bench, adb
from tests.support.loop_stage import at_work
from tests.support.phones import CUT_OFF, MemoryPhone, MemorySpool, ended

from muster.agent.ports import PhoneError, Reporter, SpooledArtifact, SpoolError, Task, TaskOutcome, UploadError
from muster.domain.device import AttachState
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.task import TaskState
from muster.recipe.model import STEP_KINDS

R, C = FailureReason, FailureClass
INF = float("inf")
STEP = {"phase": "STEPS"}

# ---- each reason can happen ------------------------------------------------------------------------------------------


def shown(state: AttachState = AttachState.DEVICE, **fields: Any) -> TaskOutcome:
    """A task for a phone that is shown so."""
    bench = Bench()
    bench.phones.lose("ABC123")
    bench.phones.add(bench.phone, state=state, **fields)
    return bench.run(adb("a"))


def emulator(*, is_online: bool) -> TaskOutcome:
    """A task for an emulator that is not well, on a node that cannot start one."""
    bench = Bench(MemoryPhone("ABC123", "emulator-5554", {"getprop sys.boot_completed": [ended("")]}))
    if not is_online:
        bench.phones.lose("ABC123")
    return bench.run(adb("a"))


def step(command: str, answer: Any = 0, *, phase: str = "STEPS", **settings: Any) -> TaskOutcome:
    """A task of one command, which is answered so."""
    return Bench(MemoryPhone(answers={command: [answer]}), **settings).run(adb("a", command, phase=phase))


def vendor(reason: FailureReason) -> TaskOutcome:
    phone = MemoryPhone(vendor_answers={"apkList": PhoneError(reason, "it said no", fate_unknown=False)})
    return Bench(phone).run({"id": "a", **STEP, "kind": "vendor", "action": "apkList"})


def failing_upload() -> TaskOutcome:
    bench = Bench()
    bench.spool.outcomes = [UploadError("the store is gone")]
    return bench.run(SHOT, UPLOAD)


EXPECT = {"id": "b", **STEP, "kind": "assert", "assert": {"step": "a", "output": {"equals": "x"}}}
IN_A_TASK: Mapping[FailureReason, Callable[[], TaskOutcome]] = {
    R.NEEDS_USB_AUTHORIZATION: lambda: shown(AttachState.UNAUTHORIZED),
    R.ADB_OFFLINE: lambda: shown(AttachState.OFFLINE, last_seen=None),
    R.ADB_MISSING: lambda: shown(AttachState.MISSING, last_seen=None),
    R.EMULATOR_NOT_ONLINE: lambda: emulator(is_online=False),
    R.EMULATOR_NOT_BOOTED: lambda: emulator(is_online=True),
    R.DEVICE_UNRESPONSIVE: lambda: step("x", PhoneError(R.DEVICE_UNRESPONSIVE, "silent")),
    R.VENDOR_WS_ERROR: lambda: vendor(R.VENDOR_WS_ERROR),
    R.VENDOR_COMMAND_ERROR: lambda: vendor(R.VENDOR_COMMAND_ERROR),
    R.BOOTSTRAP_CRITICAL_FAILED: lambda: step("x", ended(exit_code=1), phase="BOOTSTRAP"),
    R.LOGIN_FLOW_TIMEOUT: lambda: step("x", INF, phase="LOGIN_FLOW"),
    R.PARAM_MISSING: lambda: step("echo {{NOPE}}"),
    R.STEP_FAILED: lambda: step("x", ended(exit_code=1)),
    R.STEP_TIMEOUT: lambda: step("x", INF),
    R.TASK_TIMEOUT: lambda: Bench(MemoryPhone(answers={"x": [INF]})).run(adb("a", "x", timeoutMs=600_000)),
    R.ASSERTION_FAILED: lambda: Bench().run(adb("a"), EXPECT),
    R.SCREENSHOT_ERROR: lambda: Bench(MemoryPhone(pictures=[b"no picture"])).run(SHOT),
    R.UPLOAD_ERROR: failing_upload,
    R.BATTERY_LOW: lambda: shown(battery=9),
    R.OVERHEATED: lambda: shown(temperature=50.0),
    R.QUARANTINED: lambda: shown(quarantined="3 failures in a row"),
    R.DEVICE_RESERVED: lambda: shown(reserved="kim has it until 12:00"),
    R.IDENTITY_CONFLICT: lambda: shown(AttachState.MISSING, problem=R.IDENTITY_CONFLICT),
    R.RAW_NOT_ALLOWED: lambda: step("echo {{X|raw}}"),
}


@dataclass
class Shelf(MemorySpool):
    """A spool that may be full."""

    full: SpoolError | None = None

    async def add(self, task: Task, step_id: str, png: bytes) -> SpooledArtifact:
        if self.full is not None:
            raise self.full
        return await super().add(task, step_id, png)


class Buggy(GatedExecutor):
    async def execute(self, task: Task, report: Reporter) -> TaskOutcome:
        raise ZeroDivisionError("a bug")


async def ended_by_the_loop(folder: Path, reason: FailureReason) -> str:
    executor = Buggy() if reason is R.UNKNOWN else GatedExecutor()
    async with at_work(folder, executor) as stage:
        (task,) = await stage.take("A")
        if reason is not R.UNKNOWN:
            await executor.has_started(1)
        if reason is R.CANCELLED:
            stage.loop.cancel(task.task_id)
        if reason is R.NODE_RESTARTED:
            await stage.loop.drain(0)
        (end,) = await stage.finished(1)
    return str(end["failure_reason"])


IN_THE_LOOP: Mapping[FailureReason, Callable[[Path, FailureReason], Awaitable[str]]] = dict.fromkeys(
    (R.CANCELLED, R.NODE_RESTARTED, R.UNKNOWN), ended_by_the_loop
)
# Given by the backend alone, to tasks of a node that is silent.
IN_THE_BACKEND = {R.NODE_LOST: "tests/unit/backend/test_watch_nodes.py"}
# A word of the list that no task can end with: what cannot be told is kept and told later (R1.8).
NEVER = {R.CALLBACK_ERROR}


def test_every_reason_of_the_closed_list_has_its_place_here() -> None:
    places = [*IN_A_TASK, *IN_THE_LOOP, *IN_THE_BACKEND, *NEVER]
    assert sorted(places) == sorted(FailureReason)
    for reason, file in IN_THE_BACKEND.items():
        assert f"FailureReason.{reason.name}" in (Path(__file__).parents[3] / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("reason", IN_A_TASK)
def test_a_task_can_end_with_it(reason: FailureReason) -> None:
    outcome = IN_A_TASK[reason]()
    assert outcome.failure_reason is reason, outcome
    assert outcome.error_message
    assert outcome.status in (TaskState.FAILED, TaskState.SKIPPED_OFFLINE)


@pytest.mark.parametrize("reason", IN_THE_LOOP)
async def test_the_loop_can_end_a_task_with_it(reason: FailureReason, tmp_path: Path) -> None:
    assert await IN_THE_LOOP[reason](tmp_path, reason) == reason.value


def test_the_class_tells_who_has_to_act() -> None:
    by_class = {kind: {reason for reason in FailureReason if reason.failure_class is kind} for kind in FailureClass}
    assert by_class[C.RECIPE] == {R.PARAM_MISSING, R.STEP_FAILED, R.ASSERTION_FAILED, R.RAW_NOT_ALLOWED}
    assert by_class[C.OPERATOR] == {R.DEVICE_RESERVED, R.CANCELLED}
    assert by_class[C.INFRASTRUCTURE] == {
        R.VENDOR_WS_ERROR, R.VENDOR_COMMAND_ERROR, R.UPLOAD_ERROR, R.CALLBACK_ERROR, R.NODE_RESTARTED, R.NODE_LOST,
        R.IDENTITY_CONFLICT, R.UNKNOWN,
    }  # fmt: skip


# ---- every kind of step, every kind of fault -------------------------------------------------------------------------

INSTALL, REMOTE = {"kind": "install", "source": "app.apk"}, "/data/local/tmp/muster-a.apk"
PM = f"pm install -r -g '{REMOTE}'; status=$?; rm -f '{REMOTE}'; exit $status"
PUSH, PULL = {"kind": "push", "source": "app.apk", "target": "/sdcard/x"}, {"kind": "pull", "source": "/sdcard/x"}
VENDOR, WAIT = {"kind": "vendor", "action": "apkList"}, {"kind": "wait", "until": "x"}
SAY, IS_X = {"id": "said", "kind": "adb", "command": "say"}, {"step": "said", "output": {"equals": "x"}}
SILENT = PhoneError(R.DEVICE_UNRESPONSIVE, "adb: silent")
OFF = PhoneError(R.VENDOR_WS_ERROR, "no vendor tool", fate_unknown=False)
NO = PhoneError(R.VENDOR_COMMAND_ERROR, "vendor code 10001", fate_unknown=False)
TOOK = {"id": "said", "kind": "screenshot"}
# What the step before says or takes, the step, how phone and spool behave, and what becomes of it.
ROWS: list[tuple[str, str, list[dict[str, Any]], dict[str, Any], FailureReason | None]] = [
    ("adb", "success", [{"kind": "adb", "command": "x"}], {}, None),
    ("adb", "time-out", [{"kind": "adb", "command": "x"}], {"answers": {"x": [INF]}}, R.STEP_TIMEOUT),
    ("adb", "device", [{"kind": "adb", "command": "x"}], {"answers": {"x": [CUT_OFF]}}, R.ADB_OFFLINE),
    ("adb", "recipe", [{"kind": "adb", "command": "x"}], {"answers": {"x": [ended(exit_code=1)]}}, R.STEP_FAILED),
    ("screenshot", "success", [{"kind": "screenshot"}], {}, None),
    ("screenshot", "time-out", [{"kind": "screenshot"}], {"pictures": [INF]}, R.SCREENSHOT_ERROR),
    ("screenshot", "device", [{"kind": "screenshot"}], {"pictures": [SILENT]}, R.DEVICE_UNRESPONSIVE),
    ("screenshot", "infrastructure", [{"kind": "screenshot"}], {"spool": SpoolError("full")}, R.UPLOAD_ERROR),
    ("upload", "success", [TOOK, {"kind": "upload", "source": "said"}], {}, None),
    ("upload", "time-out", [TOOK, {"kind": "upload", "source": "said"}], {"uploads": [INF]}, R.UPLOAD_ERROR),
    ("upload", "infrastructure", [TOOK, {"kind": "upload", "source": "said"}], {"uploads": [UploadError("gone")]},
     R.UPLOAD_ERROR),
    ("upload", "recipe", [{**TOOK, "onFailure": "continue"}, {"kind": "upload", "source": "said"}],
     {"pictures": [b"no picture"]}, R.UPLOAD_ERROR),
    ("assert", "success", [SAY, {"kind": "assert", "assert": IS_X}], {"answers": {"say": [ended("x\n")]}}, None),
    ("assert", "recipe", [SAY, {"kind": "assert", "assert": IS_X}], {"answers": {"say": [ended("y")]}},
     R.ASSERTION_FAILED),
    ("wait", "success", [WAIT], {"answers": {"x": [ended(exit_code=1), SILENT, ended()]}}, None),
    ("wait", "time-out", [WAIT], {"answers": {"x": [ended(exit_code=1)]}}, R.STEP_TIMEOUT),
    ("wait", "device", [WAIT], {"answers": {"x": [INF]}}, R.STEP_TIMEOUT),
    ("wait", "recipe", [{"kind": "wait", "until": "x {{NOPE}}"}], {}, R.PARAM_MISSING),
    ("vendor", "success", [VENDOR], {"vendor_answers": {"apkList": ["com.example"]}}, None),
    ("vendor", "time-out", [VENDOR], {"vendor_answers": {"apkList": INF}}, R.STEP_TIMEOUT),
    ("vendor", "infrastructure", [VENDOR], {"vendor_answers": {"apkList": OFF}}, R.VENDOR_WS_ERROR),
    ("vendor", "refusal", [VENDOR], {"vendor_answers": {"apkList": NO}}, R.VENDOR_COMMAND_ERROR),
    ("vendor", "recipe", [{"kind": "vendor", "action": "adb", "params": {"command": "x"}}], {}, R.RAW_NOT_ALLOWED),
    ("install", "success", [INSTALL], {"answers": {PM: [ended("Success\n")]}}, None),
    ("install", "time-out", [INSTALL], {"faults": {REMOTE: [INF]}}, R.STEP_TIMEOUT),
    ("install", "device", [INSTALL], {"faults": {REMOTE: [CUT_OFF]}}, R.ADB_OFFLINE),
    ("install", "infrastructure", [{**INSTALL, "source": "absent.apk"}], {}, R.STEP_FAILED),
    ("install", "recipe", [INSTALL], {"answers": {PM: [ended("Failure [INSTALL_FAILED_OLDER_SDK]")]}}, R.STEP_FAILED),
    ("push", "success", [PUSH], {}, None),
    ("push", "time-out", [PUSH], {"faults": {"/sdcard/x": [INF]}}, R.STEP_TIMEOUT),
    ("push", "device", [PUSH], {"faults": {"/sdcard/x": [SILENT]}}, R.DEVICE_UNRESPONSIVE),
    ("push", "infrastructure", [{**PUSH, "source": "absent"}], {}, R.STEP_FAILED),
    ("push", "recipe", [{**PUSH, "target": "/sdcard/{{NOPE}}"}], {}, R.PARAM_MISSING),
    ("pull", "success", [PULL], {"files": {"/sdcard/x": b"x"}}, None),
    ("pull", "time-out", [PULL], {"faults": {"/sdcard/x": [INF]}}, R.STEP_TIMEOUT),
    ("pull", "device", [PULL], {"faults": {"/sdcard/x": [CUT_OFF]}}, R.ADB_OFFLINE),
    ("pull", "recipe", [PULL], {}, R.STEP_FAILED),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "situation", "steps", "behaviour", "reason"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS]
)
def test_a_step_ends_as_its_kind_and_its_fault_say(
    kind: str,
    situation: str,
    steps: list[dict[str, Any]],
    behaviour: dict[str, Any],
    reason: FailureReason | None,
    tmp_path: Path,
) -> None:
    (tmp_path / "app.apk").write_bytes(b"an app")
    uploads, full = behaviour.get("uploads", [None]), behaviour.get("spool")
    bench = Bench(
        MemoryPhone(**{name: value for name, value in behaviour.items() if name not in ("uploads", "spool")}),
        files_folder=tmp_path,
    )
    bench.spool = Shelf(outcomes=uploads, full=full)
    outcome = bench.run(*({"id": "a", **STEP, **each} for each in steps), global_timeout_ms=600_000)
    assert outcome.failure_reason is reason, outcome
    assert (outcome.status is TaskState.SUCCEEDED) is (reason is None)
    assert bool(outcome.error_message) is (reason is not None)


def test_the_table_has_every_kind_with_its_success_and_its_faults() -> None:
    assert {(kind, "success") for kind in STEP_KINDS} <= {row[:2] for row in ROWS}
    # An assertion asks nobody and takes no time.
    assert {(kind, "time-out") for kind in STEP_KINDS if kind != "assert"} <= {row[:2] for row in ROWS}
