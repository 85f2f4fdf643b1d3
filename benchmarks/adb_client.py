"""Our adb client against the adb CLI and adbutils: 100 phones, 20 commands at once, one real adb server.

Each client is a process of its own; rounds are interleaved and their order rotates, so that what else the machine does
falls on all alike. Ratios are taken within a round, and their median counts.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

from benchmarks._adb_clients import CLIENTS, CONCURRENCY, Cost, Job
from benchmarks._claims import judge
from muster.adb.binary import find_adb
from muster.adb.client import AdbClient
from muster.adb.server import ensure_server

PHONES = 100
ROUNDS = 5
SECONDS = 1.5
WORKLOADS = ("getprop", "screencap")
RATE, CPU = "throughput", "CPU a command"
BASE, OURS = "adb CLI", "muster + uvloop"
CLIENT_TIMEOUT_SEC = 60.0


class BenchmarkFailed(Exception):
    """No figures, because something did not work at all."""


Costs = dict[tuple[str, str], list[Cost]]
CLAIMS = (
    # workload, what, limit: at least for throughput, at most for CPU; both against the adb CLI
    ("getprop", RATE, 3.5),
    ("screencap", RATE, 2.5),
    ("getprop", CPU, 1 / 3),
    ("screencap", CPU, 1 / 3),
)


def main() -> int:
    """0 when every claim is met."""
    try:
        costs = asyncio.run(measure())
    except BenchmarkFailed as error:
        print(f"failed: {error}")
        return 1
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {PHONES} phones, {CONCURRENCY} at once, "
        f"median of {ROUNDS} rounds of {SECONDS:g} s; CPU = client + adb server"
    )
    for workload in WORKLOADS:
        _tell(workload, costs)
    return max([_judge(costs, *claim) for claim in CLAIMS])


async def measure() -> Costs:
    """Every client under every workload in every round."""
    costs: Costs = {(client, workload): [] for client in CLIENTS for workload in WORKLOADS}
    server = await ensure_server(port=0, private=True)
    assert server.pid is not None
    try:
        async with _phones() as serials:
            await _connect_all(server.client(), serials)
            for number in range(ROUNDS):
                for workload in WORKLOADS:
                    for client in _rotated(list(CLIENTS), number):
                        job = Job(client, workload, server.port, server.pid, str(find_adb()), serials, SECONDS)
                        costs[client, workload].append(await _run_client(job))
    finally:
        await server.stop()
    return costs


@asynccontextmanager
async def _phones() -> AsyncIterator[list[str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks._adb_phones", str(PHONES),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def _connect_all(client: AdbClient, serials: list[str]) -> None:
    gate = asyncio.Semaphore(CONCURRENCY)

    async def connect(serial: str) -> None:
        async with gate:
            result = await client.connect(serial)
        if not result.is_connected:
            raise BenchmarkFailed(f"could not attach {serial}: {result.message}")

    await asyncio.gather(*(connect(serial) for serial in serials))


async def _run_client(job: Job) -> Cost:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks._adb_clients", json.dumps(asdict(job)), stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(CLIENT_TIMEOUT_SEC):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise BenchmarkFailed(f"the client {job.client} ended with status {process.returncode}")
    cost = Cost(**json.loads(told))
    if cost.wrong:
        raise BenchmarkFailed(f"{cost.wrong} of {cost.commands} answers of {job.client} were wrong")
    return cost


def _rotated(names: list[str], by: int) -> list[str]:
    by %= len(names)
    return names[by:] + names[:by]


def _value(cost: Cost, what: str) -> float:
    return cost.commands / cost.seconds if what == RATE else cost.cpu_sec / cost.commands


def _ratios(costs: Costs, client: str, workload: str, what: str) -> list[float]:
    """The client against the CLI, round by round."""
    pairs = zip(costs[client, workload], costs[BASE, workload], strict=True)
    return [_value(ours, what) / _value(base, what) for ours, base in pairs]


def _tell(workload: str, costs: Costs) -> None:
    print(f"\n{workload:<18}{'commands/s':>12}{'× CLI':>8}{'(range)':>14}{'CPU ms':>9}{'× CLI':>8}")
    for client in CLIENTS:
        rate, cpu = (statistics.median(_value(cost, what) for cost in costs[client, workload]) for what in (RATE, CPU))
        faster, cheaper = (_ratios(costs, client, workload, what) for what in (RATE, CPU))
        spread = f"({min(faster):.1f}–{max(faster):.1f})"
        print(
            f"{client:<18}{rate:>12.0f}{statistics.median(faster):>8.2f}{spread:>14}"
            f"{cpu * 1000:>9.2f}{statistics.median(cheaper):>8.2f}"
        )


def _judge(costs: Costs, workload: str, what: str, limit: float) -> int:
    ratio = statistics.median(_ratios(costs, OURS, workload, what))
    return judge(f"{OURS}, {workload}: {what}", ratio, limit, f"× {BASE}", is_least=what == RATE)
