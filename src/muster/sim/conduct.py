"""What a character does with its phone: how it begins, what happens to it by itself, what a command sets off."""

import asyncio
import fnmatch
from dataclasses import dataclass, field, replace
from typing import Protocol

from muster.sim import characters
from muster.sim.adbd.auth import KeyRing
from muster.sim.characters import Accident, Delay, Phones, Trigger
from muster.sim.latency import SpreadPace
from muster.sim.phone import Link, Phone
from muster.sim.states import Attachment, PhoneState, authorize, set_state


class Surroundings(Attachment, Protocol):
    """The rack around a phone."""

    @property
    def speed(self) -> float:
        """How many times faster than life everything happens."""
        ...


def prepare(phone: Phone, entry: Phones) -> None:
    """Brings a phone that has not been started yet into the state in which its character begins."""
    _set_circumstances(phone, entry)
    match entry:
        case characters.Slow():
            if isinstance(phone.pace, SpreadPace):
                phone.pace = replace(phone.pace, factor=phone.pace.factor * entry.factor)
        case characters.Unauthorized():
            phone.adbd.keys = KeyRing(asks=True)
        case characters.Offline():
            phone.adbd.is_silent = True
        case characters.NotBooted():
            phone.go_down()
        case characters.FullDisk():
            phone.files.leave_free(entry.free_bytes)
        case characters.NoAdb():
            phone.link = Link.ACCESSIBILITY
        case characters.Hanging():
            set_accident(phone, Accident(what="hang", at=entry.at, lasts=entry.lasts))
        case characters.Crashing():
            set_accident(phone, Accident(what=entry.what, at=entry.at))


def set_accident(phone: Phone, accident: Accident) -> None:
    """From now on this is what befalls the phone in the middle of a command; it takes the place of any other."""
    countdown = Countdown(accident.at)
    if accident.what == "hang":
        phone.hazard = Hang(phone, countdown, accident.lasts)
    else:
        phone.hazard = Crash(phone, countdown, accident.what)


def begins_attached(entry: Phones) -> bool:
    """Whether the phone's adbd listens from the start."""
    return not isinstance(entry, characters.Missing | characters.NoAdb)


def _set_circumstances(phone: Phone, entry: Phones) -> None:
    phone.set_battery(level=entry.battery, temperature=entry.temperature, powered=entry.powered)
    if entry.clock_offset is not None:
        phone.clock_offset_sec = entry.clock_offset
    if entry.serial_number is not None:
        phone.properties.put("ro.serialno", entry.serial_number)
    screen = phone.display.screen
    if entry.sign_in is not None:
        screen.set_sign_in(entry.sign_in.policy)
    for dialog in entry.dialogs:
        screen.show_dialog(dialog)
    if entry.asleep:
        screen.sleep()


async def live(phone: Phone, entry: Phones, rack: Surroundings) -> None:
    """What happens to the phone by itself while the rack runs. Ends when there is nothing more to come."""
    match entry:
        case characters.Unauthorized(allowed_after=Delay() as after):
            await _pass(phone, after, rack)
            authorize(phone)
        case characters.Offline(recovers_after=Delay() as after):
            await _pass(phone, after, rack)
            await set_state(phone, PhoneState.DEVICE, rack)
        case characters.Missing(arrives_after=Delay() as after):
            await _pass(phone, after, rack)
            await set_state(phone, PhoneState.DEVICE, rack)
        case characters.NotBooted(boots_after=Delay() as after):
            await _pass(phone, after, rack)
            phone.finish_boot()
        case characters.Flapping():
            await _flap(phone, entry, rack)
        case characters.Moving():
            await _pass(phone, entry.after, rack)
            await move(phone, entry.away, rack)


async def _pass(phone: Phone, time: Delay, rack: Surroundings) -> None:
    await phone.clock.sleep(time.spread.draw_sec(phone.rng) / rack.speed)


async def _flap(phone: Phone, entry: characters.Flapping, rack: Surroundings) -> None:
    while True:
        await _pass(phone, entry.up, rack)
        phone.adbd.stop()
        await _pass(phone, entry.down, rack)
        await phone.adbd.start()


async def move(phone: Phone, away: Delay, rack: Surroundings) -> None:
    """The cable comes off, and after `away` the phone is there by Wi-Fi: under a new serial."""
    phone.adbd.stop()
    await rack.detach(phone)
    phone.adbd.move()
    phone.link = Link.WIFI
    await _pass(phone, away, rack)
    await phone.adbd.start()


@dataclass(slots=True)
class Countdown:
    """Counts the programs that a trigger fits."""

    trigger: Trigger
    seen: int = 0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.trigger.times

    def strikes(self, line: str) -> bool:
        """Whether it happens at this program, given as its whole line."""
        name = line.split(" ", 1)[0]
        patterns = self.trigger.programs
        if not self.left or not any(fnmatch.fnmatchcase(name, p) or fnmatch.fnmatchcase(line, p) for p in patterns):
            return False
        self.seen += 1
        if self.seen < self.trigger.nth:
            return False
        self.seen, self.left = 0, self.left - 1
        return True


@dataclass(slots=True)
class Hang:
    """The phone freezes before the program has had any effect; the program goes on when the phone does."""

    phone: Phone
    countdown: Countdown
    lasts: Delay | None

    async def meet(self, line: str) -> None:
        """A program starts."""
        if not self.countdown.strikes(line):
            return
        self.phone.hang()
        if self.lasts is not None:
            self.phone.start_background(self._thaw_later(self.lasts))

    async def _thaw_later(self, lasts: Delay) -> None:
        await self.phone.clock.sleep(lasts.spread.draw_sec(self.phone.rng) / self.phone.speed)
        self.phone.thaw()


@dataclass(slots=True)
class Crash:
    """Something dies before the program has had any effect."""

    phone: Phone
    countdown: Countdown
    what: str

    async def meet(self, line: str) -> None:
        """A program starts. With the phone or adbd gone, whoever started it is never answered."""
        if not self.countdown.strikes(line):
            return
        if self.what == "app":
            front = self.phone.display.screen.current_focus().split("/")[0]
            await self.phone.display.act(lambda screen: screen.crash(front))
            return
        if self.what == "adbd":
            self.phone.kick_soon()
        else:
            self.phone.start_background(self.phone.reboot())
        await asyncio.Event().wait()
