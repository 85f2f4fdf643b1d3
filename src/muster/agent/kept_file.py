"""One small JSON file of the agent's own, kept across restarts: replaced as a whole, set aside if it cannot be read."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from muster.agent.whole_file import replace_file
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
ASIDE_SUFFIX: Final = ".unreadable"
_T = TypeVar("_T")


class KeptFile:
    """`path` None: kept in memory alone. What the disk does not give or take is said, not fatal.

    `empty`: the document of which there need be no file.
    """

    def __init__(self, path: Path | None, empty: object, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lost_at_ms: int | None = None
        self._told: str | None = None
        self._saved = _text(empty)
        self._writing = asyncio.Lock()

    @property
    def aside(self) -> str | None:
        """Where what could not be read is kept until somebody takes it away: the file with its folder, to be shown."""
        if self._path is None:
            return None
        return f"{self._path.parent.name}/{self._path.with_suffix(ASIDE_SUFFIX).name}"

    async def load(self, parse: Callable[[Any], _T]) -> _T | None:
        """What was kept; None when there is nothing that can be read. `parse` raises ValueError."""
        if self._path is None:
            return None
        try:
            text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
            found = parse(json.loads(text))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("A file of the agent cannot be read; it is set aside", file=self._path.name, error=str(error))
            self._lost_at_ms = self._clock.now_ms()
            await self._set_aside(self._path)
            return None
        self._saved = text
        return found

    async def unreadable_since_ms(self) -> int | None:
        """When what could not be read had been written, or was found (epoch ms); None: all could be read."""
        if self._path is None:
            return None
        try:
            return round((await asyncio.to_thread(self._path.with_suffix(ASIDE_SUFFIX).stat)).st_mtime * 1000)
        except OSError:
            # Nothing was set aside; or it could not be, which is in the log.
            return self._lost_at_ms

    async def save(self, document: object) -> bool:
        """Writes what is not on disk yet, also what a cancelled call before it had no time for. False: it is not."""
        if self._path is None:
            return True
        async with self._writing:
            text = _text(document)
            if text == self._saved:
                return True
            writing = asyncio.ensure_future(asyncio.to_thread(replace_file, self._path, text))
            try:
                # The thread cannot be stopped: two of them must not write one file.
                await asyncio.wait([writing])
            finally:
                while not writing.done():
                    await asyncio.wait([writing])
            return self._take(self._path, text, writing.exception())

    def _take(self, path: Path, text: str, error: BaseException | None) -> bool:
        if error is None:
            self._saved, self._told = text, None
        elif isinstance(error, OSError):
            # Once for each fault: it is tried again by each of many.
            if self._told != str(error):
                self._told = str(error)
                log.error("A file of the agent cannot be written", file=path.name, error=self._told)
        else:
            raise error
        return error is None

    async def _set_aside(self, path: Path) -> None:
        """The name alone changes, so that it keeps its time."""
        try:
            await asyncio.to_thread(path.replace, path.with_suffix(ASIDE_SUFFIX))
        except OSError as error:
            log.error("The file cannot be set aside", file=path.name, error=str(error))


def _text(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1)
