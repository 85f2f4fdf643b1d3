"""Wake-ups inside this process, keyed by node. Nothing durable rides here: a lost one costs a poll, never data."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from muster.runtime.clock import Clock


class Listener:
    """Somebody who waits. A wake-up that comes between two waits is not lost."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Ends the wait under way, or the next one."""
        self._woken.set()

    async def wait(self, seconds: float, clock: Clock) -> None:
        """Until woken, or until the time has passed on `clock`."""
        both = {asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(clock.sleep(max(seconds, 0)))}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        self._woken.clear()


class Bus:
    """Wakes whoever listens to a node. After `close` every wait ends at once."""

    def __init__(self) -> None:
        self._listeners: defaultdict[str, set[Listener]] = defaultdict(set)
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """The process is about to stop: give what you have and go."""
        return self._is_closed

    @contextmanager
    def listen(self, node_id: str) -> Iterator[Listener]:
        """Start to listen *before* you look for work, or you miss what comes between."""
        listener = Listener()
        self._listeners[node_id].add(listener)
        try:
            yield listener
        finally:
            self._listeners[node_id].discard(listener)
            if not self._listeners[node_id]:
                del self._listeners[node_id]

    def listened_to(self) -> set[str]:
        """The nodes that somebody listens to at this moment."""
        return set(self._listeners)

    def wake(self, node_id: str) -> None:
        """There is work for the node."""
        for listener in self._listeners.get(node_id, ()):
            listener.wake()

    def close(self) -> None:
        """Ends all waiting."""
        self._is_closed = True
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.wake()
