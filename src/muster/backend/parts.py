"""The backend put together: everything below HTTP, opened and closed in order."""

import random
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muster.backend.bus import Bus
from muster.backend.create_run import CreateRunUseCase
from muster.backend.device_actions import DeviceActions
from muster.backend.hand_out_commands import HandOutCommands
from muster.backend.housekeeping import keep_house
from muster.backend.ingest_events import IngestEvents
from muster.backend.live import LiveRuns
from muster.backend.lost_work import LostWork
from muster.backend.metrics import BackendMetrics
from muster.backend.presence import Presence
from muster.backend.run_queries import RunQueries
from muster.backend.save_workflow import SaveWorkflow
from muster.backend.stop_run import StopRun
from muster.backend.uploads import Uploads
from muster.backend.watch_nodes import Patience, Silence, WatchNodes
from muster.domain.limits import NODE_LOST_AFTER_SEC_DEFAULT, ONLINE_WINDOW_SEC, TASK_TIMEOUT_MS_DEFAULT
from muster.runtime.clock import Clock, SystemClock
from muster.runtime.ids import id_source
from muster.runtime.logs import get_logger
from muster.runtime.private_folder import make_private, write_private
from muster.runtime.supervision import Background
from muster.store import schema
from muster.store.database import Database, StoreUnavailableError, sqlite_url
from muster.store.objects import Objects, ObjectsUnavailableError

DATABASE_FILE = "muster.db"
OBJECTS_FOLDER = "objects"
UPLOAD_KEY_FILE = "upload.key"
_log = get_logger()


@dataclass(frozen=True)
class BackendSettings:
    """What a backend is told at start. `secret` is the nodes' shared secret (R4.1)."""

    host: str
    port: int
    data_dir: Path
    secret: str = field(repr=False)
    database_url: str | None = None
    objects_url: str | None = None
    online_window_sec: int = ONLINE_WINDOW_SEC
    node_lost_after_sec: int = NODE_LOST_AFTER_SEC_DEFAULT
    task_timeout_ms: int = TASK_TIMEOUT_MS_DEFAULT


@dataclass(frozen=True)
class Parts:
    """What the HTTP layer calls."""

    settings: BackendSettings
    clock: Clock
    database: Database
    objects: Objects
    presence: Presence
    bus: Bus
    live: LiveRuns
    create_run: CreateRunUseCase
    stop_run: StopRun
    device_actions: DeviceActions
    hand_out: HandOutCommands
    ingest: IngestEvents
    uploads: Uploads
    workflows: SaveWorkflow
    queries: RunQueries
    watch: WatchNodes
    metrics: BackendMetrics


@asynccontextmanager
async def open_parts(
    settings: BackendSettings,
    *,
    seeds: Iterable[dict[str, Any]] = (),
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> AsyncIterator[Parts]:
    """Brings the database up to date, loads what is known, keeps presence flushed; on leaving, saves it."""
    clock = clock or SystemClock()
    make_private(settings.data_dir)
    objects = (
        Objects.at(settings.objects_url)
        if settings.objects_url
        else Objects.in_folder(settings.data_dir / OBJECTS_FOLDER)
    )
    async with Database(settings.database_url or sqlite_url(settings.data_dir / DATABASE_FILE)) as database:
        await schema.upgrade(database)
        parts = _assemble(settings, clock, rng, database, objects)
        await parts.presence.load(database)
        await _tidy(objects)
        await parts.workflows.save_seeds(seeds)
        async with Background() as background:
            chores = [
                background.start("presence flush", parts.presence.keep_flushing(database)),
                background.start("node watch", parts.watch.keep_watching()),
                background.start("housekeeping", keep_house(database, clock)),
                background.start("event loop lag", parts.metrics.measure_lag()),
            ]
            try:
                yield parts
            finally:
                for chore in chores:
                    chore.cancel()
                parts.bus.close()
                await parts.live.close()
        await _save(parts.presence, database)


async def _tidy(objects: Objects) -> None:
    """What the process before was writing when it was killed."""
    try:
        if discarded := await objects.discard_unfinished():
            _log.info("Pictures that were cut off by a kill are removed; their nodes send them again", files=discarded)
    except ObjectsUnavailableError as error:
        _log.warning("What a kill left in the object store could not be removed", reason=str(error))


async def _save(presence: Presence, database: Database) -> None:
    """What is lost here the next heartbeats bring back: no reason to end badly."""
    try:
        await presence.flush(database)
    except StoreUnavailableError as error:
        _log.warning("Presence could not be saved", reason=str(error))


def _assemble(
    settings: BackendSettings, clock: Clock, rng: random.Random | None, database: Database, objects: Objects
) -> Parts:
    new_id = id_source(clock, rng)
    presence = Presence(clock, settings.online_window_sec)
    bus = Bus()
    patience = Patience(settings.online_window_sec * 1000, settings.node_lost_after_sec * 1000)
    silence = Silence(presence, clock, patience)
    queries = RunQueries(database, presence, clock, silence.is_unreachable)
    live = LiveRuns(queries.snapshot, queries.delta, clock)
    lost_work = LostWork(database, live, clock)
    return Parts(
        settings=settings,
        clock=clock,
        database=database,
        objects=objects,
        presence=presence,
        bus=bus,
        live=live,
        create_run=CreateRunUseCase(database, presence, bus, clock, new_id, settings.task_timeout_ms),
        stop_run=StopRun(database, bus, live, clock, new_id),
        device_actions=DeviceActions(database, presence, bus, clock, new_id),
        hand_out=HandOutCommands(database, bus, presence, lost_work.begin_afresh, clock),
        ingest=IngestEvents(database, presence, live, clock),
        uploads=Uploads(database, objects, clock, new_id, _upload_key(settings.data_dir)),
        workflows=SaveWorkflow(database, clock),
        queries=queries,
        watch=WatchNodes(database, presence, silence, lost_work, live, clock),
        metrics=BackendMetrics(database, presence, live, clock),
    )


def _upload_key(data_dir: Path) -> bytes:
    """The key that signs upload tokens: this data folder's own, so that tokens outlive a restart."""
    path = data_dir / UPLOAD_KEY_FILE
    write_private(path, secrets.token_hex(32))
    return bytes.fromhex(path.read_text(encoding="utf-8"))
