"""What a phone was asked to do, for whoever checks a rack from outside: never two at once, in what order, how long."""

from collections import deque
from dataclasses import dataclass
from typing import Final

RECORDS_MAX: Final = 500
TEXT_CHARS_MAX: Final = 2_000
"""Longer commands are clipped in the log; they run whole."""


@dataclass(slots=True)
class CommandRecord:
    """One command. Times are monotonic seconds of this machine; `exit_status` None: running, or ended by a hang-up."""

    number: int
    text: str
    started: float
    ended: float | None = None
    exit_status: int | None = None


@dataclass(slots=True)
class Gauge:
    """How many commands run, and the most that ever ran, at the same time."""

    running: int = 0
    most_at_once: int = 0
    started_count: int = 0

    def enter(self) -> None:
        """One more."""
        self.started_count += 1
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)


class CommandLog:
    """The last commands of one phone; its own gauge, and the whole rack's, which it shares."""

    def __init__(self, rack: Gauge | None = None) -> None:
        self.gauge = Gauge()
        self._rack = rack if rack is not None else Gauge()
        self._records: deque[CommandRecord] = deque(maxlen=RECORDS_MAX)

    def begin(self, text: str, now: float) -> CommandRecord:
        """A command starts."""
        self.gauge.enter()
        self._rack.enter()
        record = CommandRecord(self.gauge.started_count, text[:TEXT_CHARS_MAX], now)
        self._records.append(record)
        return record

    def end(self, record: CommandRecord, now: float, exit_status: int | None) -> None:
        """It ended; `exit_status` None: the host hung up."""
        self.gauge.running -= 1
        self._rack.running -= 1
        record.ended, record.exit_status = now, exit_status

    def records(self, after: int = 0) -> list[CommandRecord]:
        """Those with a number above `after`, oldest first."""
        return [record for record in self._records if record.number > after]
