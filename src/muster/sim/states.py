"""The states that a person can put a virtual phone into, and what each of them does to it."""

from enum import StrEnum
from typing import Protocol

from muster.sim.adbd.auth import KeyRing
from muster.sim.phone import Link, Phone


class PhoneState(StrEnum):
    """As the adb server and its user see the phone."""

    DEVICE = "device"
    """Attached, booted, answering."""
    UNAUTHORIZED = "unauthorized"
    """Nobody has pressed "Allow" on it."""
    OFFLINE = "offline"
    """Attached, but its adbd does not answer the greeting."""
    MISSING = "missing"
    """The cable is out: adb does not know it."""
    HUNG = "hung"
    """adb shows it as `device`; no command comes back until it thaws, and then all of them run."""
    BOOTING = "booting"
    """adbd is up, the system is not: `sys.boot_completed` is empty, services are missing."""
    NO_ADB = "no_adb"
    """Reached by the vendor's own app only (mode 3)."""


class Attachment(Protocol):
    """Who can make the adb server forget a phone."""

    async def detach(self, phone: Phone) -> None:
        """The server forgets the phone's present serial; it is attached again when it is wanted."""
        ...


def state_of(phone: Phone) -> PhoneState:
    """The state a phone is in."""
    if phone.link is Link.ACCESSIBILITY:
        return PhoneState.NO_ADB
    if not phone.adbd.listening:
        return PhoneState.MISSING
    if phone.adbd.is_silent:
        return PhoneState.OFFLINE
    if phone.adbd.keys is not None and phone.adbd.keys.asks:
        return PhoneState.UNAUTHORIZED
    if phone.hanging:
        return PhoneState.HUNG
    return PhoneState.DEVICE if phone.booted else PhoneState.BOOTING


async def set_state(phone: Phone, state: PhoneState, rack: Attachment) -> None:
    """Brings a phone from whatever state into another, the way such a change looks to adb."""
    before = state_of(phone)
    if state is before:
        return
    _leave(phone, before)
    match state:
        case PhoneState.UNAUTHORIZED:
            phone.adbd.keys = KeyRing(asks=True)
        case PhoneState.OFFLINE:
            phone.adbd.is_silent = True
        case PhoneState.HUNG:
            await phone.adbd.start()
            phone.hang()
            return
        case PhoneState.MISSING:
            phone.adbd.stop()
        case PhoneState.NO_ADB:
            phone.adbd.stop()
            phone.link = Link.ACCESSIBILITY
        case PhoneState.BOOTING:
            phone.go_down()
    if state is PhoneState.DEVICE and before is PhoneState.HUNG:
        return
    phone.adbd.kick()
    # adb keeps a phone that once did not answer as `offline` for ever; only a new connection asks again.
    await rack.detach(phone)
    if state not in (PhoneState.MISSING, PhoneState.NO_ADB):
        await phone.adbd.start()


def _leave(phone: Phone, state: PhoneState) -> None:
    match state:
        case PhoneState.UNAUTHORIZED:
            phone.trust_again()
        case PhoneState.OFFLINE:
            phone.adbd.is_silent = False
        case PhoneState.HUNG:
            phone.thaw()
        case PhoneState.BOOTING:
            phone.finish_boot()
        case PhoneState.NO_ADB:
            phone.link = Link.USB


def authorize(phone: Phone) -> bool:
    """Someone presses "Always allow" on the phone; False: it did not ask."""
    if state_of(phone) is not PhoneState.UNAUTHORIZED:
        return False
    phone.adbd.authorize()
    phone.trust_again()
    return True
