"""The live stream's decisions, without I/O: when a frame is due, what a frame looks like, what can be resumed."""

import math
from collections import deque
from collections.abc import Iterable


class Pace:
    """When the next delta and the next heartbeat of one run are due. Times are monotonic seconds.

    The first change after a quiet spell goes out at once; while changes keep coming, one delta leaves every
    `coalesce_sec` and holds each changed task once, however often it changed.
    """

    def __init__(self, now: float, *, coalesce_sec: float, heartbeat_sec: float) -> None:
        self._coalesce_sec = coalesce_sec
        self._heartbeat_sec = heartbeat_sec
        self._changed: set[str] = set()
        self._dirty = False
        self._delta_not_before = now
        self._heartbeat_at = now + heartbeat_sec

    def changed(self, task_ids: Iterable[str]) -> bool:
        """Notes changed tasks (none: the run itself). True when this is the first news since the last delta."""
        first = not self._dirty
        self._changed.update(task_ids)
        self._dirty = True
        return first

    def due_in(self, now: float) -> float:
        """Seconds until something is due; 0.0 when it already is."""
        delta_at = self._delta_not_before if self._dirty else math.inf
        return max(0.0, min(delta_at, self._heartbeat_at) - now)

    def take_delta(self, now: float) -> frozenset[str] | None:
        """The tasks of the delta that is due now, or None."""
        if not self._dirty or now < self._delta_not_before:
            return None
        changed, self._changed, self._dirty = frozenset(self._changed), set(), False
        self._delta_not_before = now + self._coalesce_sec
        return changed

    def take_heartbeat(self, now: float) -> bool:
        """Whether a heartbeat is due now; if so the next one is set."""
        if now < self._heartbeat_at:
            return False
        self._heartbeat_at = now + self._heartbeat_sec
        return True


def encode_frame(event: str, data: bytes, event_id: str | None = None) -> bytes:
    """One server-sent event; `data` is JSON on one line."""
    head = f"event: {event}\n" + (f"id: {event_id}\n" if event_id else "")
    return b"".join((head.encode(), b"data: ", data, b"\n\n"))


class FrameRing:
    """The last deltas of one run, for viewers that come back. Ids are `<epoch>.<seq>`; an epoch lives in memory only.

    Without the epoch, a `Last-Event-ID: 512` from before a restart would look newer than anything sent since.
    """

    def __init__(self, epoch: str, *, frames_max: int, bytes_max: int) -> None:
        self._epoch = epoch
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._seq = 0

    @property
    def last_id(self) -> str:
        """The id of the newest delta; what a snapshot taken now is up to date with."""
        return f"{self._epoch}.{self._seq}"

    def append(self, event: str, data: bytes) -> bytes:
        """Gives the frame the next id, keeps it and returns its bytes."""
        self._seq += 1
        frame = encode_frame(event, data, self.last_id)
        self._frames.append(frame)
        self._bytes += len(frame)
        while len(self._frames) > self._frames_max or self._bytes > self._bytes_max:
            self._bytes -= len(self._frames.popleft())
        return frame

    def after(self, last_event_id: str | None) -> list[bytes] | None:
        """The frames that came after `last_event_id`; None when there may be a gap: a snapshot is needed."""
        epoch, _, seq_text = (last_event_id or "").rpartition(".")
        if epoch != self._epoch or not (seq_text.isascii() and seq_text.isdigit()) or len(seq_text) > 18:
            return None
        missed = self._seq - int(seq_text)
        if not 0 <= missed <= len(self._frames):
            return None
        return list(self._frames)[len(self._frames) - missed :]
