"""The vendor tool's messages as values (spec/05, the vendor's manual, help 70): text in, text out, no I/O."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from muster.domain.ids import DEVICE_ID_PATTERN

CODE_DONE: Final = 10_000
DEVICES_MAX: Final = 5_000
_DETAIL_CHARS_MAX: Final = 120
_SHOWN_CHARS_MAX: Final = 256
_ONLY_SERIAL: Final = re.compile(DEVICE_ID_PATTERN)
# Several are joined by commas.
_SERIAL: Final = re.compile(r"[^\x00-\x1f\x7f,]{1,256}")

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class VendorAnswer:
    """The tool's answer to one request. There is no request id: order alone tells whose it is."""

    code: int
    message: str
    data: Json


@dataclass(frozen=True, slots=True)
class Malformed:
    """Bytes that are no answer; `detail` says why."""

    detail: str


class DeviceMode(IntEnum):
    """How the tool reaches a phone. Cloud phones are 10 to 12."""

    USB = 0
    WIFI = 1
    OTG = 2
    ACCESSIBILITY = 3
    CLOUD_A = 10
    CLOUD_B = 11
    CLOUD_C = 12


@dataclass(frozen=True, slots=True)
class VendorDevice:
    """One phone of `list`. `only_serial` is the phone for ever, `serial` where it is attached now (R6)."""

    serial: str
    only_serial: str
    name: str
    model: str
    mode: DeviceMode | None
    is_online: bool
    sort: int | None
    width: int | None
    height: int | None
    source_width: int | None
    source_height: int | None
    intranet_ip: str
    connect_time: str
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class VendorList:
    """What `list` told: phones in its order, and a sentence for each entry that could not be taken."""

    devices: tuple[VendorDevice, ...]
    problems: tuple[str, ...]


def request(action: str, serials: Sequence[str] = (), data: Mapping[str, str] | None = None) -> str:
    """The text of a request. Values of `data` are strings, numbers too. Raises ValueError for a serial with a comma."""
    message: dict[str, object] = {"action": action}
    if serials:
        if any("," in serial or not serial for serial in serials):
            raise ValueError(f"serials are joined by commas and cannot hold one: {serials!r}")
        message["devices"] = ",".join(serials)
    if data is not None:
        message["data"] = dict(data)
    return json.dumps(message, ensure_ascii=False)


def parse_answer(text: bytes) -> VendorAnswer | Malformed:
    """Whatever came, as an answer or as the reason why it is none; never raises."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Malformed(f"not JSON ({type(error).__name__}): {_short(text)}")
    if not isinstance(answer, dict):
        return Malformed(f"not a JSON object: {_short(text)}")
    code, message = _whole_number(answer.get("code")), answer.get("message")
    if code is None:
        return Malformed(f"no whole number as code: {_short(text)}")
    return VendorAnswer(code, _shown(message) if isinstance(message, str) else "", answer.get("data"))


def parse_list(data: Json) -> VendorList | Malformed:
    """The `data` of a `list` answer. An entry with no `onlySerial` is reported, not guessed (spec/05)."""
    if not isinstance(data, list):
        return Malformed(f"list: data is not an array but {_short(data)}")
    if len(data) > DEVICES_MAX:
        return Malformed(f"list: {len(data)} entries, more than {DEVICES_MAX}")
    entries = [_parse_device(position, entry) for position, entry in enumerate(data)]
    return VendorList(
        devices=tuple(entry for entry in entries if isinstance(entry, VendorDevice)),
        problems=tuple(entry for entry in entries if isinstance(entry, str)),
    )


def _parse_device(position: int, entry: Json) -> VendorDevice | str:
    """A device, or a sentence on what is wrong with the entry."""
    if not isinstance(entry, dict):
        return f"list entry {position} is not an object: {_short(entry)}"
    serial, only_serial = _text(entry.get("serial")), _text(entry.get("onlySerial"))
    if not only_serial:
        return f"list entry {position} (serial {_short(serial)}) has no onlySerial"
    if not _ONLY_SERIAL.fullmatch(only_serial) or not _is_text(only_serial):
        return (
            f"list entry {position} (serial {_short(serial)}) has an onlySerial that is no name: {_short(only_serial)}"
        )
    if not _SERIAL.fullmatch(serial) or not _is_text(serial):
        return f"list entry {position} (onlySerial {_short(only_serial)}) has no serial that can be addressed"
    mode = _whole_number(entry.get("mode"))
    return VendorDevice(
        serial=serial,
        only_serial=only_serial,
        name=_shown(entry.get("name")),
        model=_shown(entry.get("model")),
        mode=DeviceMode(mode) if mode in tuple(DeviceMode) else None,
        is_online=_text(entry.get("status")).lower() == "online",
        sort=_whole_number(entry.get("sort")),
        width=_whole_number(entry.get("width")),
        height=_whole_number(entry.get("height")),
        source_width=_whole_number(entry.get("sourceWidth")),
        source_height=_whole_number(entry.get("sourceHeight")),
        intranet_ip=_shown(entry.get("intranetIp")),
        connect_time=_shown(entry.get("connectTime")),
        is_hidden=entry.get("hide") in (True, 1, "1", "true"),
    )


def _text(value: Json) -> str:
    """Stored as given (R6.2): not trimmed, not lowered; a number becomes its digits, anything else nothing."""
    if isinstance(value, bool):
        return ""
    return str(value) if isinstance(value, str | int) else ""


def _shown(value: Json) -> str:
    """What only people read: cut, and text whatever came."""
    return _text(value)[:_SHOWN_CHARS_MAX].encode(errors="replace").decode()


def _is_text(text: str) -> bool:
    """JSON can write half a surrogate pair, which no message and no file can carry on."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _whole_number(value: Json) -> int | None:
    """The tool writes numbers as numbers or as text, by version and field."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return int(value)
    return None


def _short(value: object) -> str:
    if isinstance(value, bytes):
        value = value[: 4 * _DETAIL_CHARS_MAX].decode(errors="replace")
    text = value if isinstance(value, str) else repr(value)
    return ascii(text[:_DETAIL_CHARS_MAX]) if not _is_text(text) else repr(text[:_DETAIL_CHARS_MAX])
