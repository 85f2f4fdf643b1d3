"""The asyncio client of the adb server: one connection a command, ended by cancelling one await."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeVar

from muster.adb.connection import Connection, connection
from muster.adb.errors import (
    AdbCommandFailed,
    AdbConnectionLost,
    AdbDeviceUnresponsive,
    AdbProtocolError,
    AdbServerGone,
    AdbTooLarge,
)
from muster.adb.protocol import (
    ConnectOutcome,
    ConnectResult,
    DeviceList,
    DeviceState,
    ShellDecoder,
    ShellResult,
    parse_address,
    parse_connect,
    parse_device_list,
    parse_state,
)
from muster.domain.limits import ARTIFACT_BYTES_MAX, COMMAND_OUTPUT_BYTES_MAX

CONNECT_TIMEOUT_SEC: Final = 5.0
"""The server is on this PC or beside it; a full backlog on a busy PC still answers within a second."""
REPLY_TIMEOUT_SEC: Final = 10.0
"""For what the server knows by itself (devices, version, the choice of a phone)."""
OPEN_TIMEOUT_SEC: Final = 15.0
"""For a phone to open a stream: 20-40 ms when it is well; one that is silent so long is hung (spec/10)."""
PORT_PROBE_TIMEOUT_SEC: Final = 2.0
"""A dead port takes 11 ms. The server itself would wait 133 s for a black hole, and block every reconnect meanwhile."""
CONNECT_PHONE_TIMEOUT_SEC: Final = 20.0
"""The server gives a silent phone 10 s."""
STDERR_BYTES_MAX: Final = 64 * 1024

_T = TypeVar("_T")


class AdbClient:
    """Says one thing to the adb server at `host:port` at a time, or many at once: calls share nothing."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        connect_timeout_sec: float = CONNECT_TIMEOUT_SEC,
        reply_timeout_sec: float = REPLY_TIMEOUT_SEC,
        open_timeout_sec: float = OPEN_TIMEOUT_SEC,
    ) -> None:
        self.host = host
        self.port = port
        self._connect_timeout_sec = connect_timeout_sec
        self._reply_timeout_sec = reply_timeout_sec
        self._open_timeout_sec = open_timeout_sec

    # ---- a phone -----------------------------------------------------------------------------------------------------

    async def shell(
        self, serial: str, command: str, *, stdout_bytes_max: int = COMMAND_OUTPUT_BYTES_MAX
    ) -> ShellResult:
        """Runs `command` in the phone's shell and waits for its end; how long is the caller's limit, by cancelling.

        Raises AdbError. A cancelled or lost command may still run on the phone, or run later (spec/10).
        """
        decoder = ShellDecoder(stdout_bytes_max=stdout_bytes_max, stderr_bytes_max=STDERR_BYTES_MAX)
        async with self.open(serial, f"shell,v2,raw:{command}") as stream:
            while data := await stream.read():
                result = decoder.feed(data)
                if result is not None:
                    return result
        raise AdbConnectionLost("the phone's shell ended without an exit status: whether the command ran is unknown")

    async def screencap(self, serial: str, *, bytes_max: int = ARTIFACT_BYTES_MAX) -> bytes:
        """The screen as `screencap -p` writes it, not yet verified as a picture. Raises AdbError."""
        command = "screencap -p"
        result = await self.shell(serial, command, stdout_bytes_max=bytes_max)
        if result.exit_code != 0:
            raise AdbCommandFailed(command, result.exit_code, result.stderr.decode(errors="replace"))
        if result.truncated:
            raise AdbTooLarge(f"the screenshot is larger than {bytes_max} bytes")
        return result.stdout

    @asynccontextmanager
    async def open(self, serial: str, service: str) -> AsyncIterator[Connection]:
        """A stream to a service of the phone, for `sync:` and the like; aborted when the block is left."""
        async with self._connected() as stream:
            await self._within(self._reply_timeout_sec, stream.ask(f"host:transport:{serial}"))
            try:
                async with asyncio.timeout(self._open_timeout_sec):
                    await stream.ask(service)
            except TimeoutError:
                raise AdbDeviceUnresponsive(
                    f"{serial} did not answer within {self._open_timeout_sec:g} s; the request may still run later"
                ) from None
            except AdbServerGone as error:
                raise AdbConnectionLost(f"the stream to {serial} was lost while it opened: {error}") from error
            yield stream

    async def get_state(self, serial: str) -> DeviceState:
        """How the server sees the phone now. Raises AdbDeviceMissing."""
        return parse_state((await self._query(f"host-serial:{serial}:get-state")).decode(errors="replace"))

    async def features(self, serial: str) -> frozenset[str]:
        """What server and phone have agreed on, such as `shell_v2`."""
        text = (await self._query(f"host-serial:{serial}:features")).decode(errors="replace")
        return frozenset(text.split(",")) - {""}

    async def reconnect(self, serial: str) -> None:
        """Drops the phone's connection, for the server to make it anew. Raises AdbDeviceMissing.

        Not for a TCP phone: it would be removed (spec/10).
        """
        await self._query(f"host-serial:{serial}:reconnect")

    async def reboot(self, serial: str) -> None:
        """Asks the phone to start anew; returns when it has hung up. Raises AdbError."""
        async with self.open(serial, "reboot:") as stream:
            await self._within(self._reply_timeout_sec, _until_end(stream))

    # ---- the server --------------------------------------------------------------------------------------------------

    async def version(self) -> int:
        """The server's protocol version: 41 for adb 36."""
        text = await self._query("host:version")
        try:
            return int(text, 16)
        except ValueError:
            raise AdbProtocolError(f"{text[:40]!r} is not a version of an adb server") from None

    async def devices(self) -> DeviceList:
        """Every phone that the server knows now. Raises AdbProtocolError when its list is cut (spec/10)."""
        return parse_device_list(await self._query("host:devices"))

    async def connect(self, address: str, *, probe_timeout_sec: float = PORT_PROBE_TIMEOUT_SEC) -> ConnectResult:
        """Attaches the phone at `host:port`, its serial from then on being that very text."""
        failure = await probe_port(*parse_address(address), probe_timeout_sec)
        if failure is not None:
            return ConnectResult(ConnectOutcome.UNREACHABLE, f"nothing answers at {address}: {failure}")
        text = await self._query(f"host:connect:{address}", CONNECT_PHONE_TIMEOUT_SEC)
        return parse_connect(text.decode(errors="replace"))

    async def disconnect(self, address: str) -> None:
        """Forgets the phone at `host:port`. Raises AdbServerRefused when the server has none such."""
        parse_address(address)  # an empty one would disconnect every phone
        await self._query(f"host:disconnect:{address}")

    async def kill_server(self) -> None:
        """Ends the server and with it every connection to a phone. Raises AdbServerGone when there is none."""
        async with self._connected() as stream:
            await self._within(self._reply_timeout_sec, stream.ask("host:kill"))

    @asynccontextmanager
    async def listen(self, service: str) -> AsyncIterator[Connection]:
        """An open host service that goes on telling, such as `host:track-devices`."""
        async with self._connected() as stream:
            await self._within(self._reply_timeout_sec, stream.ask(service))
            yield stream

    # ---- inside ------------------------------------------------------------------------------------------------------

    async def _query(self, service: str, timeout_sec: float | None = None) -> bytes:
        async with self._connected() as stream:
            return await self._within(timeout_sec or self._reply_timeout_sec, _ask_for_block(stream, service))

    def _connected(self) -> AbstractAsyncContextManager[Connection]:
        return connection(self.host, self.port, self._connect_timeout_sec)

    async def _within(self, timeout_sec: float, work: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(timeout_sec):
                return await work
        except TimeoutError:
            raise AdbServerGone(
                f"the adb server at {self.host}:{self.port} did not answer within {timeout_sec:g} s"
            ) from None


async def _until_end(stream: Connection) -> None:
    while await stream.read():
        pass


async def _ask_for_block(stream: Connection, service: str) -> bytes:
    await stream.ask(service)
    return await stream.last_block()


async def probe_port(host: str, port: int, timeout_sec: float) -> str | None:
    """Why nothing takes a TCP connection at `host:port` within the limit; None when something does."""
    try:
        async with asyncio.timeout(timeout_sec):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no answer within {timeout_sec:g} s"
    except OSError as error:
        return str(error)
    writer.transport.abort()
    return None
