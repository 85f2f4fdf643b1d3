"""Who is in quarantine, kept across restarts: the pure decisions of `quarantine.py` and one small JSON file."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from muster.agent.quarantine import Effect, Entered, Event, Quarantine, decide, due, from_document, to_document
from muster.agent.whole_file import replace_file
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()


class QuarantineBook:
    """`path` None: kept in memory alone. A file that cannot be read or written is said, not fatal."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._quarantine = Quarantine()
        self._saved = self._text()
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Takes up what the last process kept."""
        if self._path is None:
            return
        try:
            text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
            self._quarantine = from_document(json.loads(text), self._clock.monotonic())
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.error("The file of quarantined phones cannot be read; none is held back", error=str(error))
        self._saved = self._text()

    def why(self, device_id: str) -> str | None:
        """Why the phone gets no task; None: it does."""
        return self._quarantine.why(device_id)

    def due(self) -> list[str]:
        """Phones to be probed now."""
        return due(self._quarantine, self._clock.monotonic())

    async def record(self, event: Event) -> Sequence[Effect]:
        """What the event changes, told in the log and on disk."""
        effects = decide(self._quarantine, event, self._clock.monotonic())
        for effect in effects:
            words = "Phone put into quarantine" if isinstance(effect, Entered) else "Phone back from quarantine"
            log.warning(words, device_id=effect.device_id, why=effect.why)
        await self.save()
        return effects

    async def save(self) -> None:
        """Writes what is not on disk yet; also what a cancelled `record` had no time for."""
        if self._path is None:
            return
        async with self._writing:
            text = self._text()
            if text == self._saved:
                return
            writing = asyncio.ensure_future(asyncio.to_thread(replace_file, self._path, text))
            try:
                # The thread cannot be stopped: two of them must not write one file.
                await asyncio.wait([writing])
            finally:
                while not writing.done():
                    await asyncio.wait([writing])
            self._take(text, writing.exception())

    def _take(self, text: str, error: BaseException | None) -> None:
        if error is None:
            self._saved = text
        elif isinstance(error, OSError):
            log.error("The file of quarantined phones cannot be written", error=str(error))
        else:
            raise error

    def _text(self) -> str:
        return json.dumps(to_document(self._quarantine), ensure_ascii=False, indent=1)
