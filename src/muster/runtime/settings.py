"""Settings: command line over environment over `muster.toml` over defaults, each with its origin (spec/09).

The names are the environment's; `muster.toml` takes the same names in lower case (`backend_url = "…"`).
Adding a setting: one field of `Settings`, one row of `TABLE`, one row in docs/operations.md.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from muster.domain import ids, limits
from muster.runtime.masking import check_user_info, hide_passwords, without_user_info

FILE_NAME: Final = "muster.toml"
FILE_BYTES_MAX: Final = 64 * 1024
SECRET_CHARS_MIN: Final = 8
_NO_SERVICE: Final = "none"
_MASK: Final = "********"

Raw = str | int | Path


class SettingsError(Exception):
    """A setting that cannot be used; the text names it, where it came from, and what it should look like."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


@dataclass(frozen=True, slots=True)
class HostPort:
    """A TCP address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is in force. None: not set, and there is no default. `origins` tells where each value came from."""

    data: Path
    host: str
    port: int
    node_id: str | None
    backend_url: str | None
    secret: str | None
    concurrency: int
    vendor_url: str | None
    adb_server: HostPort
    online_window_sec: int
    node_lost_after_sec: int
    task_timeout_ms: int
    upload_timeout_ms: int
    device_grace_wait_ms: int
    secrets_file: Path | None
    allow_raw_shell: bool
    allow_reboot: bool
    emulator_avd: str | None
    emulator_program: str
    emulator_gate_wait_ms: int
    agent_http_port: int | None
    url: str
    token: str | None
    origins: Mapping[str, str] = field(compare=False)

    def shown(self) -> list["Shown"]:
        """Every setting in the table's order, secrets masked."""
        return [
            Shown(row.name, _masked(row, getattr(self, row.field)), self.origins[row.field], row.help) for row in TABLE
        ]


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of `muster settings`."""

    name: str
    value: str | None
    origin: str
    help: str


@dataclass(frozen=True, slots=True)
class Row:
    """One setting: its variable, its field, how its text is read (ValueError says what is wrong)."""

    name: str
    field: str
    read: Callable[[str], object]
    default: str | None
    help: str
    is_secret: bool = False


# ---- reading texts: each raises ValueError with what the text should look like ----


def _folder(text: str) -> Path:
    if not text:
        raise ValueError("is empty; give a folder")
    return Path(text).expanduser()


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{1,253}", text):
        raise ValueError(f"{text!r} is not a host name or address, such as 127.0.0.1")
    return text


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _node_id(text: str) -> str:
    if not ids.is_node_id(text):
        raise ValueError(f"{text!r} cannot name a node; use up to 64 letters, digits, '.', '_', '-', e.g. PC-01")
    return text


def _url(*schemes: str, example: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        try:
            parts = urlsplit(text)
            known = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
            known = known and not parts.fragment and not re.search(r"\s", text)
        except ValueError:
            known = False
        if not known:
            raise ValueError(f"{without_user_info(text)!r} is not an address such as {example}")
        check_user_info(text)
        return text.rstrip("/")

    return read


def _vendor_url(text: str) -> str | None:
    if text.lower() == _NO_SERVICE:
        return None
    return _url("ws", "wss", example="ws://127.0.0.1:22222 (or none)")(text)


def _port_or_none(text: str) -> int | None:
    return None if text.lower() == _NO_SERVICE else _whole_number(0, 65_535)(text)


def host_port(text: str) -> HostPort:
    """`127.0.0.1:5037`, `[::1]:5037` or `pc-7.local:5037`. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})", text)
    if match is None or not 0 <= int(match[3]) <= 65_535:
        raise ValueError(f"{text!r} is not HOST:PORT such as 127.0.0.1:5037")
    return HostPort(match[1] or match[2], int(match[3]))


def _file(text: str) -> Path:
    return Path(text).expanduser()


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _avd(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text) or text.startswith("-"):
        raise ValueError(f"{text!r} is not the name of a virtual device; `emulator -list-avds` lists them")
    return text


def _program(text: str) -> str:
    if text.startswith("-") or "\0" in text:
        raise ValueError(f"{text!r} is not a program")
    return text


def shared_secret(text: str) -> str:
    """A secret that fits into a header. Raises ValueError, without the value."""
    if len(text) < SECRET_CHARS_MIN or not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError(f"must be at least {SECRET_CHARS_MIN} printable ASCII characters without spaces")
    return text


TABLE: Final = (
    Row("MUSTER_DATA", "data", _folder, ".muster", "folder for everything that is kept"),
    Row("MUSTER_HOST", "host", _host, "127.0.0.1", "address that the backend listens on"),
    Row("MUSTER_PORT", "port", _whole_number(0, 65_535), "8700", "port of the backend; 0 takes a free one"),
    Row("NODE_ID", "node_id", _node_id, None, "name of this PC, e.g. PC-01"),
    Row("BACKEND_URL", "backend_url", _url("http", "https", example="http://127.0.0.1:8700"), None, "for the agent"),
    Row("NODE_AGENT_SHARED_SECRET", "secret", shared_secret, None, "what nodes and backend share", is_secret=True),
    Row(
        "MAX_CONCURRENCY_PER_NODE",
        "concurrency",
        _whole_number(1, limits.CONCURRENCY_PER_NODE_MAX),
        str(limits.CONCURRENCY_PER_NODE_DEFAULT),
        "phones that work at once on a node",
    ),
    Row("VENDOR_WS_URL", "vendor_url", _vendor_url, "ws://127.0.0.1:22222", "vendor tool; none turns it off"),
    Row("ADB_SERVER", "adb_server", host_port, "127.0.0.1:5037", "started there if nothing answers"),
    Row(
        "ONLINE_WINDOW_SEC",
        "online_window_sec",
        _whole_number(2 * limits.HEARTBEAT_INTERVAL_SEC + 1, 3_600),
        str(limits.ONLINE_WINDOW_SEC),
        "how old a phone's last sign may be for it to be Online",
    ),
    Row(
        "NODE_LOST_AFTER_SEC",
        "node_lost_after_sec",
        _whole_number(limits.ONLINE_WINDOW_SEC + 1, 7 * 24 * 3600),
        str(limits.NODE_LOST_AFTER_SEC_DEFAULT),
        "how long a node may be silent before its open tasks count as failed",
    ),
    Row(
        "TASK_TIMEOUT_MS",
        "task_timeout_ms",
        _whole_number(limits.TASK_TIMEOUT_MS_MIN, limits.TASK_TIMEOUT_MS_MAX),
        str(limits.TASK_TIMEOUT_MS_DEFAULT),
        "time limit of a task whose recipe and run name none",
    ),
    Row(
        "UPLOAD_TIMEOUT_MS",
        "upload_timeout_ms",
        _whole_number(1_000, limits.UPLOAD_TIMEOUT_MS_MAX),
        str(limits.UPLOAD_TIMEOUT_MS_DEFAULT),
        "time limit of one upload",
    ),
    Row(
        "DEVICE_GRACE_WAIT_MS",
        "device_grace_wait_ms",
        _whole_number(0, limits.DEVICE_GRACE_WAIT_MS_MAX),
        str(limits.DEVICE_GRACE_WAIT_MS),
        "how long a phone that falls silent may take to recover",
    ),
    Row("SECRETS_FILE", "secrets_file", _file, None, "the agent's own secrets; else secrets.yaml in the data folder"),
    Row("ALLOW_RAW_SHELL", "allow_raw_shell", _yes_or_no, "false", "may recipes put raw text into a phone's shell?"),
    Row("ALLOW_REBOOT", "allow_reboot", _yes_or_no, "false", "may the agent reboot a phone that fell silent?"),
    Row("EMULATOR_AVD", "emulator_avd", _avd, None, "virtual device that the agent starts for phones emulator-NNNN"),
    Row("EMULATOR_PROGRAM", "emulator_program", _program, "emulator", "Android's emulator: a path, or a name on PATH"),
    Row(
        "EMULATOR_GATE_WAIT_MS",
        "emulator_gate_wait_ms",
        _whole_number(1_000, limits.EMULATOR_GATE_WAIT_MS),
        str(limits.EMULATOR_GATE_WAIT_MS),
        "how long an emulator may take to start before its task is skipped",
    ),
    Row(
        "AGENT_HTTP_PORT",
        "agent_http_port",
        _port_or_none,
        "0",
        "where the agent tells its metrics and health, on 127.0.0.1; 0 takes a free port, none turns it off",
    ),
    Row(
        "MUSTER_URL",
        "url",
        _url("http", "https", example="http://127.0.0.1:8700"),
        "http://127.0.0.1:8700",
        "backend that the command line talks to",
    ),
    Row("MUSTER_TOKEN", "token", shared_secret, None, "token of the command line", is_secret=True),
)
assert {row.field for row in TABLE} | {"origins"} == {entry.name for entry in fields(Settings)}


def load_settings(
    command_line: Mapping[str, Raw | None], environment: Mapping[str, str], folder: Path = Path()
) -> Settings:
    """Settings from all four sources. `command_line`: by variable name, None = not given. Raises SettingsError.

    The file is `MUSTER_CONFIG` of the environment, else `muster.toml` in `folder` if there is one. An empty variable
    counts as not set.
    """
    path = Path(environment["MUSTER_CONFIG"]) if environment.get("MUSTER_CONFIG") else folder / FILE_NAME
    in_file = _read_file(path, must_exist=bool(environment.get("MUSTER_CONFIG")))
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for row in TABLE:
        text, origin = _first_source(row, command_line, environment, in_file, path)
        origins[row.field] = origin
        try:
            values[row.field] = None if text is None else row.read(text)
        except ValueError as error:
            raise SettingsError(row.name, f"{error} (from the {origin})") from error
    return Settings(**values, origins=origins)  # type: ignore[arg-type]  # each was read as its field says


def require(value: str | None, name: str, option: str) -> str:
    """The value, or a SettingsError that says how to give it."""
    if value is None:
        raise SettingsError(name, f"is not set; give {option}, set {name}, or put {name.lower()} into {FILE_NAME}")
    return value


def _first_source(
    row: Row,
    command_line: Mapping[str, Raw | None],
    environment: Mapping[str, str],
    in_file: Mapping[str, str],
    path: Path,
) -> tuple[str | None, str]:
    given = command_line.get(row.name)
    if given is not None:
        return str(given), "command line"
    if environment.get(row.name):
        return environment[row.name], "environment"
    if row.name in in_file:
        return in_file[row.name], f"file {path}"
    return row.default, "default"


def _read_file(path: Path, *, must_exist: bool) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        if must_exist:
            raise SettingsError("MUSTER_CONFIG", f"there is no file {path}") from None
        return {}
    except OSError as error:
        raise SettingsError(str(path), f"cannot be read: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise SettingsError(str(path), f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        document = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), f"is not TOML: {error}") from error
    return {_known_name(key, path): _plain_text(key, value, path) for key, value in document.items()}


def _known_name(key: str, path: Path) -> str:
    name = key.upper()
    if all(row.name != name for row in TABLE):
        raise SettingsError(str(path), f"there is no setting {key!r}; `muster settings` lists them")
    return name


def _plain_text(key: str, value: object, path: Path) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SettingsError(str(path), f"{key} must be a text or a whole number")
    return str(value)


def _masked(row: Row, value: object) -> str | None:
    if value is None:
        return _NO_SERVICE if row.field in ("vendor_url", "agent_http_port") else None
    if row.is_secret:
        return _MASK
    return hide_passwords(str(value))
