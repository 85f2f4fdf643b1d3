"""A phone's battery, as `dumpsys battery` tells of it."""

from dataclasses import dataclass
from typing import Final

LEVEL_MAX: Final = 100
_STATUS_CHARGING, _STATUS_DISCHARGING, _STATUS_FULL = 2, 3, 5


@dataclass(slots=True)
class Battery:
    """Level in percent, temperature in tenths of a degree, as the phone counts. `frozen`: set by hand until reset."""

    level: int = 87
    temperature_tenths: int = 285
    usb_powered: bool = True
    ac_powered: bool = False
    voltage_mv: int = 4180
    frozen: bool = False

    @property
    def powered(self) -> bool:
        """Whether anything charges it."""
        return self.usb_powered or self.ac_powered

    @property
    def status(self) -> int:
        """BatteryManager's status number."""
        if not self.powered:
            return _STATUS_DISCHARGING
        return _STATUS_FULL if self.level >= LEVEL_MAX else _STATUS_CHARGING

    def report(self) -> str:
        """What `dumpsys battery` prints."""
        notice = "  (UPDATES STOPPED -- use 'reset' to restart)\n" if self.frozen else ""
        return (
            f"Current Battery Service state:\n{notice}"
            f"  AC powered: {str(self.ac_powered).lower()}\n"
            f"  USB powered: {str(self.usb_powered).lower()}\n"
            "  Wireless powered: false\n"
            "  Dock powered: false\n"
            "  Max charging current: 500000\n"
            "  Max charging voltage: 5000000\n"
            "  Charge counter: 2954000\n"
            f"  status: {self.status}\n"
            "  health: 2\n"
            "  present: true\n"
            f"  level: {self.level}\n"
            f"  scale: {LEVEL_MAX}\n"
            f"  voltage: {self.voltage_mv}\n"
            f"  temperature: {self.temperature_tenths}\n"
            "  technology: Li-ion\n"
        )
