"""What each character does to a phone, on a clock that a test moves."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from tests.support.adb_host import host_of, key
from tests.support.manual_clock import ManualClock, settle
from tests.support.sim_phone import Said, make_phone, say
from tests.support.waiting import until

from muster.sim.casting import CastPhone
from muster.sim.characters import Phones
from muster.sim.conduct import begins_attached, live, prepare
from muster.sim.latency import MEASURED, SpreadPace
from muster.sim.phone import Link, Phone
from muster.sim.profile import parse_profile
from muster.sim.states import PhoneState, authorize, set_state, state_of


class Around:
    """A rack without an adb server: remembers what it was asked to forget."""

    speed = 1.0

    def __init__(self) -> None:
        self.detached: list[str] = []

    async def detach(self, phone: Phone) -> None:
        self.detached.append(phone.serial)


class Stage:
    """One phone of one character, living."""

    def __init__(self, text: str) -> None:
        self.entry: Phones = parse_profile(f"phones: [{{{text}, numbers: [1]}}]").phones[0]
        self.clock = ManualClock()
        self.phone = make_phone(clock=self.clock, pace=SpreadPace(MEASURED))
        self.around = Around()
        self._life: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        prepare(self.phone, self.entry)
        if begins_attached(self.entry):
            await self.phone.adbd.start()
        self._life = asyncio.create_task(live(self.phone, self.entry, self.around))
        await settle()

    async def say(self, script: str, within: float = 20.0) -> Said:
        task = asyncio.create_task(say(self.phone, script))
        await self.clock.advance(within)
        return await task

    async def end(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])
        await self.phone.close()


@pytest.fixture
async def stage() -> AsyncIterator[Callable[[str], Stage]]:
    stages: list[Stage] = []

    def make(text: str) -> Stage:
        stages.append(Stage(text))
        return stages[-1]

    yield make
    for one in stages:
        await one.end()


Make = Callable[[str], Stage]


async def test_a_slow_phone_takes_its_factor_longer(stage: Make) -> None:
    slow = stage("character: slow, factor: 100")
    await slow.begin()
    task = asyncio.create_task(say(slow.phone, "getprop ro.serialno"))
    await slow.clock.advance(1.9)
    assert not task.done()
    await slow.clock.advance(5.7)
    assert (await task).status == 0


async def test_an_unauthorized_phone_waits_and_is_allowed_in_its_time(stage: Make) -> None:
    one = stage("character: unauthorized, allowed_after: 10")
    await one.begin()
    assert state_of(one.phone) is PhoneState.UNAUTHORIZED
    async with host_of(one.phone.adbd) as host:
        greeting = asyncio.create_task(host.greet(key()))
        await until(lambda: one.phone.adbd.waiting)
        await one.clock.advance(9)
        assert not greeting.done()
        await one.clock.advance(2)
        await greeting
    assert state_of(one.phone) is PhoneState.DEVICE


async def test_someone_can_allow_an_unauthorized_phone_but_no_other(stage: Make) -> None:
    one = stage("character: unauthorized")
    await one.begin()
    assert authorize(one.phone)
    assert not authorize(one.phone)


async def test_an_offline_phone_recovers_under_a_fresh_attachment(stage: Make) -> None:
    one = stage("character: offline, recovers_after: 5")
    await one.begin()
    assert state_of(one.phone) is PhoneState.OFFLINE
    await one.clock.advance(6)
    assert state_of(one.phone) is PhoneState.DEVICE
    assert one.around.detached == [one.phone.serial]


async def test_a_missing_phone_listens_nowhere_until_it_arrives(stage: Make) -> None:
    one = stage("character: missing, arrives_after: 5")
    await one.begin()
    assert (state_of(one.phone), CastPhone(one.phone).status) == (PhoneState.MISSING, "offline")
    await one.clock.advance(6)
    await until(lambda: state_of(one.phone) is PhoneState.DEVICE)
    assert CastPhone(one.phone).status == "online"


async def test_a_phone_that_has_not_booted_answers_adb_only(stage: Make) -> None:
    one = stage("character: not_booted, boots_after: 60")
    await one.begin()
    assert state_of(one.phone) is PhoneState.BOOTING
    assert (await one.say("getprop sys.boot_completed; settings get global x")).status == 20
    await one.clock.advance(60)
    assert (await one.say("getprop sys.boot_completed")).out == "1\n"


async def test_a_phone_hangs_in_the_middle_of_the_command_it_was_told_to(stage: Make) -> None:
    one = stage("character: hanging, at: {programs: ['settings put *'], nth: 2}, lasts: 30")
    await one.begin()
    assert (await one.say("settings put global a 1; settings get global a", 5)).out == "1\n"
    task = asyncio.create_task(say(one.phone, "settings put global a 2"))
    await one.clock.advance(10)
    assert (state_of(one.phone), one.phone.settings.get("global", "a")) == (PhoneState.HUNG, "1")
    await one.clock.advance(25)
    assert (await task).status == 0
    assert one.phone.settings.get("global", "a") == "2"
    assert (await one.say("settings put global a 3; settings put global a 4")).status == 0


async def test_a_hang_without_an_end_lasts_until_someone_ends_it(stage: Make) -> None:
    one = stage("character: hanging, at: {programs: [screencap]}")
    await one.begin()
    task = asyncio.create_task(CastPhone(one.phone).png())
    await one.clock.advance(10_000)
    assert not task.done()
    await set_state(one.phone, PhoneState.DEVICE, one.around)
    assert (await task).startswith(b"\x89PNG")


async def test_a_flapping_phone_comes_and_goes_at_its_own_port(stage: Make) -> None:
    one = stage("character: flapping, up: 10, down: 2")
    await one.begin()
    port = one.phone.adbd.port
    await one.clock.advance(0.5)
    for _ in range(3):
        await one.clock.advance(10)
        assert not one.phone.adbd.listening
        await one.clock.advance(2)
        await until(lambda: one.phone.adbd.listening)
        assert one.phone.adbd.port == port


async def test_a_crashing_phone_reboots_and_the_command_never_ends_by_itself(stage: Make) -> None:
    one = stage("character: crashing, at: {programs: [screencap]}")
    await one.begin()
    task = asyncio.create_task(say(one.phone, "screencap /sdcard/x.png"))
    await one.clock.advance(2)
    assert not one.phone.adbd.listening
    await one.clock.advance(70)
    await until(lambda: one.phone.booted)
    assert not task.done()
    task.cancel()
    assert (await one.say("ls /sdcard/x.png")).status == 1


async def test_a_crash_of_the_app_leaves_its_dialog_and_the_command_goes_on(stage: Make) -> None:
    one = stage("character: crashing, what: app, at: {programs: ['input tap *']}")
    await one.begin()
    await one.say("am start -n com.example.app/.SignInActivity")
    assert (await one.say("input tap 1 1")).status == 0
    assert "com.example.app/" not in one.phone.display.screen.current_focus()
    assert "Example" in one.phone.display.screen.dump()


async def test_a_boot_ends_every_dialog_that_was_open(stage: Make) -> None:
    one = stage("character: not_booted, boots_after: 10, dialogs: [update, anr, low_battery]")
    await one.begin()
    assert "launcher" not in one.phone.display.screen.current_focus().lower()
    await one.clock.advance(11)
    assert one.phone.booted
    assert "launcher" in one.phone.display.screen.current_focus().lower()


async def test_a_crash_of_adbd_drops_the_transport_only(stage: Make) -> None:
    one = stage("character: crashing, what: adbd, at: {programs: [getprop]}")
    await one.begin()
    async with host_of(one.phone.adbd) as host:
        await host.greet(key())
        await host.open("shell,v2,raw:getprop")
        await one.clock.advance(1)
        assert await host.receive() is None
    assert one.phone.adbd.listening
    assert one.phone.booted


async def test_a_full_disk_takes_what_it_was_left_with(stage: Make) -> None:
    one = stage("character: full_disk, free_bytes: 4")
    await one.begin()
    said = await one.say("printf 1234 > /sdcard/a; printf 5 > /sdcard/b; echo $?")
    assert said.out == "1\n"
    assert "No space left" in said.err


async def test_a_moving_phone_gets_a_new_serial_and_stays_itself(stage: Make) -> None:
    one = stage("character: moving, after: 10, away: 1")
    await one.begin()
    before = one.phone.serial
    assert CastPhone(one.phone).mode == 0
    await one.clock.advance(10.5)
    assert one.around.detached == [before]
    await one.clock.advance(1)
    await until(lambda: one.phone.adbd.listening)
    assert one.phone.serial != before
    cast = CastPhone(one.phone)
    assert (cast.only_serial, cast.mode, cast.serial) == (one.phone.device_id, 1, one.phone.serial)


async def test_a_phone_without_adb_is_there_for_the_vendor_tool_only(stage: Make) -> None:
    one = stage("character: no_adb")
    await one.begin()
    cast = CastPhone(one.phone)
    assert (one.phone.link, one.phone.adbd.listening, cast.serial) == (Link.ACCESSIBILITY, False, None)
    assert (cast.mode, cast.status) == (3, "online")
    assert (await cast.png()).startswith(b"\x89PNG")


async def test_circumstances_are_as_the_profile_says(stage: Make) -> None:
    one = stage(
        "character: healthy, battery: 9, temperature: 47.5, powered: false, clock_offset: 3600, "
        "serial_number: OTHER, dialogs: [update], asleep: true"
    )
    await one.begin()
    said = await one.say("dumpsys battery; getprop ro.serialno; dumpsys power | grep mWakefulness=; date +%s")
    assert {"  level: 9", "  temperature: 475", "  USB powered: false", "OTHER", "  mWakefulness=Asleep"} <= set(
        said.lines
    )
    assert int(said.lines[-1]) - one.clock.now_ms() // 1000 in (3600, 3599, 3580)


@pytest.mark.parametrize("state", [state for state in PhoneState if state is not PhoneState.DEVICE])
async def test_every_state_can_be_entered_and_left(state: PhoneState) -> None:
    phone, around = make_phone(), Around()
    await phone.adbd.start()
    try:
        await set_state(phone, state, around)
        assert state_of(phone) is state
        await set_state(phone, PhoneState.DEVICE, around)
        assert state_of(phone) is PhoneState.DEVICE
        assert (await say(phone, "getprop sys.boot_completed")).out == "1\n"
    finally:
        await phone.close()
