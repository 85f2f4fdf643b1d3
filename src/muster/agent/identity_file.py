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


class IdentityFile:
    """Reads once, writes when something new was recorded. A file that cannot be read or written is said, not fatal."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._saved_revision = 0

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
        """Replaces the file as a whole, if there is anything new; half a file is never seen."""
        if self._path is None or identities.revision == self._saved_revision:
            return
        self._saved_revision = identities.revision
        text = json.dumps(to_document(identities), ensure_ascii=False, indent=1)
        try:
            await asyncio.to_thread(replace_file, self._path, text)
        except OSError as error:
            log.error("The file of known phones cannot be written", error=str(error))
