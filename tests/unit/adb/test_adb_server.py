"""The server's life with the real adb program; no phone is needed."""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from tests.support.adb import Peer, dead_port, scripted_server

from muster.adb.binary import bundled_adb, find_adb
from muster.adb.client import AdbClient
from muster.adb.errors import AdbServerGone
from muster.adb.process import ServerProcess, private_environment
from muster.adb.server import AdbServer, AdbStartFailed, ensure_server
from muster.adb.tracker import track

PHONE_HARDWARE_OFF = {"ADB_USB": "0", "ADB_MDNS": "0", "ADB_EMU": "0"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[AdbServer]:
    private = await ensure_server(port=0, private=True, home=tmp_path / "adb")
    yield private
    await private.stop()


async def answers(port: int) -> bool:
    try:
        return await AdbClient("127.0.0.1", port).version() > 30
    except AdbServerGone:
        return False


def is_folder(path: str) -> bool:
    return Path(path).is_dir()


async def test_a_private_server_is_started_where_none_runs_and_gone_after_stop(server: AdbServer) -> None:
    assert server.owned
    assert await server.client().devices() == ()
    assert server.pid is not None
    process = psutil.Process(server.pid)
    await server.stop()
    assert not process.is_running()
    assert not await answers(server.port)


async def test_stopping_twice_is_harmless(server: AdbServer) -> None:
    await server.stop()
    await server.stop()


async def test_a_server_that_already_answers_is_used_and_left_alone(server: AdbServer) -> None:
    second = await ensure_server(port=server.port, private=True)
    assert not second.owned
    await second.stop()
    assert await answers(server.port)


async def test_of_two_who_start_one_at_the_same_address_the_later_one_uses_the_others(
    server: AdbServer, tmp_path: Path
) -> None:
    port = server.port
    await server.stop()
    both = await asyncio.gather(
        ensure_server(port=port, private=True, home=tmp_path / "a"),
        ensure_server(port=port, private=True, home=tmp_path / "b"),
    )
    try:
        assert [one.port for one in both] == [port, port]
        assert sorted(one.owned for one in both) == [False, True]
        assert await answers(port)
    finally:
        for one in both:
            await one.stop()


async def test_two_private_servers_live_side_by_side(server: AdbServer, tmp_path: Path) -> None:
    other = await ensure_server(port=0, private=True, home=tmp_path / "other")
    try:
        assert other.port != server.port
        assert await answers(server.port)
        assert await answers(other.port)
    finally:
        await other.stop()


async def test_a_private_server_keeps_keys_and_log_in_its_own_home(server: AdbServer, tmp_path: Path) -> None:
    assert (tmp_path / "adb" / ".android" / "adbkey").is_file()


async def test_a_home_that_nobody_gave_is_removed_with_the_server() -> None:
    server = await ensure_server(port=0, private=True)
    assert server.pid is not None
    home = psutil.Process(server.pid).environ()["HOME"]
    assert is_folder(home)
    await server.stop()
    assert not is_folder(home)


async def test_a_server_is_never_started_on_another_machine() -> None:
    with pytest.raises(AdbStartFailed, match="only a local one"):
        await ensure_server("host.invalid", 5037)


async def test_a_port_held_by_something_else_is_told_as_such() -> None:
    async def http(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.hangup()

    async with scripted_server(http) as other:
        with pytest.raises(AdbStartFailed, match="not an adb server"):
            await ensure_server(port=other.port, private=True)


async def test_a_program_that_ends_instead_of_serving_gives_its_own_words(tmp_path: Path) -> None:
    broken = tmp_path / "adb"
    broken.write_text("#!/bin/sh\necho 'library missing' >&2\nexit 1\n")
    broken.chmod(0o755)
    with dead_port() as port, pytest.raises(AdbStartFailed, match="library missing"):
        await ensure_server(port=port, private=True, home=tmp_path / "home", adb=broken)


async def test_an_answer_of_somebody_elses_server_does_not_count_as_ours(server: AdbServer, tmp_path: Path) -> None:
    late = ServerProcess(find_adb(), server.port, tmp_path / "late")
    try:
        assert await answers(server.port)
        assert not late.is_listening()
    finally:
        await late.stop()


async def test_a_tracker_sees_its_server_die(server: AdbServer) -> None:
    async with aclosing(track(server.client())) as tracker:
        assert await anext(tracker) == ()
        assert server.pid is not None
        psutil.Process(server.pid).kill()
        with pytest.raises(AdbServerGone):
            await anext(tracker)


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path) -> None:
    silent = tmp_path / "adb"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    before = set(psutil.Process().children())
    start = asyncio.create_task(ensure_server(port=0, private=True, home=tmp_path / "home", adb=silent))
    await asyncio.sleep(0)  # its first step spawns the process and waits for it
    assert (spawned := set(psutil.Process().children()) - before)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not any(child.is_running() for child in spawned)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_a_private_server_does_not_outlive_an_owner_that_is_killed(tmp_path: Path) -> None:
    owner = tmp_path / "owner.py"
    owner.write_text(
        textwrap.dedent(
            """
            import asyncio, pathlib, sys
            from muster.adb.server import ensure_server

            async def main():
                server = await ensure_server(port=0, private=True, home=pathlib.Path(sys.argv[1]))
                print(server.pid, flush=True)
                await asyncio.sleep(600)

            asyncio.run(main())
            """
        )
    )
    command = [sys.executable, str(owner), str(tmp_path / "adb")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        adb = psutil.Process(int(process.stdout.readline()))
        process.kill()
    psutil.wait_procs([adb], timeout=30)
    assert not adb.is_running()


async def test_a_shared_server_is_adbs_own_daemon_and_stays(tmp_path: Path) -> None:
    environment = private_environment(os.environ, tmp_path)
    wrapper = tmp_path / "adb"  # this test's daemon must not take hold of real phones or of the user's keys
    exports = "\n".join(f"export {name}='{environment[name]}'" for name in ("HOME", "TMPDIR", *PHONE_HARDWARE_OFF))
    wrapper.write_text(f'#!/bin/sh\n{exports}\nexec {find_adb()} "$@"\n')
    wrapper.chmod(0o755)
    server = await ensure_server(port=0, adb=wrapper)
    try:
        assert not server.owned
        await server.stop()
        assert await answers(server.port)
    finally:
        ending = await asyncio.create_subprocess_exec(find_adb(), "-P", str(server.port), "kill-server")
        assert await ending.wait() == 0


def test_the_private_environment_drops_the_users_adb_settings_and_keeps_the_rest(tmp_path: Path) -> None:
    user = {"PATH": "/bin", "ADB_TRACE": "all", "ADB_VENDOR_KEYS": "/k", "ANDROID_ADB_SERVER_PORT": "1", "HOME": "/u"}
    private = private_environment(user, tmp_path)
    assert private["PATH"] == "/bin"
    assert private["HOME"] == private["TMPDIR"] == str(tmp_path)
    assert {name: value for name, value in private.items() if name.startswith(("ADB_", "ANDROID_"))} == (
        PHONE_HARDWARE_OFF
    )


def test_the_adb_of_the_path_comes_first(tmp_path: Path) -> None:
    mine = tmp_path / "adb"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert find_adb(str(tmp_path)) == mine


def test_the_wheels_adb_serves_where_the_path_has_none(tmp_path: Path) -> None:
    assert find_adb(str(tmp_path)) == bundled_adb()
