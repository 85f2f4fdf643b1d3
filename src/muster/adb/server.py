"""The adb server's life: use the one that answers, else start one and wait until it answers.

A *private* server lives and dies with its owner, knows neither USB nor mDNS nor emulators, and keeps its keys in a
folder of its own: for the virtual rack and for tests. A *shared* one is adb's own daemon, with USB and the user's keys,
and stays when we go, as after any `adb` command. Nothing is ever started on another machine.
"""

import asyncio
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Final

from muster.adb.binary import find_adb
from muster.adb.client import AdbClient
from muster.adb.errors import AdbProtocolError, AdbServerGone
from muster.adb.process import POLL_SEC, ServerProcess

ADB_PORT: Final = 5037
START_TIMEOUT_SEC: Final = 20.0
"""4-160 ms without USB, about 3 s with it (spec/10); the rest is for a PC that just booted."""
PORT_TRIES_MAX: Final = 5
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "localhost"})


class AdbStartFailed(AdbServerGone):
    """No server answers at the address and none could be started there."""


class AdbServer:
    """A server that answers at `host:port`. `owned`: `stop()` ends it."""

    def __init__(
        self, host: str, port: int, *, process: ServerProcess | None = None, temporary_home: Path | None = None
    ) -> None:
        self.host = host
        self.port = port
        self._process = process
        self._temporary_home = temporary_home

    @property
    def owned(self) -> bool:
        """We started it and it goes when we go."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The process's id, when it is ours."""
        return self._process.pid if self._process else None

    def client(self) -> AdbClient:
        """A client of this server."""
        return AdbClient(self.host, self.port)

    async def stop(self) -> None:
        """Ends a server that we own and removes its temporary folder; leaves any other alone. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop()
        if self._temporary_home is not None:
            await asyncio.to_thread(shutil.rmtree, self._temporary_home, ignore_errors=True)


async def ensure_server(
    host: str = "127.0.0.1",
    port: int = ADB_PORT,
    *,
    private: bool = False,
    home: Path | None = None,
    adb: Path | None = None,
) -> AdbServer:
    """The server at `host:port`, started if none answers there; port 0 takes a free one. Raises AdbStartFailed.

    `home` keeps a private server's keys; without it they live in a temporary folder as long as the server does.
    """
    if port != 0 and await _answers(host, port):
        return AdbServer(host, port)
    if host not in LOOPBACK_HOSTS:
        raise AdbStartFailed(f"no adb server answers at {host}:{port}, and only a local one can be started")
    binary = adb or find_adb()
    if not private:
        return await _start_shared(binary, host, port or _free_port())
    temporary_home = Path(tempfile.mkdtemp(prefix="muster-adb-")) if home is None else None
    try:
        chosen, process = await _start_private(binary, host, port, home or temporary_home or Path())
    except BaseException as error:
        if temporary_home is not None:
            shutil.rmtree(temporary_home, ignore_errors=True)
        # Somebody else, an agent that missed it too, may have started one there meanwhile: it serves as well.
        if isinstance(error, AdbStartFailed) and port != 0 and await _answers(host, port):
            return AdbServer(host, port)
        raise
    return AdbServer(host, chosen, process=process, temporary_home=temporary_home)


async def _start_shared(binary: Path, host: str, port: int) -> AdbServer:
    """Has adb start its own daemon, with everything that a daemon needs on each system."""
    process = await asyncio.create_subprocess_exec(
        str(binary), "-P", str(port), "start-server", stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_TIMEOUT_SEC):
            _, words = await process.communicate()
    except TimeoutError:
        raise AdbStartFailed(f"adb start-server did not end within {START_TIMEOUT_SEC:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0 or not await _answers(host, port):
        raise AdbStartFailed(f"adb start-server failed: {words.decode(errors='replace').strip()[-500:]}")
    return AdbServer(host, port)


async def _start_private(binary: Path, host: str, port: int, home: Path) -> tuple[int, ServerProcess]:
    """Starts a server of our own; a free port that somebody else grabs meanwhile is given up for another."""
    last_words = ""
    for _ in range(1 if port else PORT_TRIES_MAX):
        chosen = port or _free_port()
        process = ServerProcess(binary, chosen, home)
        try:
            if await _comes_up(process, host, chosen):
                return chosen, process
        except BaseException:
            process.kill()
            raise
        last_words = process.last_words()
        await process.stop()
    raise AdbStartFailed(f"the adb server at {host}:{port or 'a free port'} did not start: {last_words}")


async def _comes_up(process: ServerProcess, host: str, port: int) -> bool:
    """Waits until this very process answers; False when it ended instead."""
    try:
        async with asyncio.timeout(START_TIMEOUT_SEC):
            while not process.is_listening() or not await _answers(host, port):
                if process.has_ended():
                    return False
                await asyncio.sleep(POLL_SEC)
    except TimeoutError:
        raise AdbStartFailed(f"the adb server at {host}:{port} did not answer in {START_TIMEOUT_SEC:g} s") from None
    return True


async def _answers(host: str, port: int) -> bool:
    try:
        await AdbClient(host, port).version()
    except AdbServerGone:
        return False
    except AdbProtocolError as error:
        raise AdbStartFailed(f"{host}:{port} is taken by something that is not an adb server: {error}") from error
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
