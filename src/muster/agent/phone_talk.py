"""What the node asks a phone about itself, and how the answer is read. Pure."""

import re
from typing import Final

from muster.agent.devices import Told

_SECTIONS: Final = {
    "serialno": "getprop ro.serialno",
    "serialno-at-boot": "getprop ro.boot.serialno",
    "model": "getprop ro.product.model",
    "boot": "cat /proc/sys/kernel/random/boot_id",
    "battery": "dumpsys battery",
}
_MARK: Final = "=muster="
WHO_ARE_YOU: Final = "; ".join(f"echo {_MARK}{name}; {command}" for name, command in _SECTIONS.items())
HOW_IS_YOUR_BATTERY: Final = f"echo {_MARK}battery; {_SECTIONS['battery']}"
_LEVEL = re.compile(r"^\s*level:\s*(\d{1,3})\s*$", re.MULTILINE)
_TEMPERATURE = re.compile(r"^\s*temperature:\s*(-?\d{1,4})\s*$", re.MULTILINE)
_BOOT_ID = re.compile(r"[0-9a-f-]{36}")
_TEXT_CHARS_MAX: Final = 128


def read_told(handle: str, stdout: bytes) -> Told | None:
    """The answer to `WHO_ARE_YOU`; None when it is no answer at all."""
    sections = _split(stdout.decode("utf-8", "replace"))
    if not {"serialno", "model"} <= sections.keys():
        return None
    battery, temperature = read_battery(sections.get("battery", ""))
    boot = _BOOT_ID.search(sections.get("boot", ""))
    return Told(
        serialno=_serialno(handle, _line(sections["serialno"]) or _line(sections.get("serialno-at-boot", ""))),
        model=_line(sections["model"]),
        boot_id=boot[0] if boot else None,
        battery=battery,
        temperature=temperature,
    )


def read_battery(text: str) -> tuple[int | None, float | None]:
    """Per cent and °C of `dumpsys battery`, which tells tenths of a degree."""
    level, temperature = _LEVEL.search(text), _TEMPERATURE.search(text)
    per_cent = int(level[1]) if level else None
    return (
        per_cent if per_cent is not None and per_cent <= 100 else None,
        int(temperature[1]) / 10 if temperature else None,
    )


def _serialno(handle: str, text: str | None) -> str | None:
    # Android's own emulators all say EMULATOR34X1X19X0 or the like; their port tells them apart.
    if text is None or text == "unknown":
        return None
    return handle if handle.startswith("emulator-") and text.startswith("EMULATOR") else text


def _split(text: str) -> dict[str, str]:
    _, *parts = text.replace("\r\n", "\n").split(_MARK)
    return {name.strip(): body for name, _, body in (part.partition("\n") for part in parts)}


def _line(text: str) -> str | None:
    return text.strip().split("\n")[0].strip()[:_TEXT_CHARS_MAX] or None
