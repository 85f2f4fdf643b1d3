"""What a task does before its first step."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from tests.support.bench import WAITS, Bench, adb
from tests.support.phones import (
    CUT_OFF,
    NOT_SENT,
    MemoryPhone,
    MemoryPhones,
    Told,
    ended,
)
from tests.support.virtual_time import LoopClock, run_in_virtual_time

from muster.agent.ports import PhoneError
from muster.agent.preflight.device import PROBE
from muster.agent.preflight.gates import gates
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState

SAMSUNG = {"device": "manufacturer", "equals": "samsung"}


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


@dataclass
class Starter:
    """Implements `Emulators`: an emulator that is started is there at once."""

    phones: MemoryPhones
    phone: MemoryPhone

    def is_ours(self, port: int) -> bool:
        return False

    async def start(self, port: int) -> None:
        self.phones.add(self.phone)

    def end_of(self, port: int) -> str | None:
        return None


@pytest.mark.parametrize("known", [True, False])
def test_a_task_whose_emulator_had_to_be_started_is_told_as_started_like_every_other(known: bool) -> None:
    """Or a kill in the middle of it would find it queued, and begin it once more."""
    bench = Bench(MemoryPhone("emulator-5554", "emulator-5554", {"getprop sys.boot_completed": [ended("1\n")]}))
    bench.phones.lose("emulator-5554")
    if not known:
        bench.phones.statuses.clear()
    bench.gates = gates(Starter(bench.phones, bench.phone))
    outcome = bench.run(adb("a"))
    assert (outcome.status, outcome.runtime_handle) == (TaskState.SUCCEEDED, "emulator-5554")
    assert bench.told.handles == ["emulator-5554"]
    assert bench.told.story == ["a:running", "a:completed"]


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
