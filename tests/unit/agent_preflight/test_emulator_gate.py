"""The Emulator Health Gate (R2.1) on a clock that a test moves."""

import asyncio
import math
from dataclasses import dataclass, field

import pytest
from tests.support.manual_clock import ManualClock
from tests.support.phones import MemoryPhone, MemoryPhones, ended

from muster.agent.preflight.emulator import EmulatorHealth, EmulatorNotStarted, NoEmulators
from muster.agent.preflight.gate import Refused, Subject
from muster.domain.device import AttachState
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState
from muster.recipe.conditions import DeviceFacts

NAME, PORT = "emulator-5554", 5554
BOOTED = "getprop sys.boot_completed"


@dataclass
class ScriptedEmulators:
    """Implements `Emulators`: adb shows it `online_sec` after a start, it has booted after `booted_sec`."""

    phones: MemoryPhones
    clock: ManualClock
    online_sec: float = 2.0
    booted_sec: float = 10.0
    start_sec: float = 0.0
    fails: str | None = None
    ends: str | None = None
    starts: list[float] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def is_ours(self, port: int) -> bool:
        return bool(self.starts) and port == PORT

    async def start(self, port: int) -> None:
        assert port == PORT
        self.starts.append(self.clock.monotonic())
        await self.clock.sleep(self.start_sec)
        if self.fails is not None:
            raise EmulatorNotStarted(self.fails)
        self.tasks.append(asyncio.create_task(self._boot()))

    def end_of(self, port: int) -> str | None:
        return self.ends if self.starts else None

    async def _boot(self) -> None:
        await self.clock.sleep(self.online_sec)
        phone = self.phones.add(MemoryPhone(NAME, NAME, {BOOTED: [ended("")]}))
        await self.clock.sleep(self.booted_sec - self.online_sec)
        phone.answers[BOOTED] = [ended("1\n")]


@dataclass
class Scene:
    clock: ManualClock = field(default_factory=ManualClock)
    phones: MemoryPhones = field(default_factory=MemoryPhones)

    def __post_init__(self) -> None:
        self.emulators = ScriptedEmulators(self.phones, self.clock)

    async def verdict(self, name: str = NAME, *, task_sec: float = math.inf) -> tuple[Refused | None, float]:
        """What the gate says, and after how many seconds."""
        subject = Subject(name, self.phones, self.clock, 15_000, DeviceFacts(name), deadline=task_sec)
        check = asyncio.create_task(EmulatorHealth(self.emulators).check(subject))
        began = self.clock.monotonic()
        while not check.done() and self.clock.monotonic() - began < 300:
            await self.clock.advance(0.25)
        took = self.clock.monotonic() - began
        for task in self.emulators.tasks:
            task.cancel()
        return await check, took


async def test_a_healthy_emulator_passes_and_is_left_alone() -> None:
    scene = Scene()
    scene.phones.add(MemoryPhone(NAME, NAME, {BOOTED: [ended("1\n")]}))
    assert (await scene.verdict())[0] is None and scene.emulators.starts == []


async def test_a_phone_that_is_no_emulator_is_none_of_its_business() -> None:
    scene = Scene()
    phone = scene.phones.add(MemoryPhone("ABC123", "192.168.0.7:5555", {BOOTED: [ended("")]}))
    assert (await scene.verdict("ABC123"))[0] is None
    assert (await scene.verdict("never seen"))[0] is None
    assert phone.commands == [] and scene.emulators.starts == []


@pytest.mark.parametrize("known", [True, False])
async def test_an_emulator_that_is_down_is_started_and_waited_for(known: bool) -> None:
    scene = Scene()
    if known:
        scene.phones.add(MemoryPhone(NAME, NAME), state=AttachState.MISSING)
    verdict, took = await scene.verdict()
    assert verdict is None and scene.emulators.starts == [0.0]
    assert 10 <= took <= 11


async def test_one_that_is_booting_is_given_time_before_it_is_started_anew() -> None:
    scene = Scene()
    scene.phones.add(MemoryPhone(NAME, NAME, {BOOTED: [ended("")]}))
    verdict, took = await scene.verdict()
    assert verdict is None and len(scene.emulators.starts) == 1
    assert scene.emulators.starts[0] >= 30 and took < 60


@pytest.mark.parametrize(
    ("online_sec", "reason"),
    [(1_000.0, FailureReason.EMULATOR_NOT_ONLINE), (5.0, FailureReason.EMULATOR_NOT_BOOTED)],
)
async def test_what_is_still_down_after_sixty_seconds_is_skipped_with_its_reason(
    online_sec: float, reason: FailureReason
) -> None:
    scene = Scene()
    scene.emulators.online_sec, scene.emulators.booted_sec = online_sec, 2_000.0
    verdict, took = await scene.verdict()
    assert verdict is not None
    assert (verdict.status, verdict.reason) == (TaskState.SKIPPED_OFFLINE, reason)
    assert 60 <= took <= 62 and len(scene.emulators.starts) == 2


async def test_the_time_that_its_starts_take_counts_among_the_sixty_seconds() -> None:
    scene = Scene()
    scene.emulators.booted_sec, scene.emulators.start_sec = 2_000.0, 10.0
    verdict, took = await scene.verdict()
    assert verdict is not None and verdict.reason is FailureReason.EMULATOR_NOT_BOOTED
    assert 60 <= took <= 62 and len(scene.emulators.starts) == 2


async def test_where_the_task_has_less_time_than_the_gate_it_still_ends_with_the_emulators_own_reason() -> None:
    scene = Scene()
    scene.emulators.booted_sec = 2_000.0
    verdict, took = await scene.verdict(task_sec=60.0)
    assert verdict is not None and verdict.reason is FailureReason.EMULATOR_NOT_BOOTED
    assert 50 <= took < 60 and "waited 50 s" in verdict.message


async def test_one_that_cannot_be_started_is_skipped_at_once_with_the_cause() -> None:
    scene = Scene()
    scene.emulators.fails = "there is no program emulator"
    verdict, took = await scene.verdict()
    assert verdict is not None and verdict.reason is FailureReason.EMULATOR_NOT_ONLINE and took < 1
    assert "there is no program emulator" in verdict.message


async def test_one_that_ends_by_itself_after_its_start_is_started_once_more_and_not_waited_for() -> None:
    scene = Scene()
    scene.emulators.online_sec, scene.emulators.ends = 1_000.0, "PANIC: no KVM here"
    verdict, took = await scene.verdict()
    assert verdict is not None and verdict.reason is FailureReason.EMULATOR_NOT_ONLINE
    assert "PANIC: no KVM here" in verdict.message
    assert len(scene.emulators.starts) == 2 and took < 2


async def test_without_an_avd_the_gate_says_what_to_set() -> None:
    subject = Subject(NAME, MemoryPhones(), ManualClock(), 15_000, DeviceFacts(NAME))
    verdict = await EmulatorHealth(NoEmulators()).check(subject)
    assert verdict is not None and "EMULATOR_AVD" in verdict.message
