"""Pictures on their way into the object store: a ticket for one key, size and hash; then the bytes (spec/03).

With a folder the bytes come to the backend itself, under a signed token. The token is the whole permission: no node
holds a key to the store, and the node's secret is never sent to a store that is somewhere else.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from muster.backend.refusal import ProblemSlug, Refusal
from muster.contracts.api import UploadRequest, UploadTicket
from muster.domain.artifact_key import artifact_key
from muster.domain.limits import UPLOAD_URL_TTL_SEC
from muster.runtime.clock import Clock
from muster.runtime.ids import NewId
from muster.store import artifacts, runs
from muster.store.database import Database
from muster.store.dialects import AnyRow
from muster.store.objects import Objects

UPLOAD_PATH: Final = "/api/nodes/uploads/"
# Shots of one phone within one second; far more than a phone can take.
_ORDINAL_MAX: Final = 1_000


class _MismatchError(Exception):
    """The bytes are not the ones that were announced."""


class Uploads:
    """Allows uploads, takes the bytes in, gives them out."""

    def __init__(self, database: Database, objects: Objects, clock: Clock, new_id: NewId, key: bytes) -> None:
        self._database = database
        self._objects = objects
        self._clock = clock
        self._new_id = new_id
        self._key = key

    async def allow(self, request: UploadRequest) -> UploadTicket | Refusal:
        """A place for the picture; the same one again for the same bytes of the same step."""
        async with self._database.writing() as tx:
            owner = await artifacts.task_owner(tx, request.task_id)
            if owner is None:
                return Refusal.of_field(ProblemSlug.INVALID_FIELD, "task_id", "there is no such task")
            row = await artifacts.find_same(tx, request.task_id, request.step_id, request.sha256)
            placed = row if row is not None else await self._announce(tx, request, owner)
        return placed if isinstance(placed, Refusal) else self._ticket(placed)

    async def _announce(self, tx: AsyncConnection, request: UploadRequest, owner: AnyRow) -> AnyRow | Refusal:
        run = await runs.find(tx, owner.run_id)
        assert run is not None, "a task has a run"
        for ordinal in range(1, _ORDINAL_MAX + 1):
            path = artifact_key(
                video_id=run.video_id,
                node_id=owner.node_id,
                device_id=owner.device_id,
                run_id=owner.run_id,
                taken_at_ms=request.taken_at,
                ordinal=ordinal,
            )
            if await artifacts.add(tx, storage_path=path, **self._row(request)):
                return await artifacts.find_same(tx, request.task_id, request.step_id, request.sha256) or _full()
        return _full()

    def _row(self, request: UploadRequest) -> dict[str, Any]:
        return {
            "artifact_id": self._new_id(),
            "task_id": request.task_id,
            "step_id": request.step_id,
            "kind": "screenshot",
            "sha256": request.sha256,
            "size": request.size,
            "taken_at": request.taken_at,
            "created_at": self._clock.now_ms(),
        }

    def _ticket(self, row: AnyRow) -> UploadTicket:
        expires_at = self._clock.now_ms() + UPLOAD_URL_TTL_SEC * 1000
        return UploadTicket(
            artifact_id=row.artifact_id,
            key=row.storage_path,
            # Relative: only the node knows by which address it reaches this backend.
            url=f"{UPLOAD_PATH}{row.artifact_id}.{expires_at}.{self._sign(row.artifact_id, expires_at)}",
            headers={"Content-Type": "image/png"},
            expires_at=expires_at,
        )

    async def receive(self, token: str, chunks: AsyncIterator[bytes]) -> Refusal | None:
        """Stores the announced bytes, or nothing at all. None: they are stored, now or before."""
        artifact_id = self._opened(token)
        if isinstance(artifact_id, Refusal):
            return artifact_id
        async with self._database.reading() as tx:
            row = await artifacts.find(tx, artifact_id)
        if row is None:
            return Refusal(ProblemSlug.BAD_UPLOAD_TOKEN, "nothing was announced under this token")
        if row.stored_at is not None:
            return None
        try:
            await self._objects.put(row.storage_path, _checked(chunks, size=row.size, sha256=row.sha256))
        except _MismatchError as error:
            return Refusal(ProblemSlug.UPLOAD_MISMATCH, str(error))
        async with self._database.writing() as tx:
            await artifacts.mark_stored(tx, artifact_id, self._clock.now_ms())
        return None

    async def find(self, artifact_id: str) -> AnyRow | None:
        """A picture whose bytes are stored."""
        async with self._database.reading() as tx:
            row = await artifacts.find(tx, artifact_id)
        return row if row is not None and row.stored_at is not None else None

    async def open(self, row: AnyRow) -> AsyncIterator[bytes] | None:
        """The bytes of a picture that `find` gave; None when somebody has deleted them."""
        return await self._objects.get(row.storage_path)

    def _sign(self, artifact_id: str, expires_at: int) -> str:
        return hmac.new(self._key, f"{artifact_id}.{expires_at}".encode(), hashlib.sha256).hexdigest()

    def _opened(self, token: str) -> str | Refusal:
        artifact_id, _, rest = token.partition(".")
        expires, _, signature = rest.partition(".")
        if not expires.isascii() or not expires.isdigit() or len(expires) > 15:
            return Refusal(ProblemSlug.BAD_UPLOAD_TOKEN)
        if not hmac.compare_digest(self._sign(artifact_id, int(expires)).encode(), signature.encode()):
            return Refusal(ProblemSlug.BAD_UPLOAD_TOKEN)
        if self._clock.now_ms() > int(expires):
            return Refusal(ProblemSlug.UPLOAD_EXPIRED, "ask for a new ticket")
        return artifact_id


async def _checked(chunks: AsyncIterator[bytes], *, size: int, sha256: str) -> AsyncIterator[bytes]:
    """Passes the bytes through; raises _MismatchError when they are too many, too few, or not those."""
    seen, digest = 0, hashlib.sha256()
    async for chunk in chunks:
        seen += len(chunk)
        if seen > size:
            raise _MismatchError(f"more than the {size} bytes that were announced")
        digest.update(chunk)
        if chunk:
            yield chunk
    if seen != size:
        raise _MismatchError(f"{seen} bytes instead of the {size} that were announced")
    if digest.hexdigest() != sha256:
        raise _MismatchError("the SHA-256 of the bytes is not the one that was announced")


def _full() -> Refusal:
    return Refusal.of_field(
        ProblemSlug.INVALID_FIELD, "taken_at", f"this phone has {_ORDINAL_MAX} pictures of this second already"
    )
