"""What happened in a world, in order: the checkers see each entry as it comes, and the hash of all is its identity."""

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TAIL = 60


class Violation(Exception):
    """A promise is broken; the text says which, with what is needed to see it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """`at`: virtual seconds. `kind` and `fields`: see the callers of `note`."""

    at: float
    kind: str
    fields: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.at:10.3f}  {self.kind:<10} {' '.join(str(field) for field in self.fields)}"


class Trace:
    """Keeps the last entries for a person and a hash of all of them."""

    def __init__(self, now: Callable[[], float], violated: Callable[[Violation], None], *, keep: int = TAIL) -> None:
        self._now = now
        self._violated = violated
        self._peek: Entry | None = None
        self._hash = hashlib.sha256()
        self._watchers: list[Callable[[Entry], None]] = []
        self.tail: deque[Entry] = deque(maxlen=keep)
        self.count = 0

    def watch(self, watcher: Callable[[Entry], None]) -> None:
        """`watcher` sees each entry as it is entered and raises Violation."""
        self._watchers.append(watcher)

    def note(self, kind: str, *fields: Any) -> None:
        entry = Entry(self._now(), kind, fields)
        if self._peek is not None and (kind, fields, entry.at) == ("unlocked", self._peek.fields[:1], self._peek.at):
            self._peek = None
            return
        self.flush()
        if kind == "locked":
            self._peek = entry
        else:
            self._enter(entry)

    def flush(self) -> None:
        """A lock that is given back in the same breath was only looked at: it is entered when something else comes."""
        if self._peek is not None:
            entry, self._peek = self._peek, None
            self._enter(entry)

    def _enter(self, entry: Entry) -> None:
        self.count += 1
        self.tail.append(entry)
        self._hash.update(repr((round(entry.at, 6), entry.kind, entry.fields)).encode())
        try:
            for watcher in self._watchers:
                watcher(entry)
        except Violation as violation:
            # Never thrown into the agent, which might survive it.
            self._violated(violation)

    @property
    def digest(self) -> str:
        """Of everything that happened until now."""
        return self._hash.hexdigest()[:16]
