"""The live stream of runs: coalesced, encoded once, fanned out (spec/08, "How it is built").

One asyncio task for each run that somebody watches. It alone loads and sends, so a viewer's snapshot and the deltas
after it are in order. A slow viewer is dropped and resumes by `Last-Event-ID`. Nobody watching = no work.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum

from muster.backend.live_frames import FrameRing, Pace, encode_frame
from muster.contracts.api import RunDelta, RunSnapshot
from muster.domain import limits
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId, id_source
from muster.runtime.logs import get_logger

LoadSnapshot = Callable[[str], Awaitable[RunSnapshot | None]]
LoadDelta = Callable[[str, frozenset[str]], Awaitable[RunDelta | None]]
_RETRY = f"retry: {limits.STREAM_RETRY_MS}\n\n".encode()
log = get_logger()


class StreamRefusal(StrEnum):
    """Why a stream was not opened."""

    UNKNOWN_RUN = "unknown_run"
    TOO_MANY_VIEWERS = "too_many_viewers"
    UNAVAILABLE = "unavailable"


class LiveStream:
    """One viewer's frames, as an async iterator of bytes. Whoever holds it closes it."""

    def __init__(self, on_close: Callable[["LiveStream"], None], *, frames_max: int) -> None:
        self._on_close = on_close
        self._frames_max = frames_max
        self._frames: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self.ended = asyncio.Event()
        self.refusal: StreamRefusal | None = None

    def offer(self, frame: bytes) -> bool:
        """Queues a frame; False when the viewer is too slow: it is dropped with what it has not fetched."""
        if len(self._frames) >= self._frames_max:
            self._frames.clear()
            self.end()
            return False
        self._frames.append(frame)
        self._news.set()
        self._settled.set()
        return True

    def end(self, refusal: StreamRefusal | None = None) -> None:
        """No more frames will come; those queued are still given out. The first reason stays."""
        if not self.ended.is_set():
            self.refusal = refusal
        self.ended.set()
        self._news.set()
        self._settled.set()

    async def settled(self) -> StreamRefusal | None:
        """Waits for the first frame; tells why if there will be none."""
        await self._settled.wait()
        return None if self._frames else self.refusal or StreamRefusal.UNAVAILABLE

    def close(self) -> None:
        """The viewer has gone. May be called twice."""
        self.end()
        self._on_close(self)

    def __aiter__(self) -> "LiveStream":
        return self

    async def __anext__(self) -> bytes:
        while not self._frames:
            if self.ended.is_set():
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._frames.popleft()


class LiveRuns:
    """Who watches which run, and what they are sent.

    A finished run's stream stays open and quiet but for heartbeats: an `EventSource` whose stream ends comes back
    for ever, and a late picture may still arrive. `close` ends all streams; call it *before* the HTTP server waits
    for its connections, or the open streams hold the shutdown up.
    """

    def __init__(
        self,
        load_snapshot: LoadSnapshot,
        load_delta: LoadDelta,
        clock: Clock,
        *,
        coalesce_ms: int = limits.STREAM_COALESCE_MS,
        heartbeat_sec: float = limits.STREAM_HEARTBEAT_SEC,
        viewers_max: int = limits.STREAM_VIEWERS_MAX,
        new_epoch: NewId | None = None,
    ) -> None:
        self.load_snapshot = load_snapshot
        self.load_delta = load_delta
        self.clock = clock
        self.coalesce_sec = coalesce_ms / 1000
        self.heartbeat_sec = heartbeat_sec
        self.new_epoch = new_epoch or id_source(clock)
        self._viewers_max = viewers_max
        self._watches: dict[str, _Watch] = {}
        self._closing = False

    @property
    def viewers(self) -> int:
        """Streams that are open, over all runs."""
        return sum(len(watch.streams) for watch in self._watches.values())

    def changed(self, run_id: str, task_ids: Iterable[str]) -> None:
        """Tells that these tasks of the run (none: the run itself) were written; called after the commit."""
        watch = self._watches.get(run_id)
        if watch is not None:
            watch.changed(task_ids)

    async def subscribe(self, run_id: str, last_event_id: str | None = None) -> LiveStream | StreamRefusal:
        """A stream that begins with what the viewer has missed, or with a snapshot when that is not known."""
        if self._closing:
            return StreamRefusal.UNAVAILABLE
        if self.viewers >= self._viewers_max:
            return StreamRefusal.TOO_MANY_VIEWERS
        watch = self._watches.get(run_id)
        if watch is None:
            watch = self._watches[run_id] = _Watch(self, run_id, on_end=self._forget)
        stream = watch.join(last_event_id)
        try:
            refusal = await stream.settled()
        except asyncio.CancelledError:
            stream.close()
            raise
        if refusal is None:
            return stream
        stream.close()
        return refusal

    async def close(self) -> None:
        """Ends every stream and opens no new one."""
        self._closing = True
        watches = list(self._watches.values())
        for watch in watches:
            watch.stop()
        await asyncio.gather(*(watch.task for watch in watches), return_exceptions=True)

    def _forget(self, watch: "_Watch") -> None:
        if self._watches.get(watch.run_id) is watch:
            del self._watches[watch.run_id]


class _Watch:
    """One run that is being watched: its viewers, its ring and the task that feeds them."""

    def __init__(self, live: LiveRuns, run_id: str, *, on_end: Callable[["_Watch"], None]) -> None:
        self.run_id = run_id
        self.streams: set[LiveStream] = set()
        self._live = live
        self._on_end = on_end
        self._joining: list[LiveStream] = []
        self._news = asyncio.Event()
        self._pace = Pace(live.clock.monotonic(), coalesce_sec=live.coalesce_sec, heartbeat_sec=live.heartbeat_sec)
        self._ring = FrameRing(
            live.new_epoch(), frames_max=limits.STREAM_RING_FRAMES_MAX, bytes_max=limits.STREAM_RING_BYTES_MAX
        )
        self.task = asyncio.create_task(self._run(), name=f"live:{run_id}")

    def changed(self, task_ids: Iterable[str]) -> None:
        """Wakes the task for the first news only: what follows within the window needs no wake-up of its own."""
        if self._pace.changed(task_ids):
            self._news.set()

    def join(self, last_event_id: str | None) -> LiveStream:
        """A viewer, served from the ring where that leaves no gap, else with the next snapshot."""
        stream = LiveStream(self._leave, frames_max=limits.STREAM_VIEWER_FRAMES_MAX)
        self.streams.add(stream)
        missed = self._ring.after(last_event_id)
        if missed is None:
            self._joining.append(stream)
            self._news.set()
        else:
            stream.offer(_RETRY + b"".join(missed))
        return stream

    def stop(self) -> None:
        """Ends all streams and the task."""
        for stream in list(self.streams):
            stream.end(StreamRefusal.UNAVAILABLE)
        self.task.cancel()
        self._on_end(self)

    def _leave(self, stream: LiveStream) -> None:
        self.streams.discard(stream)
        if stream in self._joining:
            self._joining.remove(stream)
        if not self.streams:
            self.stop()

    async def _run(self) -> None:
        try:
            while await self._turn():
                await self._until_due()
        except Exception as error:
            # The viewers' streams end and they come back; the reason must not be lost with the task.
            log.exception("Live stream broken", run_id=self.run_id, error=str(error))
        finally:
            self.stop()

    async def _turn(self) -> bool:
        """Sends what is due. False: the run is gone."""
        if self._joining and not await self._admit():
            return False
        changed = self._pace.take_delta(self._live.clock.monotonic())
        if changed is not None and not await self._send_delta(changed):
            return False
        if self._pace.take_heartbeat(self._live.clock.monotonic()):
            self._send(encode_frame("heartbeat", b'{"now":%d}' % self._live.clock.now_ms()))
        return True

    async def _until_due(self) -> None:
        waits = [
            asyncio.ensure_future(self._live.clock.sleep(self._pace.due_in(self._live.clock.monotonic()))),
            asyncio.ensure_future(self._news.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._news.clear()

    async def _admit(self) -> bool:
        """One snapshot for all who wait for one."""
        snapshot = await self._live.load_snapshot(self.run_id)
        joining, self._joining = self._joining, []
        if snapshot is None:
            for stream in joining:
                stream.end(StreamRefusal.UNKNOWN_RUN)
            return False
        frame = encode_frame("snapshot", _json(snapshot), self._ring.last_id)
        for stream in joining:
            stream.offer(_RETRY + frame)
        return True

    async def _send_delta(self, changed: frozenset[str]) -> bool:
        delta = await self._live.load_delta(self.run_id, changed)
        if delta is not None:
            self._send(self._ring.append("delta", _json(delta)))
        return delta is not None

    def _send(self, frame: bytes) -> None:
        for stream in list(self.streams):
            if stream not in self._joining and not stream.offer(frame):
                self.streams.discard(stream)
                log.info("Slow viewer dropped", run_id=self.run_id)


def _json(body: RunSnapshot | RunDelta) -> bytes:
    return body.model_dump_json(by_alias=True, exclude_none=True).encode()
