"""adbd of one phone: its listening port and the transports on it."""

import asyncio
import random
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from muster.runtime.logs import get_logger
from muster.sim.adbd.auth import KeyRing
from muster.sim.adbd.connection import Connection, Service

LOOPBACK: Final = "127.0.0.1"
CONNECTIONS_MAX: Final = 8


class AdbDaemon:
    """Listens on a loopback port while it runs. The phone's parts come in as callables, so that it knows no phone."""

    def __init__(
        self,
        *,
        rng: random.Random,
        keys: KeyRing | None,
        banner: Callable[[], bytes],
        find_service: Callable[[str], Service | None],
    ) -> None:
        self.rng = rng
        self.keys = keys
        self.banner = banner
        self.service = find_service
        self.port = 0
        self.is_silent = False
        self._frozen = False
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- what a Connection needs

    def silent(self) -> bool:
        """Whether it takes connections and never answers."""
        return self.is_silent

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work` until it ends or the daemon is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            get_logger().error("A virtual phone's service has a bug", exc_info=error)

    def connected(self, connection: Connection) -> None:
        """Takes a transport, unless there are too many."""
        self._connections.add(connection)
        if len(self._connections) > CONNECTIONS_MAX:
            connection.abort()
        elif self._frozen:
            connection.freeze()

    def disconnected(self, connection: Connection) -> None:
        """Forgets a transport."""
        self._connections.discard(connection)

    # ---- for the phone

    @property
    def listening(self) -> bool:
        """Whether a host can connect."""
        return self._server is not None

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`, which is the serial that the adb server shows."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def online(self) -> bool:
        """Whether a host has got past the greeting."""
        return any(connection.online for connection in self._connections)

    @property
    def waiting(self) -> bool:
        """Whether a host waits for someone to press "Allow"."""
        return any(connection.waiting_key is not None for connection in self._connections)

    async def start(self) -> None:
        """Listens again on its port; on a new one when it never had one or the port has been taken by someone else."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: Connection(self), sock=_listen(self.port))
        except OSError:
            self._server = await loop.create_server(lambda: Connection(self), sock=_listen(0))
        self.port = self._server.sockets[0].getsockname()[1]

    async def start_at(self, port: int) -> None:
        """Listens on this very port. Raises OSError when it is taken."""
        self._server = await asyncio.get_running_loop().create_server(lambda: Connection(self), sock=_listen(port))
        self.port = port

    def stop(self) -> None:
        """Stops listening and drops all transports: the cable is out, or the phone is off."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.kick()

    def move(self) -> None:
        """Forgets its port: the next start takes a new one, and with it a new serial."""
        self.port = 0

    def kick(self) -> None:
        """Drops all transports; it goes on listening."""
        for connection in list(self._connections):
            connection.abort()

    def freeze(self) -> None:
        """Hangs: takes in nothing, says nothing."""
        self._frozen = True
        for connection in self._connections:
            connection.freeze()

    def thaw(self) -> None:
        """Goes on with all that has been queued meanwhile."""
        self._frozen = False
        for connection in list(self._connections):
            connection.thaw()

    def authorize(self) -> None:
        """Someone presses "Always allow" for every host that waits."""
        for connection in list(self._connections):
            connection.authorize()

    async def close(self) -> None:
        """Stops for good; all that ran for a host has ended when this returns."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it would let two processes share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(CONNECTIONS_MAX)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener
