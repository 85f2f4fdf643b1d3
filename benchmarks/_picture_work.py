"""What a node's pictures themselves cost: taken, checked, written and sent as the agent does it, with nothing around.

A process of its own, so that its CPU is only this. Prints CPU seconds for each of the four.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import uvloop

from muster.adb.client import AdbClient
from muster.agent.executor.pictures import whole_png_in_thread
from muster.agent.picture_files import ON_DISK
from muster.client.http import MusterClient
from muster.contracts.api import UploadRequest

DECODERS = 2
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class PictureJob:
    """What the parent asks for: a picture for each task, `at_once` at a time."""

    url: str
    secret: str
    adb_server: tuple[str, int]
    task_ids: Sequence[str]
    at_once: int


@dataclass(frozen=True)
class PictureCost:
    """CPU seconds of this process for all `pictures`, threads included."""

    pictures: int
    megabytes: float
    taken: float
    checked: float
    written: float
    sent: float

    @property
    def each(self) -> float:
        """CPU seconds of one picture."""
        return (self.taken + self.checked + self.written + self.sent) / self.pictures


async def _measure(job: PictureJob, folder: Path) -> PictureCost:
    adb = AdbClient(*job.adb_server)
    serials = [device.serial for device in await adb.devices() if device.state.value == "device"]
    async with MusterClient(job.url, secret=job.secret) as client:

        async def send(shot: tuple[str, Path, str]) -> None:
            task_id, path, sha256 = shot
            size, now = path.stat().st_size, int(time.time() * 1000)
            request = UploadRequest(task_id=task_id, step_id="again", taken_at=now, sha256=sha256, size=size)
            await client.put_object(await client.request_upload(request), path)

        names = [serials[number % len(serials)] for number in range(len(job.task_ids))]
        shots, taken = await _timed(adb.screencap, names, job.at_once)
        checked_shots, checked = await _timed(whole_png_in_thread, shots, DECODERS)
        places = [folder / f"{number}.png" for number in range(len(shots))]
        hashes, written = await _timed(
            lambda pair: ON_DISK.write(*pair), list(zip(places, checked_shots, strict=True)), job.at_once
        )
        _, sent = await _timed(send, list(zip(job.task_ids, places, hashes, strict=True)), job.at_once)
    return PictureCost(len(shots), sum(map(len, shots)) / 1e6, taken, checked, written, sent)


async def _timed(work: Callable[[T], Awaitable[U]], items: Sequence[T], at_once: int) -> tuple[list[U], float]:
    """The results in order, and the CPU seconds that they took."""
    slots = asyncio.Semaphore(at_once)

    async def one(item: T) -> U:
        async with slots:
            return await work(item)

    before = time.process_time()
    results = await asyncio.gather(*(one(item) for item in items))
    return results, time.process_time() - before


def main() -> None:
    """The job comes as JSON on standard input, for it holds the node's secret."""
    told = json.loads(sys.stdin.read())
    job = PictureJob(**{**told, "adb_server": tuple(told["adb_server"])})
    with tempfile.TemporaryDirectory(prefix="muster-pictures-") as folder:
        print(json.dumps(asdict(uvloop.run(_measure(job, Path(folder))))))


if __name__ == "__main__":
    main()
