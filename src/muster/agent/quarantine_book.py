"""Who is in quarantine, kept across restarts: the pure decisions of `quarantine.py` and one small JSON file."""

from collections.abc import Sequence
from pathlib import Path

from muster.agent.kept_file import KeptFile
from muster.agent.quarantine import Effect, Entered, Event, Quarantine, decide, due, from_document, to_document
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()


class QuarantineBook:
    """`path` None: kept in memory alone. A file that cannot be read holds no phone back, and is told as a trouble."""

    def __init__(self, path: Path | None, clock: Clock) -> None:
        self._clock = clock
        self._quarantine = Quarantine()
        self._file = KeptFile(path, to_document(self._quarantine), clock)
        self._is_lost = False

    async def load(self) -> None:
        """Takes up what the last process kept."""
        self._quarantine = await self._file.load(self._parse) or self._quarantine
        self._is_lost = await self._file.unreadable_since_ms() is not None

    def _parse(self, document: object) -> Quarantine:
        if not isinstance(document, dict):
            raise ValueError("it is no table of phones")
        return from_document(document, self._clock.monotonic())

    @property
    def trouble(self) -> str | None:
        """What somebody has to see to."""
        if not self._is_lost:
            return None
        return (
            "the file of quarantined phones could not be read: those that fail come back into quarantine by themselves,"
            f" those that a person put there do not; see {self._file.aside} and take it away"
        )

    def why(self, device_id: str) -> str | None:
        """Why the phone gets no task; None: it does."""
        return self._quarantine.why(device_id)

    def due(self) -> list[str]:
        """Phones to be probed now."""
        return due(self._quarantine, self._clock.monotonic())

    async def record(self, event: Event) -> Sequence[Effect]:
        """What the event changes, told in the log and on disk."""
        effects = self.note(event)
        await self.save()
        return effects

    def note(self, event: Event) -> Sequence[Effect]:
        """What the event changes, at once and told in the log; `save` makes it durable."""
        effects = decide(self._quarantine, event, self._clock.monotonic())
        for effect in effects:
            words = "Phone put into quarantine" if isinstance(effect, Entered) else "Phone back from quarantine"
            log.warning(words, device_id=effect.device_id, why=effect.why)
        return effects

    async def save(self) -> bool:
        """Writes what is not on disk yet; also what a cancelled `record` had no time for. False: it is not there."""
        return await self._file.save(to_document(self._quarantine))
