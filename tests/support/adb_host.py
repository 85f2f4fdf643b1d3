"""The host's end of an ADB transport, by hand: greets, authenticates with a real key, opens streams."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from muster.sim.adbd.auth import PublicKey, format_public_key, signed_block
from muster.sim.adbd.daemon import AdbDaemon
from muster.sim.adbd.packets import MAX_PAYLOAD_BYTES, VERSION_UNCHECKED, Command, Decoder, Packet, encode

TIMEOUT_SEC = 20.0


class Key:
    """An RSA key made from a seed; good for tests only."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        p, q = _prime(rng, 1024), _prime(rng, 1024)
        while (p * q).bit_length() != 2048 or (p - 1) * (q - 1) % 65537 == 0:
            q = _prime(rng, 1024)
        self.public = PublicKey(p * q, 65537)
        self._private = pow(65537, -1, (p - 1) * (q - 1))

    def sign(self, token: bytes) -> bytes:
        """The signature that adb makes."""
        number = int.from_bytes(signed_block(token), "big")
        return pow(number, self._private, self.public.modulus).to_bytes(256, "big")


@cache
def key(seed: int = 1) -> Key:
    """The same key for the same seed; making one takes a moment."""
    return Key(seed)


def _prime(rng: random.Random, bits: int) -> int:
    while True:
        number = rng.getrandbits(bits) | 1 | 3 << (bits - 2)
        if all(number % small for small in _SMALL) and _probably_prime(number, rng):
            return number


_SMALL = [n for n in range(3, 4000, 2) if all(n % d for d in range(3, int(n**0.5) + 1, 2))]


def _probably_prime(number: int, rng: random.Random) -> bool:
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(4):
        value = pow(rng.randrange(2, number - 1), odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


class Host:
    """One transport to a phone. Every wait has a limit."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = Decoder(checked=False)
        self._packets: list[Packet] = []

    def send(self, command: Command, arg0: int = 0, arg1: int = 0, data: bytes = b"", *, checked: bool = True) -> None:
        self._writer.write(encode(Packet(command, arg0, arg1, data), checked=checked))

    def send_raw(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> Packet | None:
        """The next packet, None when the phone has hung up."""
        async with asyncio.timeout(TIMEOUT_SEC):
            while not self._packets:
                try:
                    data = await self._reader.read(65536)
                except ConnectionError:
                    return None
                if not data:
                    return None
                self._packets += self._decoder.feed(data)
        return self._packets.pop(0)

    async def expect(self, command: Command) -> Packet:
        packet = await self.receive()
        assert packet is not None, "the phone hung up"
        assert packet.command == command, f"{packet} instead of {command.name}"
        return packet

    async def quiet(self, turns: int = 50) -> bool:
        """Whether nothing has arrived after the phone had many turns of the event loop."""
        for _ in range(turns):
            await asyncio.sleep(0)
        return not self._packets and not self._reader._buffer  # type: ignore[attr-defined]

    def connect(self) -> None:
        self.send(Command.CNXN, VERSION_UNCHECKED, MAX_PAYLOAD_BYTES, b"host::features=shell_v2,cmd\0")

    async def greet(self, with_key: Key | None = None) -> Packet:
        """Gets past the greeting, showing the key where the phone does not know it."""
        self.connect()
        packet = await self.receive()
        if packet is not None and packet.command == Command.AUTH and with_key is not None:
            self.send(Command.AUTH, 2, 0, with_key.sign(packet.data))
            packet = await self.receive()
            if packet is not None and packet.command == Command.AUTH:
                self.send(Command.AUTH, 3, 0, format_public_key(with_key.public, "test@host"))
                packet = await self.receive()
        assert packet is not None
        assert packet.command == Command.CNXN
        return packet

    async def open(self, service: str, local_id: int = 1) -> int:
        """Opens a stream; returns the phone's id for it, 0 when it refuses."""
        self.send(Command.OPEN, local_id, 0, service.encode() + b"\0")
        packet = await self.receive()
        assert packet is not None
        return packet.arg0 if packet.command == Command.OKAY else 0

    async def read_all(self, local_id: int, remote_id: int) -> bytes:
        """All that the stream carries, acknowledged, until the phone closes it."""
        data = b""
        while (packet := await self.receive()) is not None and packet.command == Command.WRTE:
            data += packet.data
            self.send(Command.OKAY, local_id, remote_id)
        assert packet is not None
        assert packet.command == Command.CLSE
        return data

    def close(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def host_of(daemon: AdbDaemon) -> AsyncIterator[Host]:
    """A transport to a phone that listens."""
    reader, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
    host = Host(reader, writer)
    try:
        yield host
    finally:
        host.close()


def digest(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()
