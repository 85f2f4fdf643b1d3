"""The virtual rack: what 100 phones cost one process at rest, and 1,000 phones in four processes on two adb servers.

Each rack is `muster sim`, a process of its own, as a user starts it; vendor tool and control API are open too.
"""

import asyncio
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks._claims import judge
from muster.adb.client import AdbClient
from muster.adb.server import AdbServer, ensure_server

PHONES = 100
RSS_CLAIM_MB = 150.0
CPU_CLAIM_PERCENT = 5.0
SETTLE_SEC = 2.0
IDLE_SEC = 10.0
MANY_PROCESSES = 4
MANY_PER_PROCESS = 250
SERVERS = 2
AT_ONCE = 20
START_SEC_MAX = 180.0
MB = 1e6
T = TypeVar("T")


@dataclass(frozen=True)
class RunningRack:
    """A rack process that is ready."""

    process: psutil.Process
    adb_port: int
    start_sec: float


def main() -> int:
    """0 when every claim is met."""
    return max(asyncio.run(_hundred()), asyncio.run(_thousand()))


async def _hundred() -> int:
    with tempfile.TemporaryDirectory(prefix="muster-rack-") as folder:
        async with _rack(PHONES, seed=1, adb_port=0, folder=Path(folder)) as rack:
            await asyncio.sleep(SETTLE_SEC)
            before, start = _cpu_sec(rack.process), time.monotonic()
            await asyncio.sleep(IDLE_SEC)
            percent = 100 * (_cpu_sec(rack.process) - before) / (time.monotonic() - start)
            resting = rack.process.memory_info().rss / MB
            await _take_pictures(AdbClient("127.0.0.1", rack.adb_port))
            after = rack.process.memory_info().rss / MB
    print(f"{PHONES} phones online in {rack.start_sec:.1f} s; resident after a picture of each: {after:.0f} MB")
    return max(
        judge("resident at rest", resting, RSS_CLAIM_MB, "MB"),
        judge("CPU when idle", percent, CPU_CLAIM_PERCENT, "% of a core"),
    )


async def _thousand() -> int:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-racks-")))
        servers = [await stack.enter_async_context(_server(folder / f"adb{index}")) for index in range(SERVERS)]
        racks = [
            await stack.enter_async_context(
                _rack(MANY_PER_PROCESS, seed=seed, adb_port=servers[seed % SERVERS].port, folder=folder / f"rack{seed}")
            )
            for seed in range(MANY_PROCESSES)
        ]
        resident = sum(rack.process.memory_info().rss for rack in racks) / MB
        start = time.monotonic()
        names = [name for server in servers for name in await _serial_numbers(server.client())]
        rate = len(names) / (time.monotonic() - start)
    wanted = MANY_PROCESSES * MANY_PER_PROCESS
    print(f"{MANY_PROCESSES} processes, {resident:.0f} MB together; getprop of each: {rate:.0f}/s, {AT_ONCE} at once")
    assert len(names) == len(set(names)), "each phone is known to one server, under one name"
    return judge(f"different phones that answer on {SERVERS} adb servers", len(names), wanted, "phones", is_least=True)


@asynccontextmanager
async def _server(home: Path) -> AsyncIterator[AdbServer]:
    server = await ensure_server("127.0.0.1", 0, private=True, home=home)
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def _rack(devices: int, *, seed: int, adb_port: int, folder: Path) -> AsyncIterator[RunningRack]:
    arguments = ["--devices", str(devices), "--seed", str(seed), "--adb-server", f"127.0.0.1:{adb_port}"]
    arguments += ["--vendor-port", "0", "--control-port", "0", "--latency", "none", "--data", str(folder)]
    start = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "muster",
        "sim",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(START_SEC_MAX):
            port = await _ready_port(process)
        yield RunningRack(psutil.Process(process.pid), port, time.monotonic() - start)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _ready_port(process: asyncio.subprocess.Process) -> int:
    """The adb server's port from the ready line; whatever else is said meanwhile is shown."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if found := re.search(r"muster sim ready: .*adb server 127\.0\.0\.1:(\d+)", line):
            return int(found[1])
        print(line, end="", file=sys.stderr)
    raise RuntimeError("the rack ended before it was ready")


async def _take_pictures(client: AdbClient) -> None:
    await _each(client, client.screencap)


async def _serial_numbers(client: AdbClient) -> list[str]:
    results = await _each(client, lambda serial: client.shell(serial, "getprop ro.serialno"))
    return [result.stdout.decode().strip() for result in results]


async def _each(client: AdbClient, work: Callable[[str], Awaitable[T]]) -> list[T]:
    """Does `work` for the serial of every phone that is `device`, some at a time."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(serial: str) -> T:
        async with slots:
            return await work(serial)

    serials = [device.serial for device in await client.devices() if device.state.value == "device"]
    return await asyncio.gather(*(one(serial) for serial in serials))


def _cpu_sec(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
