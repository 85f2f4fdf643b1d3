"""What the tool itself remembers about phones: names, order, groups, scripts and recorded actions. Bounded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from muster.sim.vendor.messages import BAD_PARAMETER, PARAMETER_REQUIRED, TOO_BUSY, Refusal

TAGS_MAX: Final = 200
TASKS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 200


@dataclass(slots=True)
class PhoneEntry:
    """What somebody set for one phone in the tool's window."""

    name: str | None = None
    sort: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A script or a recorded action that was started on a phone. The imitation keeps it, and runs nothing."""

    only_serial: str
    name: str
    count: int
    task_interval: Any
    device_interval: Any

    def told(self, serial: str) -> dict[str, Any]:
        """As the tool lists it."""
        return {
            "name": self.name,
            "serial": serial,
            "count": self.count,
            "taskInterval": self.task_interval,
            "deviceInterval": self.device_interval,
        }


@dataclass(slots=True)
class Book:
    """The tool's memory, by onlySerial, so that a phone that moves to Wi-Fi keeps its place."""

    phones: dict[str, PhoneEntry] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    scripts: list[Task] = field(default_factory=list)
    actions: list[Task] = field(default_factory=list)

    def entry(self, only_serial: str) -> PhoneEntry:
        """What is known of one phone."""
        return self.phones.setdefault(only_serial, PhoneEntry())

    def add_tag(self, name: str) -> None:
        """A new, empty group."""
        if name in self.tags or len(name) > NAME_CHARS_MAX:
            raise Refusal(BAD_PARAMETER)
        if len(self.tags) >= TAGS_MAX:
            raise Refusal(TOO_BUSY)
        self.tags[name] = []

    def rename_tag(self, old: str, new: str) -> None:
        """A group under another name."""
        members = self.tag(old)
        self.add_tag(new)
        self.tags[new] = members
        del self.tags[old]

    def tag(self, name: str) -> list[str]:
        """The onlySerials of a group."""
        if name not in self.tags:
            raise Refusal(BAD_PARAMETER)
        return self.tags[name]

    def add_tasks(self, kept: list[Task], new: list[Task]) -> None:
        """Keeps tasks; refuses them all when there is no room."""
        if len(kept) + len(new) > TASKS_MAX:
            raise Refusal(TOO_BUSY)
        kept.extend(new)


def task_of(only_serial: str, entry: Any, name_key: str) -> Task:
    """One element of the array that `autojsCreate` and `actionCreate` take. Raises Refusal."""
    if not isinstance(entry, Mapping):
        raise Refusal(BAD_PARAMETER)
    name, count = entry.get(name_key), entry.get("count", 1)
    if not isinstance(name, str) or not name:
        raise Refusal(PARAMETER_REQUIRED)
    digits = str(count)
    if len(name) > NAME_CHARS_MAX * 5 or not digits.isdigit() or len(digits) > 9:
        raise Refusal(BAD_PARAMETER)
    return Task(only_serial, name, int(digits), entry.get("taskInterval", [0, 0]), entry.get("deviceInterval", 0))
