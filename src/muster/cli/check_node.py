"""`muster doctor`: what the agent of this PC keeps, and how it is."""

import asyncio
import json
import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2

from muster.agent.journal_tables import dead_letters
from muster.agent.locks import FileLock, state_folder
from muster.agent.observe.service import ADDRESS_FILE
from muster.agent.secrets import FILE_NAME, SecretsError, load_secrets
from muster.cli.finding import Finding, counted
from muster.cli.output import ago
from muster.domain.limits import DISK_BYTES_LOW, DISK_BYTES_MIN, OUTBOX_OLD_SEC, SPOOL_BYTES_MAX
from muster.runtime.settings import Settings

AGENT_ANSWER_SEC: Final = 5.0
AGENT_ANSWER_BYTES_MAX: Final = 64 * 1024
READ_SEC_MAX: Final = 5.0


async def check_agent(settings: Settings) -> Sequence[Finding]:
    """Whether one runs on this data folder, and what it says of itself."""
    address = settings.data / "agent" / ADDRESS_FILE
    try:
        url = (await asyncio.to_thread(address.read_text, encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError):
        return [await asyncio.to_thread(_agent_without_address, settings.data / "agent")]
    try:
        document = await _health(url)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError, KeyError) as error:
        told = f"it was at {url} and does not answer there: {str(error) or type(error).__name__}"
        return [Finding("agent", "warning", told, "it was killed, or hangs: start it again")]
    if not document["reasons"]:
        return [Finding("agent", "ok", f"{document['node_id']} runs, version {document['version']}: all is well")]
    return [_of_reason(reason) for reason in document["reasons"]]


async def _health(url: str) -> dict[str, Any]:
    """What `/healthz` says. Raises ValueError, KeyError for an answer that is not an agent's."""
    content = b""
    async with (
        asyncio.timeout(AGENT_ANSWER_SEC),
        httpx2.AsyncClient(trust_env=False) as http,
        http.stream("GET", f"{url}/healthz") as answer,
    ):
        async for chunk in answer.aiter_raw():
            content += chunk
            if len(content) > AGENT_ANSWER_BYTES_MAX:
                raise ValueError("that is no agent")
    document: dict[str, Any] = json.loads(content)
    _ = document["node_id"], document["version"], document["reasons"]
    return document


def _of_reason(reason: dict[str, Any]) -> Finding:
    since = ago(reason["since"], time.time_ns() // 1_000_000)
    told = f"{reason['reason']} for {since}: {reason['message']}"
    return Finding("agent", "bad" if reason["stops_work"] else "warning", told, _ADVICE.get(reason["reason"], ""))


_ADVICE: Final = {
    "adb_gone": "see 'adb server' here; end programs that bring an adb of their own",
    "disk_full": "make room on the disk, or see to the disk itself; the agent goes on by itself",
    "journal_fails": "make room on the disk, or see to the disk itself; the agent goes on by itself",
    "disk_low": "make room: the agent takes no run when less than 200 MB are free",
    "spool_full": "see to the backend and its store: pictures wait for them",
    "vendor_gone": "start the vendor tool, or turn it off with --vendor-url none",
    "backend_unreachable": "see to the backend and the network between; nothing is lost meanwhile",
    "secret_refused": "set NODE_AGENT_SHARED_SECRET to the backend's, and start the agent again",
    "another_agent": "two PCs have one NODE_ID: give each its own",
    "outbox_old": "see to the backend and the network between; nothing is lost meanwhile",
    "clock_wrong": "switch on time synchronisation on this PC",
    "book_lost": "`muster device release` each phone that nobody has, or take the file away and start the agent again",
}


def _agent_without_address(folder: Path) -> Finding:
    lock = FileLock(folder / "agent.lock")
    if not folder.is_dir():
        return Finding("agent", "warning", "none has worked here yet", "start it with `muster up` or `muster agent`")
    try:
        is_free = lock.acquire("muster doctor\n")
    except OSError as error:
        return Finding("agent", "bad", f"{folder} cannot be locked: {error.strerror}", "see 'permissions' here")
    if is_free:
        lock.release()
        return Finding("agent", "warning", "none runs on this data folder", "start it with `muster up`, `muster agent`")
    return Finding("agent", "ok", f"{lock.owner()} runs; it tells no health (AGENT_HTTP_PORT is none)")


async def check_secrets(settings: Settings) -> Sequence[Finding]:
    """The file of `{{secret.NAME}}` can be used."""
    given = settings.secrets_file
    path = given or settings.data / FILE_NAME
    try:
        known = await asyncio.to_thread(load_secrets, path, must_exist=given is not None)
    except SecretsError as error:
        return [Finding("secrets", "bad", str(error), "the agent does not start like this; mend the file")]
    count = len(known.values())
    return [Finding("secrets", "ok", f"{count} in {path}" if count else "none; a recipe's {{secret.NAME}} would fail")]


async def check_outbox(settings: Settings) -> Sequence[Finding]:
    """What waits to be told, and what was refused for good."""
    return await asyncio.to_thread(look_at_outbox, settings.data / "agent" / "journal.sqlite3", time.time())


def look_at_outbox(path: Path, now_sec: float) -> Sequence[Finding]:
    """Of a journal, at `now_sec` (epoch). What the backend refused for good is kept, and told here alone (spec/03)."""
    if not path.exists():
        return [Finding("outbox", "ok", "no agent has worked here yet")]
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=READ_SEC_MAX)) as journal:
            waiting, oldest_ms = journal.execute("SELECT COUNT(*), MIN(created_at_ms) FROM outbox").fetchone()
            (dead,) = journal.execute("SELECT COUNT(*) FROM dead_letters").fetchone()
            last = dead_letters(journal, 1)
    except sqlite3.Error as error:
        return [Finding("outbox", "warning", f"{path} cannot be read: {error}", "see who else holds it")]
    found = [_of_waiting(waiting, oldest_ms, now_sec)]
    if last:
        told = f"{counted(dead, 'event')} refused for good, the last with {last[0].status}: {last[0].message}"
        advice = "those results are in the node's journal alone: compare the versions of agent and backend; report it"
        found.append(Finding("dead letters", "warning", told, advice))
    return found


def _of_waiting(waiting: int, oldest_ms: int | None, now_sec: float) -> Finding:
    if oldest_ms is None:
        return Finding("outbox", "ok", "everything is told")
    detail = f"{counted(waiting, 'event')} on their way, the oldest for {ago(oldest_ms, round(now_sec * 1000))}"
    if now_sec - oldest_ms / 1000 <= OUTBOX_OLD_SEC:
        return Finding("outbox", "ok", detail)
    return Finding(
        "outbox", "warning", detail, "nothing is lost; is the agent running, and the backend reached? (see both here)"
    )


async def check_permissions(settings: Settings) -> Sequence[Finding]:
    """Folders that must be written, locked, and kept from others."""
    return await asyncio.to_thread(_look_at_folders, settings.data, state_folder())


def _look_at_folders(data: Path, state: Path) -> list[Finding]:
    found = [finding for folder in (data, state) if (finding := _unusable(folder)) is not None]
    if data.is_dir() and sys.platform != "win32" and data.stat().st_mode & 0o077:
        mode = stat.S_IMODE(data.stat().st_mode)
        told = f"others on this PC can look into {data} (mode {mode:04o}); secrets lie there"
        found.append(Finding("permissions", "warning", told, f"chmod 700 {data}"))
    return found or [Finding("permissions", "ok", f"{data} and {state} can be written and locked")]


def _unusable(folder: Path) -> Finding | None:
    place = _existing(folder)
    try:
        with tempfile.TemporaryDirectory(dir=place) as trial:
            lock, other = FileLock(Path(trial) / "one.lock"), FileLock(Path(trial) / "one.lock")
            if lock.acquire("muster doctor\n") and not other.acquire("muster doctor\n"):
                lock.release()
                return None
    except OSError as error:
        owner = "" if sys.platform == "win32" else f" (it belongs to user {place.stat().st_uid}, this is {os.getuid()})"
        advice = "give this user the folder, or give another one with --data"
        return Finding("permissions", "bad", f"cannot write in {place}: {error.strerror}{owner}", advice)
    advice = "give a folder on a local disk with --data: on this one two agents would not notice each other"
    return Finding("permissions", "bad", f"files in {place} cannot be locked", advice)


def _existing(folder: Path) -> Path:
    """The folder, or where it will be made."""
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


async def check_disk(settings: Settings) -> Sequence[Finding]:
    """Room for journal, spool and pictures."""
    return [await asyncio.to_thread(look_at_disk, settings.data)]


def look_at_disk(folder: Path, *, bytes_min: int = DISK_BYTES_MIN, bytes_low: int = DISK_BYTES_LOW) -> Finding:
    """Below `bytes_min` bad, below `bytes_low` a warning."""
    free = shutil.disk_usage(_existing(folder)).free
    detail = f"{free / 1024**3:.1f} GB free for {folder}"
    if free < bytes_min:
        return Finding("disk", "bad", detail, "make room now: the agent takes no run when the disk is full")
    if free < bytes_low:
        spool = SPOOL_BYTES_MAX // 1024**3
        advice = f"make room: while the store is away up to {spool} GB of pictures wait here"
        return Finding("disk", "warning", detail, advice)
    return Finding("disk", "ok", detail)
