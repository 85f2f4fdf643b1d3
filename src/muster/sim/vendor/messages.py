"""The tool's messages as values: a request read from text, an answer written as text. No I/O."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DONE: Final = 10_000
FAILED: Final = 10_001
MESSAGE_BYTES_MAX: Final = 1024 * 1024

# What the tool says when something is wrong; in Chinese, as it does.
BAD_REQUEST: Final = "请求格式错误"
UNKNOWN_ACTION: Final = "无效的action"
NOT_ACTIVATED: Final = "功能未激活"
BAD_PARAMETER: Final = "参数错误"
PARAMETER_REQUIRED: Final = "缺少参数"
NO_SUCH_DEVICE: Final = "设备不存在"
DEVICE_OFFLINE: Final = "设备不在线"
NO_ADB: Final = "该设备未开启ADB"
NO_SUCH_FILE: Final = "文件不存在"
BAD_SAVE_PATH: Final = "保存路径无效"
WRONG_KEYBOARD: Final = "请先切换到效卫输入法"
COMMAND_FAILED: Final = "执行失败"
TOO_BUSY: Final = "任务过多,请稍后再试"
TIMED_OUT: Final = "执行超时"


class Refusal(Exception):
    """An action that cannot be done; becomes an answer with 10001."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `action` is lower-case; `data` is what came, in whatever shape."""

    action: str
    devices: str
    data: Any

    def text(self, key: str) -> str:
        """A value of `data` that has to be there. Numbers are taken as their digits."""
        value = self.optional_text(key)
        if value is None or not value:
            raise Refusal(PARAMETER_REQUIRED)
        return value

    def optional_text(self, key: str) -> str | None:
        """A value of `data`, None when it is not there."""
        value = self.data.get(key) if isinstance(self.data, Mapping) else None
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refusal(BAD_PARAMETER)
        return str(value)

    def number(self, key: str, low: float, high: float) -> float:
        """A value of `data` as a number within bounds."""
        try:
            value = float(self.text(key))
        except ValueError:
            raise Refusal(BAD_PARAMETER) from None
        if not low <= value <= high:
            raise Refusal(BAD_PARAMETER)
        return value


def parse_request(text: str | bytes) -> Request:
    """Reads a request. Raises Refusal."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise Refusal(BAD_REQUEST) from None
    if not isinstance(message, dict) or not isinstance(message.get("action"), str):
        raise Refusal(BAD_REQUEST)
    devices = message.get("devices") or ""
    if not isinstance(devices, str):
        raise Refusal(BAD_PARAMETER)
    return Request(message["action"].lower(), devices, message.get("data"))


def done(data: Any = None) -> str:
    """An answer with 10000."""
    return _answer(DONE, "SUCCESS", data)


def failed(message: str) -> str:
    """An answer with 10001."""
    return _answer(FAILED, message, None)


def huge(size: int) -> str:
    """A well-formed answer of about `size` bytes."""
    return done("x" * size)


def rubbish(rng: random.Random) -> str | bytes:
    """One of the ways in which an answer can be none."""
    return rng.choice(_RUBBISH)


def _answer(code: int, message: str, data: Any) -> str:
    return json.dumps({"code": code, "message": message, "data": data}, ensure_ascii=False)


_RUBBISH: Final[tuple[str | bytes, ...]] = (
    "",
    "系统繁忙",
    '{"code": 10000, "message": "SUCC',
    "[]",
    '"SUCCESS"',
    '{"message": "SUCCESS", "data": null}',
    '{"code": "成功", "message": "SUCCESS", "data": null}',
    b"\xff\xfe\x00\x81",
    "[" * 10_000,
)
