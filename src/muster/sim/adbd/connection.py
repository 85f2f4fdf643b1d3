"""One transport between an adb server and a phone: greeting, authorisation, streams and their flow control."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, cast

from muster.runtime.logs import get_logger
from muster.sim.adbd.auth import TOKEN_BYTES, KeyFormatError, KeyRing, PublicKey, parse_public_key
from muster.sim.adbd.packets import (
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOAD_V1_BYTES,
    VERSION_CHECKED,
    VERSION_UNCHECKED,
    Command,
    Decoder,
    Packet,
    ProtocolError,
    encode,
)

STREAMS_PER_CONNECTION_MAX: Final = 1_024
SERVICE_NAME_BYTES_MAX: Final = 65_535
HELD_PACKETS_MAX: Final = 4_096
"""Packets kept for a frozen phone beyond what the kernel keeps; one read of the socket never holds more."""
_AUTH_TOKEN, _AUTH_SIGNATURE, _AUTH_PUBLIC_KEY = 1, 2, 3
Service = Callable[["Stream"], Coroutine[Any, Any, None]]


class StreamClosed(Exception):
    """The host has closed the stream, or the transport is gone."""


class Daemon(Protocol):
    """What a transport needs from its phone."""

    @property
    def keys(self) -> KeyRing | None:
        """The keys it trusts; None: it asks nobody (`ro.adb.secure=0`)."""
        ...

    @property
    def rng(self) -> random.Random:
        """Where its tokens come from."""
        ...

    def banner(self) -> bytes:
        """What it says of itself in CNXN: `device::ro.product.name=…;features=…`."""
        ...

    def silent(self) -> bool:
        """Whether it takes connections and never answers."""
        ...

    def service(self, name: str) -> Service | None:
        """What serves a stream that is opened under `name`, or None: the phone knows no such service."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work` in a task that the phone owns."""
        ...

    def connected(self, connection: "Connection") -> None:
        """A host has opened a TCP connection."""
        ...

    def disconnected(self, connection: "Connection") -> None:
        """It is gone, with all its streams."""
        ...


class Stream:
    """One OPENed service. At most one WRTE is in flight in each direction (no delayed acknowledgement is announced)."""

    __slots__ = ("_acknowledged", "_arrived", "_connection", "_incoming", "closed", "local_id", "remote_id", "task")

    def __init__(self, connection: "Connection", local_id: int, remote_id: int) -> None:
        self._connection = connection
        self.local_id, self.remote_id = local_id, remote_id
        self._incoming: deque[bytes] = deque()
        self._arrived: asyncio.Future[None] | None = None
        self._acknowledged: asyncio.Future[None] | None = None
        self.closed = False
        self.task: asyncio.Task[None] | None = None

    async def read(self) -> bytes:
        """The next payload from the host; acknowledges it. b"" when the host has closed."""
        while not self._incoming:
            if self.closed:
                return b""
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        data = self._incoming.popleft()
        if not self.closed:
            self._connection.send(Packet(Command.OKAY, self.local_id, self.remote_id))
        return data

    async def write(self, data: bytes) -> None:
        """Sends all of `data`, one payload after the other, each acknowledged. Raises StreamClosed."""
        limit = self._connection.payload_limit
        for start in range(0, len(data), limit):
            if self.closed:
                raise StreamClosed
            self._acknowledged = asyncio.get_running_loop().create_future()
            chunk = data if len(data) <= limit else data[start : start + limit]
            self._connection.send(Packet(Command.WRTE, self.local_id, self.remote_id, chunk))
            await self._acknowledged

    def arrived(self, data: bytes) -> bool:
        """Takes a WRTE. False: the host did not wait for the last one to be acknowledged."""
        if self._incoming:
            return False
        self._incoming.append(data)
        _wake(self._arrived)
        return True

    def acknowledged(self) -> None:
        """Takes an OKAY for the last WRTE."""
        _wake(self._acknowledged)

    def hang_up(self) -> None:
        """The host closed, or the transport ended: whatever serves this stream is ended, as by SIGHUP."""
        self.closed = True
        _wake(self._arrived)
        if self._acknowledged is not None and not self._acknowledged.done():
            self._acknowledged.set_exception(StreamClosed())
            self._acknowledged.exception()  # read here, so that a stream nobody waits on leaves no warning
        if self.task is not None:
            self.task.cancel()


def _wake(future: "asyncio.Future[None] | None") -> None:
    if future is not None and not future.done():
        future.set_result(None)


class Connection(asyncio.Protocol):
    """A host's TCP connection to this phone."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        # Not before CNXN has settled on the old version: an adb server that reconnects by itself remembers the newer
        # one from last time and greets without a checksum.
        self._decoder = Decoder(checked=False)
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._next_id = 1
        self._token = b""
        self._checked = True
        self._version = VERSION_CHECKED
        self._frozen = False
        self._held_in: deque[Packet] = deque()
        self._held_out: list[bytes] = []
        self._outgoing: list[bytes] = []
        self.payload_limit = MAX_PAYLOAD_V1_BYTES
        self.online = False
        self.waiting_key: PublicKey | None = None

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A host has connected; it speaks first."""
        transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape, not by class
        self._transport = transport
        self._daemon.connected(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the host."""
        if self._daemon.silent():
            return
        try:
            for packet in self._decoder.feed(data):
                self._take(packet)
        except ProtocolError as error:
            get_logger().debug("transport ended", reason=str(error))
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends every stream."""
        self.online = False
        for stream in list(self._streams.values()):
            stream.hang_up()
        self._streams.clear()
        self._daemon.disconnected(self)

    # ---- for the phone

    def abort(self) -> None:
        """Drops the transport as a pulled cable does."""
        if self._transport is not None:
            self._transport.abort()

    def freeze(self) -> None:
        """The phone hangs: bytes stay in the socket, nothing is answered."""
        self._frozen = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def thaw(self) -> None:
        """The phone goes on with whatever has been queued; a command cancelled long ago still runs."""
        self._frozen = False
        for data in self._held_out:
            self._write(data)
        self._held_out.clear()
        while self._held_in and not self._frozen:
            self._take(self._held_in.popleft())
        if not self._frozen and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def authorize(self) -> None:
        """Someone pressed "Allow" on the phone."""
        if self.waiting_key is not None and self._daemon.keys is not None:
            self._daemon.keys.allow(self.waiting_key)
            self.waiting_key = None
            self._greet()

    def send(self, packet: Packet) -> None:
        """Queues one packet; a frozen phone keeps it until it thaws."""
        data = encode(packet, checked=self._checked)
        if self._frozen:
            self._held_out.append(data)
        else:
            self._write(data)

    # ---- packets

    def _write(self, data: bytes) -> None:
        """Sends at the end of this turn of the event loop, so that what belongs together travels together."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def _take(self, packet: Packet) -> None:
        if self._frozen:
            if len(self._held_in) >= HELD_PACKETS_MAX:
                raise ProtocolError("too many packets for a phone that hangs")
            self._held_in.append(packet)
            return
        match packet.command:
            case Command.CNXN:
                self._on_connect(packet)
            case Command.AUTH:
                self._on_auth(packet)
            case Command.STLS:
                raise ProtocolError("TLS was not offered")
            case _ if not self.online:
                raise ProtocolError("a stream before CNXN")
            case Command.OPEN:
                self._on_open(packet)
            case _:
                self._on_stream(packet)

    def _on_connect(self, packet: Packet) -> None:
        version = min(packet.arg0, VERSION_UNCHECKED)
        if version < VERSION_CHECKED:
            raise ProtocolError(f"version {packet.arg0:#x}")
        # The checksum of the greeting itself and of AUTH is still written; both ends drop it afterwards.
        self._decoder.checked = version < VERSION_UNCHECKED
        self._version = version
        self.payload_limit = max(1, min(packet.arg1, MAX_PAYLOAD_BYTES))
        if self._daemon.keys is None:
            self._greet()
        else:
            self._challenge()

    def _challenge(self) -> None:
        self._token = self._daemon.rng.randbytes(TOKEN_BYTES)
        self.send(Packet(Command.AUTH, _AUTH_TOKEN, 0, self._token))

    def _on_auth(self, packet: Packet) -> None:
        keys = self._daemon.keys
        if keys is None or self.online:
            raise ProtocolError("AUTH that nobody asked for")
        if packet.arg0 == _AUTH_SIGNATURE:
            if self._token and keys.verifies(self._token, packet.data):
                self._greet()
            else:
                self._challenge()
        elif packet.arg0 == _AUTH_PUBLIC_KEY:
            self._on_public_key(keys, packet.data)
        else:
            raise ProtocolError(f"AUTH of type {packet.arg0}")

    def _on_public_key(self, keys: KeyRing, text: bytes) -> None:
        try:
            key = parse_public_key(text)
        except KeyFormatError as error:
            raise ProtocolError(str(error)) from error
        if keys.offer(key):
            self._greet()
        else:
            self.waiting_key = key

    def _greet(self) -> None:
        self.online = True
        self.send(Packet(Command.CNXN, VERSION_UNCHECKED, MAX_PAYLOAD_BYTES, self._daemon.banner()))
        self._checked = self._version < VERSION_UNCHECKED

    def _on_open(self, packet: Packet) -> None:
        name = packet.data.rstrip(b"\x00")
        service: Service | None = None
        if packet.arg0 and len(name) <= SERVICE_NAME_BYTES_MAX and len(self._streams) < STREAMS_PER_CONNECTION_MAX:
            service = self._daemon.service(name.decode("utf-8", "surrogateescape"))
        if service is None:
            self.send(Packet(Command.CLSE, 0, packet.arg0))
            return
        stream = Stream(self, self._next_id, packet.arg0)
        self._next_id = self._next_id % 0xFFFFFFFF + 1
        self._streams[stream.local_id] = stream
        # The task runs in the next turn; begun before OKAY is queued, it answers a quick command in the same packet.
        stream.task = self._daemon.spawn(self._serve(stream, service))
        self.send(Packet(Command.OKAY, stream.local_id, stream.remote_id))

    def _on_stream(self, packet: Packet) -> None:
        stream = self._streams.get(packet.arg1)
        if stream is None or (packet.arg0 not in (0, stream.remote_id)):
            if packet.command == Command.WRTE:
                self.send(Packet(Command.CLSE, 0, packet.arg0))
            return
        if packet.command == Command.OKAY:
            stream.acknowledged()
        elif packet.command == Command.WRTE:
            if not stream.arrived(packet.data):
                raise ProtocolError("WRTE before the last one was acknowledged")
        else:
            self._close(stream)
            stream.hang_up()

    def _close(self, stream: Stream) -> None:
        if self._streams.pop(stream.local_id, None) is not None:
            self.send(Packet(Command.CLSE, stream.local_id, stream.remote_id))

    async def _serve(self, stream: Stream, service: Service) -> None:
        try:
            await service(stream)
        except StreamClosed:
            pass  # the host has what it wanted, or is gone: both are the normal end of a command
        except ProtocolError as error:
            get_logger().debug("stream ended", reason=str(error))
        finally:
            stream.closed = True
            self._close(stream)
