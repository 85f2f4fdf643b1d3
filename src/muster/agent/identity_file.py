"""The ids that this node has given, kept across restarts: one small JSON file in its data folder."""

import asyncio
import json
from pathlib import Path
from typing import Final

from muster.agent.identities import Identities, from_document, to_document
from muster.agent.whole_file import replace_file
from muster.runtime.logs import get_logger

log = get_logger()
PHONES_FILE: Final = "phones.json"
NOT_SAVED: Final = -1


class IdentityFile:
    """Reads once, writes when something new was recorded. A file that cannot be read or written is said, not fatal."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._saved_revision = 0
        self._told: str | None = None

    def load(self) -> Identities:
        """What was kept; nothing when there is no file."""
        if self._path is None or not self._path.exists():
            return Identities()
        try:
            return from_document(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            log.error("The file of known phones cannot be read; ids are recorded anew", error=str(error))
            return Identities()

    async def save(self, identities: Identities) -> None:
        """Replaces the file as a whole, if there is anything new or not written yet; half a file is never seen."""
        if self._path is None or identities.revision == self._saved_revision:
            return
        # Before it is written: the thread cannot be stopped, and two of them must not write one file.
        self._saved_revision = identities.revision
        text = json.dumps(to_document(identities), ensure_ascii=False, indent=1)
        try:
            await asyncio.to_thread(replace_file, self._path, text)
        except OSError as error:
            self._saved_revision = NOT_SAVED
            # It is tried twice a second.
            if self._told != str(error):
                self._told = str(error)
                log.error("The file of known phones cannot be written", error=self._told)
        else:
            self._told = None
