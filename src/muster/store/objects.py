"""Pictures' bytes: a folder now; whatever else obstore speaks is one constructor away."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from muster.domain.artifact_key import BUCKET

if TYPE_CHECKING:
    from obstore import GetResult  # exists in its type stubs only


# No key begins so: no part of one has a bare `+` (domain/artifact_key.py).
UNFINISHED: Final = "+unfinished"


class ObjectsUnavailableError(Exception):
    """The object store could not be reached or could not write."""


class Objects:
    """Objects by key under the bucket `artifacts`. Writes are atomic: nobody sees half an object."""

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def in_folder(cls, folder: Path) -> "Objects":
        """Under `folder`/artifacts/, which is made when it is missing."""
        (folder / BUCKET).mkdir(parents=True, exist_ok=True)
        return cls(LocalStore(folder), folder)

    @classmethod
    def at(cls, url: str) -> "Objects":
        """The store at an address: `file:///folder`. Raises ValueError for what is not supported."""
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc:
            raise ValueError(f"objects can be kept in a folder only (file:///…), not at {parts.scheme or url}")
        return cls.in_folder(Path(url2pathname(parts.path)))

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> None:
        """Stores the bytes; an exception raised by `chunks` (no OSError) goes through and leaves nothing."""
        try:
            if self._folder is None:  # a PUT to an object store is atomic by itself
                await obstore.put_async(self._store, f"{BUCKET}/{key}", chunks)
                return
            staged = f"{BUCKET}/{UNFINISHED}/{uuid.uuid4().hex}"
            await obstore.put_async(self._store, staged, chunks)
            await asyncio.to_thread(_finish, self._folder / staged, self._folder / BUCKET / key)
        except (BaseError, OSError) as error:
            raise ObjectsUnavailableError(str(error)) from error

    async def get(self, key: str) -> AsyncIterator[bytes] | None:
        """The bytes in chunks, or None when there is no such object."""
        try:
            answer = await obstore.get_async(self._store, f"{BUCKET}/{key}")
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise ObjectsUnavailableError(str(error)) from error
        return _chunks(answer)

    async def discard_unfinished(self) -> int:
        """Removes what a kill left of the writes of the process before; gives their number. Before the first `put`.

        Looks at one folder, where nothing else is, however many objects there are. Raises ObjectsUnavailableError.
        """
        if self._folder is None:
            return 0
        try:
            return await asyncio.to_thread(_discard, self._folder / BUCKET / UNFINISHED)
        except OSError as error:
            raise ObjectsUnavailableError(str(error)) from error

    async def check(self) -> None:
        """Really asks the store. Raises ObjectsUnavailableError."""
        try:
            if self._folder is not None and not (self._folder / BUCKET).is_dir():
                raise ObjectsUnavailableError(f"the folder {self._folder / BUCKET} is gone")
            async for _ in obstore.list(self._store, f"{BUCKET}/", chunk_size=1):
                break
        except (BaseError, OSError) as error:
            raise ObjectsUnavailableError(str(error)) from error


def _discard(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    found = list(folder.iterdir())
    for path in found:
        path.unlink()
    return len(found)


def _finish(staged: Path, path: Path) -> None:
    """Moves a whole file to its place, once its bytes are on the disk.

    The node deletes its copy on our word, so a power cut after it must not cost the picture.
    """
    try:
        with staged.open("r+b") as file:
            os.fsync(file.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        staged.replace(path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


async def _chunks(answer: "GetResult") -> AsyncIterator[bytes]:
    async for chunk in answer.stream(min_chunk_size=256 * 1024):
        yield bytes(chunk)
