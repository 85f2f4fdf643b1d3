"""Phones for the adb benchmark: adbd of the virtual rack with two fixed answers and no think time, in one process.

The rack's own shell is left out on purpose: on two cores its interpreter would be measured along with the clients.
"""

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable

import uvloop

from muster.sim.adbd.connection import Service, Stream
from muster.sim.adbd.daemon import AdbDaemon

BANNER = b"device::ro.product.name=bench;ro.product.model=Bench;ro.product.device=bench;features=shell_v2,cmd"
PICTURE_BYTES = 299_990
PIECE_BYTES = 64 * 1024
"""adbd frames what one read of the program's socket pair gives, 1 MiB at most (its shell_service.cpp); a `screencap`
that writes its PNG while it encodes it never has so much waiting. Smaller pieces cost every client more, and the server
most."""
Send = Callable[[bytes], Awaitable[None]]


def picture() -> bytes:
    """What `screencap -p` gives: a PNG's signature, incompressible bytes, a PNG's end."""
    head, tail = b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x00IEND\xaeB`\x82"
    return head + random.Random(1).randbytes(PICTURE_BYTES - len(head) - len(tail)) + tail


def serial_number(index: int) -> str:
    """`ro.serialno` of the phone at `index`."""
    return f"BENCH{index:05d}"


class FixedPhone:
    """Answers `getprop ro.serialno` and `screencap -p`, over `shell` v1, `shell,v2` and `exec`."""

    def __init__(self, index: int, shot: bytes) -> None:
        self._answers = {"getprop ro.serialno": f"{serial_number(index)}\n".encode(), "screencap -p": shot}
        self.daemon = AdbDaemon(
            rng=random.Random(index), keys=None, banner=lambda: BANNER, find_service=self.find_service
        )

    def find_service(self, name: str) -> Service | None:
        """The service of one stream."""
        head, _, command = name.partition(":")
        answer = self._answers.get(command.strip("'"))
        if answer is None:
            return None
        return lambda stream: self._serve(stream, answer, framed=",v2" in head)

    async def _serve(self, stream: Stream, answer: bytes, *, framed: bool) -> None:
        for at in range(0, len(answer), PIECE_BYTES):
            piece = answer[at : at + PIECE_BYTES]
            await stream.write(b"\x01" + len(piece).to_bytes(4, "little") + piece if framed else piece)
        if framed:
            await stream.write(b"\x03\x01\x00\x00\x00\x00")


async def serve(count: int) -> None:
    """Starts `count` phones, prints their addresses and serves until standard input ends."""
    shot = picture()
    phones = [FixedPhone(index, shot) for index in range(count)]
    for phone in phones:
        await phone.daemon.start()
    print(json.dumps([phone.daemon.address for phone in phones]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for phone in phones:
        await phone.daemon.close()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
