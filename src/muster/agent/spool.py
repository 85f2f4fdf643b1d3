"""Pictures on their way to the store: on this node's disk with their hash before any upload begins (spec/07)."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from muster.agent.journal import JournalError, Leftover, SpoolLedger
from muster.agent.link import BackendLink, LinkBroken, LinkError, LinkRefused, is_final_refusal
from muster.agent.narrate import Narrator
from muster.agent.picture_files import ON_DISK, PictureFiles
from muster.agent.ports import SpooledArtifact, SpoolError, StoredArtifact, Task, UploadError
from muster.agent.waiting import set_within
from muster.contracts.api import UploadRequest
from muster.domain.limits import OUTBOX_RETRY_LADDER_SEC, SPOOL_BYTES_MAX
from muster.runtime.backoff import ladder_delay_sec
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.runtime.logs import get_logger

log = get_logger()
T = TypeVar("T")
LEFTOVERS_AT_ONCE: Final = 50
# A store that fails at so many pictures is away.
TRIES_A_SWEEP: Final = 3
PROBE_BYTES: Final = 64 * 1024
JOURNAL_AGAIN_SEC: Final = OUTBOX_RETRY_LADDER_SEC[:2]


class DiskSpool:
    """`ports.Spool` in a folder. A picture leaves it only when the store has confirmed it."""

    def __init__(
        self,
        folder: Path,
        ledger: SpoolLedger,
        link: BackendLink,
        *,
        clock: Clock,
        new_id: NewId,
        bytes_max: int = SPOOL_BYTES_MAX,
        files: PictureFiles = ON_DISK,
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._link = link
        self._clock = clock
        self._new_id = new_id
        self._bytes_max = bytes_max
        self._files = files
        # Without suffix: on its way to the disk a picture has another one.
        self._being_added: set[str] = set()
        # Why the last picture was not kept; None when it was.
        self.fault: str | None = None
        self._refused_size = 0

    async def add(self, task: Task, step_id: str, png: bytes) -> SpooledArtifact:
        """See `Spool`."""
        try:
            artifact = await self._keep(task, step_id, png)
        except SpoolError as error:
            self.fault, self._refused_size = str(error), len(png)
            raise
        self.fault = None
        return artifact

    async def _keep(self, task: Task, step_id: str, png: bytes) -> SpooledArtifact:
        taken_at_ms = self._clock.now_ms()
        path = self._folder / f"{self._new_id()}.png"
        self._being_added.add(path.stem)
        try:
            if await self._patiently(self._ledger.spool_bytes) + len(png) > self._bytes_max:
                raise SpoolError(f"the spool holds {self._bytes_max} bytes of pictures that wait for the store")
            sha256 = await self._files.write(path, png)
            artifact = SpooledArtifact(
                task_id=task.task_id,
                run_id=task.run.run_id,
                device_id=task.device_id,
                attempt=task.attempt,
                step_id=step_id,
                taken_at_ms=taken_at_ms,
                path=path,
                sha256=sha256,
                size=len(png),
            )
            await self._patiently(lambda: self._ledger.spool_add(artifact))
        except (OSError, JournalError) as error:
            self._discard(path)
            raise SpoolError(f"the picture cannot be kept on this node's disk: {error}") from error
        finally:
            self._being_added.discard(path.stem)
        return artifact

    async def try_again(self) -> None:
        """Whether what was refused would be taken now. Raises JournalError, OSError."""
        if await self._ledger.spool_bytes() + self._refused_size > self._bytes_max:
            return
        path = self._folder / f"{self._new_id()}.png"
        self._being_added.add(path.stem)
        try:
            await self._files.write(path, bytes(PROBE_BYTES))
        finally:
            self._discard(path)
            self._being_added.discard(path.stem)
        self.fault = None

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A disk that fails for a moment costs no task its picture; raises JournalError when it fails for longer."""
        for pause_sec in JOURNAL_AGAIN_SEC:
            try:
                return await ask()
            except JournalError as error:
                log.warning("A picture waits for the journal", error=str(error))
            await self._clock.sleep(pause_sec)
        return await ask()

    async def upload(self, artifact: SpooledArtifact) -> StoredArtifact:
        """See `Spool`."""
        try:
            return await self.store(artifact)
        except (LinkError, JournalError, OSError) as error:
            raise UploadError(f"the picture is not stored yet: {error}") from error

    async def store(self, artifact: SpooledArtifact) -> StoredArtifact:
        """`upload` with its causes told apart: LinkError, JournalError; OSError when the file cannot be read."""
        request = UploadRequest(
            task_id=artifact.task_id,
            step_id=artifact.step_id,
            taken_at=artifact.taken_at_ms,
            sha256=artifact.sha256,
            size=artifact.size,
        )
        ticket = await self._link.request_upload(request)
        await self._link.put_object(ticket, artifact.path)
        await self._ledger.spool_stored(artifact.path.name, ticket.key)
        self.discard(artifact)
        return StoredArtifact(artifact.step_id, ticket.key, artifact.sha256, artifact.size)

    def discard(self, artifact: SpooledArtifact) -> None:
        """The store has it."""
        self._discard(artifact.path)

    def _discard(self, path: Path) -> None:
        """A file that cannot be removed now goes with a later `tidy`."""
        try:
            self._files.remove(path)
        except OSError as error:
            log.warning("The file of a picture stays for now", file=path.name, error=str(error))

    async def tidy(self) -> None:
        """Removes what a crash or a task's time-out left half done: files that the journal does not know."""
        # In this order: what is there and not being added was recorded before the journal is asked, or never will be.
        there = [name for name in self._files.names(self._folder) if Path(name).stem not in self._being_added]
        known = await self._ledger.spool_names()
        for name in there:
            if name not in known:
                self._discard(self._folder / name)


class SpoolSweeper:
    """Takes to the store what ended tasks left behind, and tells of it (`artifact_stored`)."""

    def __init__(
        self,
        spool: DiskSpool,
        ledger: SpoolLedger,
        *,
        narrator: Narrator,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._narrator = narrator
        self._clock = clock
        self._rng = rng
        self._wake = asyncio.Event()
        self._wake.set()
        # Names of those that the store failed at.
        self._put_off: set[str] = set()

    def wake(self) -> None:
        """A task has ended: look whether it left something."""
        self._wake.set()

    async def run(self) -> None:
        """Sweeps until it is cancelled."""
        failures = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            if await self._sweep():
                failures = 0
                continue
            failures += 1
            await set_within(self._wake, ladder_delay_sec(failures, OUTBOX_RETRY_LADDER_SEC, self._rng), self._clock)
            self._wake.set()

    async def _sweep(self) -> bool:
        """Takes what is left, one by one. False: the store or the disk does not take it now, or some of it."""
        failed: set[str] = set()
        try:
            while waiting := await self._next(failed):
                for leftover in waiting:
                    try:
                        await self._take(leftover)
                    except LinkBroken:
                        failed.add(leftover.artifact.path.name)
                        if len(failed) == TRIES_A_SWEEP:
                            raise
            await self._spool.tidy()
        except (LinkError, JournalError, OSError) as error:
            log.warning("Pictures wait in the spool", error=str(error))
        else:
            if not failed:
                self._put_off.clear()
                return True
            log.warning("Some pictures wait in the spool", pictures=len(failed))
        self._put_off |= failed
        return False

    async def _next(self, failed: set[str]) -> Sequence[Leftover]:
        """Oldest first, but first those that have not failed before: one picture's fault is not the others'."""
        limit = LEFTOVERS_AT_ONCE + len(failed | self._put_off)
        leftovers = [
            left for left in await self._ledger.spool_leftovers(limit) if left.artifact.path.name not in failed
        ]
        return sorted(leftovers, key=lambda left: left.artifact.path.name in self._put_off)

    async def _take(self, leftover: Leftover) -> None:
        picture = leftover.artifact
        try:
            if leftover.storage_path is None:
                stored = await self._spool.store(picture)
            else:
                # A kill may have come between the store's answer and the end of the file.
                self._spool.discard(picture)
                stored = StoredArtifact(picture.step_id, leftover.storage_path, picture.sha256, picture.size)
        except OSError as error:
            await self._give_up(picture, f"its file cannot be read: {error}")
            return
        except LinkRefused as refusal:
            if not is_final_refusal(refusal.status):
                raise
            await self._give_up(picture, str(refusal))
            return
        if await self._ledger.tell_stored(picture.path.name, self._narrator.artifact_stored(picture, stored)):
            log.info(
                "Artifact stored late", run_id=picture.run_id, device_id=picture.device_id, path=stored.storage_path
            )

    async def _give_up(self, picture: SpooledArtifact, why: str) -> None:
        log.error(
            "A picture will never be stored; it stays in the spool",
            run_id=picture.run_id,
            device_id=picture.device_id,
            file=picture.path.name,
            error=why,
        )
        await self._ledger.spool_refused(picture.path.name, why)
