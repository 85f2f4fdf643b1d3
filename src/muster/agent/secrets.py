"""The node's own secrets: `{{secret.NAME}}` in a recipe, never in a run (spec/02, spec/07).

    node:
      WIFI_PASSWORD: "correct horse"
    devices:
      ABC123:
        PIN: "2580"

A device's own value wins over the node's. No message of this module holds a value, nor a piece of the file.
"""

import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from muster.domain import ids, limits
from muster.recipe.load import DocumentError, load_document

FILE_NAME: Final = "secrets.yaml"
SECRET_CHARS_MIN: Final = 4
"""A shorter one could not be masked: `***` in the place of every `on` would make each log unreadable."""
_NAME: Final = re.compile(ids.PARAM_KEY_PATTERN)
_DEVICE_ID: Final = re.compile(ids.DEVICE_ID_PATTERN)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PLACE: Final = re.compile(r"^line [0-9]+, column [0-9]+")


class SecretsError(Exception):
    """The file cannot be used; the message says why and what to do, without any of its content."""


@dataclass(frozen=True, slots=True)
class NodeSecrets:
    """Values by name: the node's for every phone, a device's for that one alone."""

    node: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, device_id: str) -> Mapping[str, str]:
        """What `{{secret.NAME}}` stands for on this phone."""
        return {**self.node, **self.devices.get(device_id, {})}

    def values(self) -> frozenset[str]:
        """Every value, whosever it is: one phone may show another's."""
        return frozenset(value for names in (self.node, *self.devices.values()) for value in names.values())

    def __repr__(self) -> str:
        return f"NodeSecrets({len(self.node)} of the node, {len(self.devices)} devices)"


NO_SECRETS: Final = NodeSecrets()


def load_secrets(path: Path, *, must_exist: bool = True) -> NodeSecrets:
    """The secrets in `path`; none when it may be missing and is. Raises SecretsError."""
    text = _read_private(path, must_exist=must_exist)
    if text is None:
        return NO_SECRETS
    try:
        document = load_document(text, yaml=True)
    except DocumentError as error:
        place = _PLACE.match(str(error))
        where = place[0] if place else "it"
        raise SecretsError(f"{path}: {where} is no YAML of names and texts; values stand best in quotes") from None
    problems = list(_problems(document))
    if problems:
        raise SecretsError(f"{path}: {'; '.join(problems[:20])}")
    known: Any = document or {}
    devices = known.get("devices") or {}
    return NodeSecrets(known.get("node") or {}, {device_id: names or {} for device_id, names in devices.items()})


def _read_private(path: Path, *, must_exist: bool) -> str | None:
    try:
        with path.open("rb") as file:
            _refuse_open_to_others(path, os.fstat(file.fileno()))
            content = file.read(limits.RECIPE_BYTES_MAX + 1)
    except FileNotFoundError:
        if must_exist:
            raise SecretsError(f"there is no secrets file {path}; see docs/operations.md") from None
        return None
    except OSError as error:
        raise SecretsError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > limits.RECIPE_BYTES_MAX:
        raise SecretsError(f"{path} is larger than {limits.RECIPE_BYTES_MAX} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SecretsError(f"{path} is not UTF-8 text") from None


def _refuse_open_to_others(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SecretsError(f"{path} is not a file")
    # Windows has no such modes; there the folder's access list decides (docs/operations.md).
    if sys.platform != "win32" and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise SecretsError(f"others can read {path} (its mode is {mode:04o}); run `chmod 600 {path}` and start again")


def _problems(document: object) -> Iterator[str]:
    if document is None:
        return
    if not isinstance(document, dict) or set(document) - {"node", "devices"}:
        yield "it has two keys, `node` and `devices`, and names below them"
        return
    yield from _name_problems("node", document.get("node"))
    devices = document.get("devices")
    if devices is not None and not isinstance(devices, dict):
        yield "devices: must hold a device_id, and names below it"
        return
    for device_id, names in (devices or {}).items():
        if _DEVICE_ID.match(device_id):
            yield from _name_problems(f"devices.{device_id}", names)
        else:
            yield "devices: one of the keys is no device_id"


def _name_problems(place: str, names: object) -> Iterator[str]:
    if names is None:
        return
    if not isinstance(names, dict):
        yield f"{place}: must hold names and their values"
        return
    for name, value in names.items():
        if not _NAME.match(name):
            yield f"{place}: a name has letters, digits and `_`, at most 64, the first no digit"
        elif not isinstance(value, str):
            yield f"{place}.{name}: must be text; put it in quotes"
        elif len(value) < SECRET_CHARS_MIN or not value.strip():
            yield f"{place}.{name}: is shorter than {SECRET_CHARS_MIN} characters, too short to be masked in logs"
        elif len(value) > limits.PARAM_CHARS_MAX:
            yield f"{place}.{name}: is longer than {limits.PARAM_CHARS_MAX} characters"
        elif _CONTROL.search(value):
            yield f"{place}.{name}: holds a line end or another control character"
