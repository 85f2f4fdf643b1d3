"""Battery and heat (spec/07): a phone that would die or burn on the way is not started, and that is said."""

import asyncio
from dataclasses import dataclass
from typing import Final

from muster.agent.phone_talk import HOW_IS_YOUR_BATTERY, read_battery
from muster.agent.ports import DeviceStatus, PhoneError
from muster.agent.preflight.gate import Refused, Subject
from muster.domain.failure import FailureReason
from muster.domain.limits import BATTERY_CELSIUS_MAX, BATTERY_PERCENT_MIN
from muster.domain.task import TaskState

ASK_TIMEOUT_SEC: Final = 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Per cent and °C; None: not known, and no reason to refuse."""

    level: int | None
    celsius: float | None


class FitToWork:
    """What is known from the watch is up to a minute old: enough to let a phone pass, not to refuse one."""

    def __init__(self, timeout_sec: float = ASK_TIMEOUT_SEC) -> None:
        self._timeout_sec = timeout_sec

    async def check(self, subject: Subject) -> Refused | None:
        """Asks the phone anew before it refuses."""
        status = subject.status
        if status is None or judge(Reading(status.battery, status.temperature)) is None:
            return None
        return judge(await self._fresh(subject, status))

    async def _fresh(self, subject: Subject, status: DeviceStatus) -> Reading:
        known = Reading(status.battery, status.temperature)
        phone = subject.phones.find(subject.device_id)
        if phone is None:
            return known
        try:
            async with asyncio.timeout(self._timeout_sec):
                output = await phone.shell(HOW_IS_YOUR_BATTERY)
        except (PhoneError, TimeoutError):
            return known
        level, celsius = read_battery(output.stdout.decode("utf-8", "replace"))
        return Reading(known.level if level is None else level, known.celsius if celsius is None else celsius)


def judge(reading: Reading) -> Refused | None:
    """Heat first: it harms the phone, an empty battery only the task."""
    if reading.celsius is not None and reading.celsius > BATTERY_CELSIUS_MAX:
        message = f"the battery has {reading.celsius:g} °C, more than {BATTERY_CELSIUS_MAX:g} °C: let it cool down"
        return Refused(TaskState.FAILED, FailureReason.OVERHEATED, message)
    if reading.level is not None and reading.level < BATTERY_PERCENT_MIN:
        message = f"the battery is at {reading.level} %, below {BATTERY_PERCENT_MIN} %: charge it"
        return Refused(TaskState.FAILED, FailureReason.BATTERY_LOW, message)
    return None
