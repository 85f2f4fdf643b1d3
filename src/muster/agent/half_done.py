"""What a killed agent was writing when it died. Its successor removes it, under the lock of the data folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from muster.adb.sync import PART_PATTERN
from muster.agent.file_library import PULLED
from muster.agent.whole_file import NEW_PATTERN
from muster.runtime.logs import get_logger

log = get_logger()
SHOTS = "shots"


def remove_half_done(folder: Path, files: Path) -> None:
    """`folder`: the agent's own; `files`: the node's library. The spool tidies itself, by the journal. Blocking."""
    found = list(_half_done(folder, files))
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("A half-written file stays for now", file=path.name, error=str(error))
    if found:
        log.info("Removed what the last agent left half done", files=len(found))


def _half_done(folder: Path, files: Path) -> Iterator[Path]:
    yield from folder.glob(NEW_PATTERN)
    # Each holds one shot of the vendor tool's, and whatever it still writes there.
    yield from (folder / SHOTS).glob("*")
    yield from (files / PULLED).rglob(PART_PATTERN)
