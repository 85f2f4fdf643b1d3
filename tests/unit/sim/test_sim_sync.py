"""Files over `sync:`, request by request."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support.adb_host import Host, host_of
from tests.support.sim_phone import make_phone

from muster.sim.adbd.packets import Command
from muster.sim.phone import Phone


class Sync:
    """A sync stream to a phone."""

    def __init__(self, host: Host, remote: int) -> None:
        self._host, self._remote = host, remote
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        self._host.send(Command.WRTE, 1, self._remote, data)
        await self._host.expect(Command.OKAY)

    async def take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            packet = await self._host.expect(Command.WRTE)
            self._host.send(Command.OKAY, 1, self._remote)
            self._buffer += packet.data
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    async def ask(self, command: bytes, path: bytes) -> None:
        await self.send(command + struct.pack("<I", len(path)) + path)

    async def ended(self) -> bool:
        """Whether the next packet is the stream's end; anything else is acknowledged."""
        packet = await self._host.receive()
        assert packet is not None, "the transport has ended"
        if packet.command == Command.WRTE:
            self._host.send(Command.OKAY, 1, self._remote)
        return packet.command == Command.CLSE


@asynccontextmanager
async def sync_of(phone: Phone) -> AsyncIterator[Sync]:
    await phone.adbd.start()
    try:
        async with host_of(phone.adbd) as host:
            await host.greet()
            yield Sync(host, await host.open("sync:"))
    finally:
        await phone.close()


def data(chunk: bytes) -> bytes:
    return b"DATA" + struct.pack("<I", len(chunk)) + chunk


async def test_a_pushed_file_is_there_with_its_mode_and_time_and_so_are_its_folders() -> None:
    phone = make_phone()
    async with sync_of(phone) as sync:
        await sync.ask(b"SEND", b"/sdcard/new/deep/f.txt,33188")
        await sync.send(data(b"hello ") + data(b"world") + b"DONE" + struct.pack("<I", 1_700_000_000))
        assert await sync.take(8) == b"OKAY" + bytes(4)
        node = phone.files.get("/storage/emulated/0/new/deep/f.txt")
        assert (node.blob.data, node.mode, node.mtime) == (b"hello world", 0o100644, 1_700_000_000)
        await sync.ask(b"STAT", b"/sdcard/new/deep/f.txt")
        assert await sync.take(16) == b"STAT" + struct.pack("<III", 0o100644, 11, 1_700_000_000)


async def test_a_pulled_file_comes_in_chunks_and_ends() -> None:
    phone = make_phone()
    phone.files.write("/data/local/tmp/f", bytes(range(256)) * 300, mtime=1)
    async with sync_of(phone) as sync:
        await sync.ask(b"RECV", b"/data/local/tmp/f")
        received = b""
        while True:
            kind, length = struct.unpack("<4sI", await sync.take(8))
            if kind == b"DONE":
                break
            assert length <= 65536
            received += await sync.take(length)
        assert received == bytes(range(256)) * 300


async def test_the_second_version_stats_lists_sends_and_receives() -> None:
    phone = make_phone()
    async with sync_of(phone) as sync:
        path = b"/data/local/tmp/v2"
        await sync.ask(b"SND2", path)
        await sync.send(struct.pack("<4sII", b"SND2", 0o100600, 0) + data(b"two") + b"DONE" + struct.pack("<I", 5))
        assert await sync.take(8) == b"OKAY" + bytes(4)
        await sync.ask(b"STA2", path)
        reply = struct.unpack("<4sIQQIIIIQqqq", await sync.take(72))
        assert (reply[0], reply[1], reply[4], reply[8], reply[10]) == (b"STA2", 0, 0o100600, 3, 5)
        await sync.ask(b"LST2", b"/none")
        assert struct.unpack("<4sIQQIIIIQqqq", await sync.take(72))[1] == 2
        await sync.ask(b"LIS2", b"/data/local/tmp")
        entry = await sync.take(76)
        assert (entry[:4], entry[-4:]) == (b"DNT2", b"\x02\0\0\0")
        assert await sync.take(2) == b"v2"
        assert (await sync.take(76))[:4] == b"DONE"
        await sync.ask(b"RCV2", path)
        await sync.send(b"RCV2" + bytes(4))
        assert await sync.take(8 + 3 + 8) == data(b"two") + b"DONE" + bytes(4)


async def test_the_first_version_lists() -> None:
    phone = make_phone()
    async with sync_of(phone) as sync:
        await sync.ask(b"LIST", b"/sdcard/Pictures")
        head = await sync.take(20)
        assert (head[:4], head[-4:]) == (b"DENT", struct.pack("<I", 11))
        assert await sync.take(11) == b"Screenshots"
        assert await sync.take(20) == b"DONE" + bytes(16)


async def failure(sync: Sync) -> str:
    kind, length = struct.unpack("<4sI", await sync.take(8))
    assert kind == b"FAIL"
    return (await sync.take(length)).decode()


async def test_what_fails_is_told_and_the_stream_goes_on() -> None:
    phone = make_phone()
    async with sync_of(phone) as sync:
        await sync.ask(b"RECV", b"/none")
        assert await failure(sync) == "failed to open '/none': No such file or directory"
        await sync.ask(b"SEND", b"/system/bin/x,33188")
        await sync.send(data(b"x") + b"DONE" + bytes(4))
        assert "Read-only file system" in await failure(sync)
        phone.files.reserved_bytes = phone.files.capacity_bytes
        await sync.ask(b"SEND", b"/sdcard/x,33188")
        await sync.send(data(b"x" * 1000) + b"DONE" + bytes(4))
        assert "No space left on device" in await failure(sync)
        assert phone.files.find("/storage/emulated/0/x") is None
        await sync.ask(b"RCV2", b"/sdcard")
        await sync.send(b"RCV2" + struct.pack("<I", 1))
        assert "compression" in await failure(sync)


@pytest.mark.parametrize(
    "request_bytes",
    [b"WHAT" + bytes(4), b"STAT\xff\xff\xff\xff", b"SEND" + struct.pack("<I", 4) + b"/x,1EVIL" + bytes(4)],
)
async def test_a_malformed_request_ends_the_stream_and_not_the_transport(request_bytes: bytes) -> None:
    async with sync_of(make_phone()) as sync:
        await sync.send(request_bytes)
        while not await sync.ended():
            pass
        assert await sync._host.open("shell:echo on", 2) != 0


async def test_quit_closes() -> None:
    async with sync_of(make_phone()) as sync:
        await sync.ask(b"QUIT", b"")
        assert await sync.ended()
