import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from tests.support.backend_thread import SECRET, backend_in_thread
from tests.support.commands import Command, Ran

from muster.cli.main import main
from muster.client.http import MusterClient
from muster.contracts.events import DeviceReport, NodeHeartbeat, envelope
from muster.domain.device import AttachState
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that logs sends its lines to the stderr of its own test, which is closed afterwards."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[str]:
    with backend_in_thread(tmp_path / "data") as url:
        yield url


@pytest.fixture
def muster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process, in a folder and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("MUSTER_URL", "MUSTER_TOKEN", "MUSTER_CONFIG", "NODE_ID", "NODE_AGENT_SHARED_SECRET", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Ran:
        capsys.readouterr()
        status = main(arguments)
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return call


@pytest.fixture
def phones(backend: str) -> list[str]:
    """A node with three phones, one of them offline, as its agent would report it."""
    new_id, now = id_source(SystemClock()), SystemClock().now_ms()
    states = {"PHONE1": AttachState.DEVICE, "PHONE2": AttachState.DEVICE, "PHONE3": AttachState.OFFLINE}
    reports = [
        DeviceReport(
            device_id=name,
            runtime_handle=f"usb:{name}",
            state=state,
            age_ms=0 if state is AttachState.DEVICE else None,
            battery=80,
            last_error_message=None if state is AttachState.DEVICE else "offline\x1b[2J since the cable went",
        )
        for name, state in states.items()
    ]
    heartbeat = NodeHeartbeat(
        node_id="PC-01",
        timestamp=now,
        connected_devices_count=2,
        running_devices_count=0,
        queue_devices_count=0,
        vendor_ws_ok=False,
        agent_version="test",
        outbox_depth=0,
        devices=reports,
    )

    async def report() -> None:
        async with MusterClient(backend, secret=SECRET) as client:
            answer = await client.callback([envelope(new_id(), heartbeat)])
            assert answer.results and answer.results[0].ok

    asyncio.run(report())
    return list(states)
