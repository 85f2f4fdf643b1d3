"""`muster agent` as it is, but for its phones' locks: they note when each was given back and taken.

A slot's release and the next start are one call in the agent: the lock of the phone that was served is given back, the
lock of the next phone is taken. When the agent has ended, the notes are in `LOCK_TIMES` in its data folder.
"""

import argparse
import asyncio
import json
import os
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from muster.agent.composition import Agent, AgentSettings
from muster.agent.main import open_ports
from muster.agent.scheduler.loop import DeviceLocks
from muster.agent.secrets import NO_SECRETS
from muster.cli.parts import SECRET_VARIABLE, VENDOR_VARIABLE
from muster.cli.serve import announce
from muster.cli.service import run_service
from muster.runtime.logs import configure_logs

LOCK_TIMES = "lock-times.json"


class NotingLocks:
    """`DeviceLocks` that pass everything on. `notes`: (monotonic seconds, what, device_id)."""

    def __init__(self, locks: DeviceLocks) -> None:
        self._locks = locks
        self.notes: list[tuple[float, str, str]] = []

    def acquire(self, device_id: str) -> bool:
        """Notes the moment when it has it."""
        began = time.monotonic()
        acquired = self._locks.acquire(device_id)
        if acquired:
            self.notes.append((began, "taken", device_id))
        return acquired

    def release(self, device_id: str) -> None:
        """Notes the moment before."""
        self.notes.append((time.monotonic(), "released", device_id))
        self._locks.release(device_id)

    def why_refused(self, device_id: str) -> str:
        """Passed on."""
        return self._locks.why_refused(device_id)


def main() -> None:
    """Takes the arguments and variables that `agent_plan` gives, and runs until its standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["agent"])
    for name in ("--backend", "--node-id", "--data", "--adb-server", "--concurrency"):
        parser.add_argument(name, required=True)
    parser.add_argument("--stop-on-eof", action="store_true", required=True)
    given = parser.parse_args()
    host, _, port = given.adb_server.rpartition(":")
    settings = AgentSettings(
        backend_url=given.backend,
        node_id=given.node_id,
        data_dir=Path(given.data),
        secret=os.environ[SECRET_VARIABLE],
        adb_server=(host, int(port)),
        vendor_url=None if (vendor_url := os.environ[VENDOR_VARIABLE]) == "none" else vendor_url,
        concurrency=int(given.concurrency),
    )
    configure_logs()
    run_service(lambda: _run(settings), stop_on_eof=True)


async def _run(settings: AgentSettings) -> None:
    async with AsyncExitStack() as stack:
        ports = await open_ports(settings, NO_SECRETS, stack)
        locks = NotingLocks(ports.locks)
        try:
            await Agent(settings, replace(ports, locks=locks)).run(announce)
        finally:
            text = json.dumps(locks.notes)
            await asyncio.to_thread((settings.data_dir / LOCK_TIMES).write_text, text)


if __name__ == "__main__":
    main()
