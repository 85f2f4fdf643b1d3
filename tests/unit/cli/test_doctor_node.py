"""`muster doctor` on a node: each check finds what is wrong and says what to do, and is quiet when nothing is."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_parts import accept, opened_journal, run_start
from tests.support.commands import Command

from muster.agent.journal import Refusal
from muster.agent.locks import FileLock
from muster.agent.observe.http import LoopbackServer, Page
from muster.cli.check_node import check_agent, check_disk, check_outbox, check_permissions, look_at_disk, look_at_outbox
from muster.cli.finding import Finding
from muster.domain.limits import OUTBOX_OLD_SEC
from muster.runtime.clock import SystemClock
from muster.runtime.connections import Connections
from muster.runtime.settings import Settings, load_settings


def settings(folder: Path, **variables: Any) -> Settings:
    return load_settings({"MUSTER_DATA": folder, **variables}, {}, folder)


def only(findings: Sequence[Finding]) -> Finding:
    (found,) = findings
    assert bool(found.advice) is (found.verdict != "ok"), "advice where, and only where, something is to be done"
    return found


# ---- outbox ----------------------------------------------------------------------------------------------------------


async def test_events_on_their_way_are_well_until_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    now = SystemClock().now_ms() / 1000
    assert only(look_at_outbox(path, now)).verdict == "ok"
    async with opened_journal(tmp_path) as journal:
        assert only(look_at_outbox(path, now)).detail == "everything is told"
        await accept(journal, run_start("A"))
        assert only(look_at_outbox(path, now)).detail.startswith("2 events on their way")
        old = only(look_at_outbox(path, now + OUTBOX_OLD_SEC + 70))
    assert old.verdict == "warning"
    assert "the oldest for 3 min" in old.detail


async def test_events_that_the_backend_refused_for_good_are_counted_and_the_last_is_told(tmp_path: Path) -> None:
    async with opened_journal(tmp_path / "agent") as journal:
        await accept(journal, run_start("A"))
        first, second = await journal.pending(10, 10_000)
        await journal.settle([], [Refusal(first.position, 400, "old"), Refusal(second.position, 422, "no such run")])
        waiting, dead = await check_outbox(settings(tmp_path))
    assert waiting.verdict == "ok"
    assert (dead.check, dead.verdict) == ("dead letters", "warning")
    assert dead.detail == "2 events refused for good, the last with 422: no such run"


def test_a_journal_that_is_none_does_not_stop_the_doctor(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    path.write_bytes(b"rubbish" * 1000)
    assert only(look_at_outbox(path, 0)).verdict == "warning"


# ---- disk and permissions --------------------------------------------------------------------------------------------


async def test_a_disk_is_judged_by_what_is_free(tmp_path: Path) -> None:
    assert look_at_disk(tmp_path, bytes_min=1, bytes_low=2).verdict == "ok"
    assert look_at_disk(tmp_path, bytes_min=1, bytes_low=1 << 62).verdict == "warning"
    full = look_at_disk(tmp_path / "not" / "yet" / "there", bytes_min=1 << 62, bytes_low=1 << 62)
    assert (full.verdict, bool(full.advice)) == ("bad", True)
    assert only(await check_disk(settings(tmp_path))).check == "disk"


def test_folders_that_can_be_used_are_well_and_nothing_stays_in_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert only(asyncio.run(check_permissions(settings(tmp_path)))).verdict == "ok"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody can write in, not even root")
async def test_a_folder_that_cannot_be_written_is_named_with_its_owner() -> None:
    found = (await check_permissions(settings(Path("/proc/1/muster"))))[0]
    assert (found.check, found.verdict) == ("permissions", "bad")
    assert "/proc/1" in found.detail and "belongs to user" in found.detail
    assert "--data" in found.advice


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_a_data_folder_that_others_can_look_into_is_told_with_the_command_that_mends_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    found = only(asyncio.run(check_permissions(settings(tmp_path))))
    assert (found.verdict, found.advice) == ("warning", f"chmod 700 {tmp_path}")
    tmp_path.chmod(0o700)
    assert only(asyncio.run(check_permissions(settings(tmp_path)))).verdict == "ok"


# ---- the agent -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def agent_that_says(folder: Path, *reasons: dict[str, Any]) -> AsyncIterator[str]:
    """Its real server, with this health."""
    document = {"status": "…", "node_id": "PC-01", "version": "0.1.0", "reasons": list(reasons)}

    async def page() -> Page:
        return Page(503 if reasons else 200, json.dumps(document).encode(), "application/json")

    (folder / "agent").mkdir()
    async with LoopbackServer(0, {"/healthz": page}) as server:
        (folder / "agent" / "address").write_text(server.url + "\n")
        yield server.url


async def test_an_agent_that_is_well_is_told_by_its_name(tmp_path: Path) -> None:
    async with agent_that_says(tmp_path):
        found = only(await check_agent(settings(tmp_path)))
    assert (found.verdict, found.detail) == ("ok", "PC-01 runs, version 0.1.0: all is well")


async def test_each_trouble_of_an_agent_comes_with_what_to_do(tmp_path: Path) -> None:
    since = SystemClock().now_ms() - 3 * 60_000
    gone = {"reason": "adb_gone", "message": "no server", "since": since, "stops_work": True}
    silent = {"reason": "backend_unreachable", "message": "no answer", "since": since, "stops_work": False}
    async with agent_that_says(tmp_path, gone, silent):
        first, second = await check_agent(settings(tmp_path))
    assert (first.verdict, first.detail) == ("bad", "adb_gone for 3 min: no server")
    assert (second.verdict, bool(second.advice)) == ("warning", True)


async def test_an_agent_that_was_killed_is_told_from_one_that_never_was(tmp_path: Path) -> None:
    assert "none has worked here yet" in only(await check_agent(settings(tmp_path))).detail
    async with agent_that_says(tmp_path) as url:
        pass
    killed = only(await check_agent(settings(tmp_path)))
    assert killed.verdict == "warning"
    assert url in killed.detail


async def test_an_agent_without_an_address_is_found_by_its_lock(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    assert "none runs" in only(await check_agent(settings(tmp_path))).detail
    lock = FileLock(tmp_path / "agent" / "agent.lock")
    assert lock.acquire("process 4711\n")
    try:
        found = only(await check_agent(settings(tmp_path)))
    finally:
        lock.release()
    assert (found.verdict, "process 4711 runs" in found.detail) == ("ok", True)


async def test_something_else_at_the_agents_address_is_no_agent(tmp_path: Path) -> None:
    async def chatter(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b'"hello"' * 100_000)
            await writer.drain()

    connections = Connections(chatter)
    server = await asyncio.start_server(connections.accept, "127.0.0.1", 0)
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "address").write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        assert only(await check_agent(settings(tmp_path))).verdict == "warning"
    await connections.close()


# ---- all of it -------------------------------------------------------------------------------------------------------


def test_the_worst_is_said_last_and_where_to_begin(muster: Command, tmp_path: Path) -> None:
    ran = muster("doctor", "--data", str(tmp_path / "d"), "--url", "http://127.0.0.1:1", "--adb-server", "127.0.0.1:1")
    assert ran.status == 1
    assert ran.stdout.splitlines()[-1].endswith("Begin with: backend")
    assert "Errno" not in ran.stdout
    assert str(tmp_path / "d") in ran.stdout
