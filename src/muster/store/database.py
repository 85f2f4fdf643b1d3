"""The database: one writer and many readers on SQLite, a pool on PostgreSQL; a unit of work either way."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, text
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

READERS_MAX: Final = 4
POOL_WAIT_SEC: Final = 10
# Another process may hold the file for a moment (`muster db upgrade`, a backup).
BUSY_TIMEOUT_MS: Final = 10_000


class StoreUnavailableError(Exception):
    """The database could not be reached or could not write (gone, full, too busy). Nothing was changed."""


def sqlite_url(path: Path) -> str:
    """The address of a SQLite file."""
    return f"sqlite+aiosqlite:///{path.as_posix()}"


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """Connections that are in use, and units of work that wait for their turn to write."""

    readers_in_use: int
    writers_in_use: int
    waiting_to_write: int


class Database:
    """Use as `async with Database(url) as db`. A unit of work is `async with db.writing() as tx` or `db.reading()`.

    SQLite allows one writer at a time, so writers queue here, in order, and never meet "database is locked".
    """

    def __init__(self, url: str) -> None:
        self._is_sqlite = make_url(url).get_backend_name() == "sqlite"
        self._write_turn = asyncio.Lock()
        self._waiting_to_write = 0
        self._writer = self._engine(url, begin="BEGIN IMMEDIATE", connections=1, read_only=False)
        self._reader = (
            self._engine(url, begin="BEGIN", connections=READERS_MAX, read_only=True)
            if self._is_sqlite
            else self._writer
        )

    def _engine(self, url: str, *, begin: str, connections: int, read_only: bool) -> AsyncEngine:
        engine = create_async_engine(
            url,
            json_serializer=_json,
            pool_timeout=POOL_WAIT_SEC,
            **({"pool_size": connections, "max_overflow": 0} if self._is_sqlite else {"pool_pre_ping": True}),
        )
        if self._is_sqlite:
            _prepare_sqlite(engine, begin, read_only=read_only)
        return engine

    async def __aenter__(self) -> "Database":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._reader.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: everything inside happens, or nothing. Raises StoreUnavailableError."""
        if not self._is_sqlite:
            async with _translated(), self._writer.begin() as connection:
                yield connection
            return
        async with self._turn_to_write(), _translated(), self._writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _turn_to_write(self) -> AsyncIterator[None]:
        self._waiting_to_write += 1
        try:
            await self._write_turn.acquire()
        finally:
            self._waiting_to_write -= 1
        try:
            yield
        finally:
            self._write_turn.release()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One snapshot; writes nothing. Raises StoreUnavailableError."""
        async with _translated(), self._reader.connect() as connection:
            yield connection

    def pool_figures(self) -> PoolFigures:
        """As they are now. PostgreSQL has one pool for both; it counts as the writers'."""
        readers = _in_use(self._reader) if self._is_sqlite else 0
        return PoolFigures(readers, _in_use(self._writer), self._waiting_to_write)

    async def check(self) -> None:
        """Really asks the database. Raises StoreUnavailableError."""
        async with self.reading() as tx:
            await tx.execute(text("SELECT 1 FROM runs LIMIT 1"))


def _in_use(engine: AsyncEngine) -> int:
    pool = engine.pool
    return pool.checkedout() if isinstance(pool, QueuePool) else 0


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (IntegrityError, ProgrammingError):
        raise  # a bug of ours, not a broken pipe
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        raise StoreUnavailableError(str(error.orig if isinstance(error, DBAPIError) else error)) from error


def _prepare_sqlite(engine: AsyncEngine, begin: str, *, read_only: bool) -> None:
    pragmas = [
        f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}",
        "PRAGMA journal_mode = WAL",
        # An answer 200 to a callback means that the event outlives a power cut (research/reliability.md, finding 7).
        "PRAGMA synchronous = FULL",
        "PRAGMA foreign_keys = ON",
        f"PRAGMA query_only = {'ON' if read_only else 'OFF'}",
    ]

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own, late BEGIN is turned off: we say when
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
