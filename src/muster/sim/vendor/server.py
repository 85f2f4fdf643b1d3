"""The tool's WebSocket server: one JSON text in, one out, in order, unless a quirk says otherwise."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from muster.runtime.clock import Clock, SystemClock
from muster.sim.vendor.actions import Actions
from muster.sim.vendor.messages import (
    MESSAGE_BYTES_MAX,
    TIMED_OUT,
    Refusal,
    done,
    failed,
    huge,
    parse_request,
    rubbish,
)
from muster.sim.vendor.pictures import PictureTaker
from muster.sim.vendor.ports import VendorRack
from muster.sim.vendor.quirks import Misbehaviour, VendorPace, VendorQuirks

CONNECTIONS_MAX: Final = 256
BACKGROUND_MAX: Final = 1_000
REQUEST_SEC_MAX: Final = 60.0
_TRY_AGAIN_LATER: Final = 1013


class VendorServer:
    """`start()` gives the port, `stop()` ends everything that was under way. `quirks` may be changed while it runs."""

    def __init__(
        self,
        rack: VendorRack,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        quirks: VendorQuirks | None = None,
        pace: VendorPace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._clock = clock or SystemClock()
        self._quirks = quirks or VendorQuirks()
        self._rng = random.Random(self._quirks.seed)
        pictures = PictureTaker(self._clock, pace or VendorPace(), random.Random(self._quirks.seed ^ 0x51C7))
        self._actions = Actions(rack, pictures, self._start)
        self._actions.quirks = self._quirks
        self._background: set[asyncio.Task[None]] = set()
        self._server: Server | None = None
        self.answered = 0

    @property
    def quirks(self) -> VendorQuirks:
        """How it misbehaves at present."""
        return self._quirks

    @quirks.setter
    def quirks(self, quirks: VendorQuirks) -> None:
        self._quirks = self._actions.quirks = quirks
        self._rng = random.Random(quirks.seed)

    @property
    def port(self) -> int:
        """Where it listens, once it has been started."""
        assert self._server is not None, "not started"
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    @property
    def connection_count(self) -> int:
        """How many clients it has now."""
        return len(self._server.connections) if self._server is not None else 0

    async def start(self) -> int:
        """Listens; returns the port. Raises OSError when the port is taken."""
        self._server = await serve(
            self._serve,
            self._host,
            self._port,
            max_size=MESSAGE_BYTES_MAX,
            compression=None,
            ping_interval=None,  # the real tool sends none
        )
        return self.port

    async def stop(self) -> None:
        """Closes every connection and ends what was under way, pictures half written included."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close(close_connections=False)
        for connection in list(server.connections):
            connection.transport.abort()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        server = self._server
        if server is None or len(server.connections) > CONNECTIONS_MAX:
            await connection.close(_TRY_AGAIN_LATER)
            return
        # A client that goes away takes its request with it: a hung phone must not keep the connection's task alive.
        answering = asyncio.create_task(self._answer_all(connection), name="vendor-connection")
        closed = asyncio.create_task(connection.wait_closed(), name="vendor-connection-closed")
        try:
            await asyncio.wait({answering, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answering.cancel()
            closed.cancel()
            await asyncio.wait({answering, closed})
        if not answering.cancelled():
            answering.result()  # a bug is raised here, and websockets closes the connection with 1011

    async def _answer_all(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                text = await connection.recv()
                misbehaviour = self._quirks.draw(self._rng)
                await self._send(connection, await self._answer(text), misbehaviour)
                self.answered += 1

    async def _answer(self, text: str | bytes) -> str:
        try:
            async with asyncio.timeout(REQUEST_SEC_MAX):
                return done(await self._actions.do(parse_request(text)))
        except Refusal as refusal:
            return failed(str(refusal))
        except TimeoutError:
            return failed(TIMED_OUT)

    async def _send(self, connection: ServerConnection, answer: str, misbehaviour: Misbehaviour) -> None:
        match misbehaviour:
            case Misbehaviour.NONE:
                await connection.send(answer)
            case Misbehaviour.LATE:
                self._start(self._send_late(connection, answer, self._quirks.late_sec))
            case Misbehaviour.RUBBISH:
                await connection.send(rubbish(self._rng))
            case Misbehaviour.HUGE:
                await connection.send(huge(self._quirks.huge_bytes))
            case Misbehaviour.DROPPED:
                await connection.send(_torn(connection, answer))
            case Misbehaviour.SILENT:
                pass

    async def _send_late(self, connection: ServerConnection, answer: str, delay_sec: float) -> None:
        await self._clock.sleep(delay_sec)
        with suppress(ConnectionClosed):
            await connection.send(answer)

    def _start(self, work: Coroutine[Any, Any, None]) -> bool:
        """Runs something beside the answers, until the server stops; False when there is too much of it."""
        if len(self._background) >= BACKGROUND_MAX:
            work.close()
            return False
        task = asyncio.create_task(work, name="vendor-background")
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return True


async def _torn(connection: ServerConnection, answer: str) -> AsyncIterator[str]:
    """Half of the answer as the first fragment of a message, then the connection is gone."""
    yield answer[: len(answer) // 2]
    connection.transport.abort()
    await connection.wait_closed()
    yield answer[len(answer) // 2 :]
