"""One client of the adb benchmark in a process of its own: loads the server for a while and prints what it cost."""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

import psutil

from benchmarks._adb_phones import picture, serial_number

CONCURRENCY = 20
GETPROP = "getprop ro.serialno"
SCREENCAP = "screencap -p"
Command = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True)
class Job:
    """What the parent asks for."""

    client: str
    workload: str
    port: int
    server_pid: int
    adb: str
    serials: list[str]
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What one client did in one round. CPU is client, its children and the adb server together."""

    commands: int
    wrong: int
    seconds: float
    cpu_sec: float


def cpu_sec(server_pid: int) -> float:
    """CPU seconds of this process, its ended children and the adb server until now."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    server = psutil.Process(server_pid).cpu_times()
    return float(sum(usage.ru_utime + usage.ru_stime for usage in own) + server.user + server.system)


async def load(job: Job, command: Command) -> Cost:
    """CONCURRENCY workers walk over the phones for `job.seconds`, after one round over all phones as warm-up."""
    shot = picture()
    expected = [
        shot if job.workload == "screencap" else serial_number(index).encode() for index in range(len(job.serials))
    ]
    numbers, done, wrong, deadline = count(), 0, 0, 0.0

    async def work(stop: Callable[[int], bool]) -> None:
        nonlocal done, wrong
        while not stop(number := next(numbers)):
            index = number % len(job.serials)
            answer = await command(job.serials[index])
            done += 1
            wrong += answer != expected[index] and answer.strip() != expected[index]

    async def workers(stop: Callable[[int], bool]) -> None:
        await asyncio.gather(*(work(stop) for _ in range(CONCURRENCY)))

    await workers(lambda number: number >= len(job.serials))
    done, cpu_before, began = 0, cpu_sec(job.server_pid), time.perf_counter()
    deadline = began + job.seconds
    await workers(lambda _: time.perf_counter() >= deadline)
    return Cost(done, wrong, time.perf_counter() - began, cpu_sec(job.server_pid) - cpu_before)


async def with_cli(job: Job) -> Cost:
    """The adb program, a process a command, as most tools do it."""
    words = ["exec-out", SCREENCAP] if job.workload == "screencap" else ["shell", GETPROP]

    async def command(serial: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            job.adb, "-P", str(job.port), "-s", serial, *words, stdout=asyncio.subprocess.PIPE
        )
        stdout, _ = await process.communicate()
        return stdout

    return await load(job, command)


async def with_adbutils(job: Job) -> Cost:
    """The adbutils library, a thread a command."""
    import adbutils  # noqa: PLC0415 - only this client pays for it

    client = adbutils.AdbClient("127.0.0.1", job.port)
    line = SCREENCAP if job.workload == "screencap" else GETPROP
    with ThreadPoolExecutor(CONCURRENCY) as threads:

        async def command(serial: str) -> bytes:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(threads, lambda: client.device(serial).shell(line, encoding=None))
            return bytes(answer)

        return await load(job, command)


async def with_muster(job: Job) -> Cost:
    """Our own client."""
    from muster.adb.client import AdbClient  # noqa: PLC0415 - only this client pays for it

    client = AdbClient("127.0.0.1", job.port)

    async def getprop(serial: str) -> bytes:
        return (await client.shell(serial, GETPROP)).stdout

    return await load(job, client.screencap if job.workload == "screencap" else getprop)


CLIENTS: dict[str, Callable[[Job], Coroutine[Any, Any, Cost]]] = {
    "adb CLI": with_cli,
    "adbutils": with_adbutils,
    "muster": with_muster,
    "muster + uvloop": with_muster,
}


def run(job: Job) -> Cost:
    """Runs the job's client in the event loop that it is named for."""
    work = CLIENTS[job.client](job)
    if job.client.endswith("uvloop"):
        import uvloop  # noqa: PLC0415 - only this client pays for it

        return uvloop.run(work)
    return asyncio.run(work)


if __name__ == "__main__":
    print(json.dumps(asdict(run(Job(**json.loads(sys.argv[1]))))))
