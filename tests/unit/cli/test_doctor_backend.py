"""`muster doctor` and the backend: there or not, which, with what clock, and whether it takes the node's secret."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.support.backend_thread import SECRET
from tests.support.scripted_http import answer, scripted_peer

from muster.cli.check_backend import backend_address, check_backend, check_nodes, check_secret
from muster.cli.finding import Finding
from muster.client.http import MusterClient
from muster.contracts.events import NodeHeartbeat, NodeTrouble, envelope
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source
from muster.runtime.settings import Settings, load_settings

READY = answer(200, b'{"status": "ready"}')


def settings(url: str, **variables: Any) -> Settings:
    return load_settings({"MUSTER_URL": url, **variables}, {}, Path("nowhere"))


def health(*, ahead_sec: float = 0.0, **fields: Any) -> bytes:
    """What a backend's `/healthz` answers whose clock is so far ahead."""
    now = SystemClock().now_ms() + round(ahead_sec * 1000)
    return answer(200, json.dumps({"status": "ok", "version": "0.1.0", "now": now} | fields).encode())


async def told(*answers: bytes) -> dict[str, Finding]:
    async with scripted_peer(answers) as peer:
        return {finding.check: finding for finding in await check_backend(settings(peer.url))}


async def test_a_real_backend_is_well_and_so_is_its_clock(backend: str) -> None:
    backend_found, clock = await check_backend(settings(backend))
    assert (backend_found.verdict, clock.verdict) == ("ok", "ok")
    assert backend_found.detail.startswith(f"{backend} is ready, version ")


@pytest.mark.parametrize(("ahead_sec", "side"), [(95.0, "95 s behind"), (-3600.0, "3600 s ahead of")])
async def test_a_wrong_clock_is_told_with_its_side(ahead_sec: float, side: str) -> None:
    found = (await told(health(ahead_sec=ahead_sec), READY))["clock"]
    assert found.verdict == "warning"
    assert f"this PC is {side} the backend" in found.detail
    assert "NTP" in found.advice


@pytest.mark.parametrize("ahead_sec", [8.0, -8.0])
async def test_a_clock_that_is_a_little_off_is_well(ahead_sec: float) -> None:
    assert (await told(health(ahead_sec=ahead_sec), READY))["clock"].verdict == "ok"


async def test_a_backend_of_an_older_version_tells_no_time_and_that_is_no_fault() -> None:
    found = await told(answer(200, b'{"status": "ok"}'), READY)
    assert {check: finding.verdict for check, finding in found.items()} == {"backend": "ok"}


async def test_another_version_is_told_with_the_order_of_upgrades() -> None:
    found = (await told(health(version="9.9.9"), READY))["backend"]
    assert (found.verdict, "9.9.9" in found.detail) == ("warning", True)
    assert found.advice == "upgrade nodes first, then the backend"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((answer(404, b"nothing here", content_type="text/plain"),), "is no Muster backend"),
        ((answer(200, b"<html>a router's page</html>", content_type="text/html"),), "not a HealthAnswer"),
        ((health(), answer(503, b'{"type": "x", "title": "The store is away", "status": 503}')), "The store is away"),
    ],
)
async def test_what_is_no_backend_or_not_ready_is_bad(answers: tuple[bytes, ...], words: str) -> None:
    found = (await told(*answers))["backend"]
    assert (found.verdict, bool(found.advice)) == ("bad", True)
    assert words in found.detail


async def test_nobody_there_is_told_once_by_the_backends_check_alone() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        away = settings(f"http://127.0.0.1:{probe.getsockname()[1]}", NODE_AGENT_SHARED_SECRET=SECRET)
    assert [finding.verdict for finding in await check_backend(away)] == ["bad"]
    assert [*await check_secret(away), *await check_nodes(away)] == []


async def test_the_secret_is_tried_on_a_real_backend_and_changes_nothing(backend: str, tmp_path: Path) -> None:
    (right,) = await check_secret(settings(backend, NODE_AGENT_SHARED_SECRET=SECRET))
    assert (right.verdict, right.advice) == ("ok", "")
    (wrong,) = await check_secret(settings(backend, NODE_AGENT_SHARED_SECRET="not-the-secret"))
    assert (wrong.verdict, wrong.detail) == ("bad", "the backend refuses it")
    assert "NODE_AGENT_SHARED_SECRET" in wrong.advice
    (none,) = await check_secret(settings(backend, MUSTER_DATA=tmp_path / "empty"))
    assert none.verdict == "warning"
    async with MusterClient(backend) as client:
        assert (await client.nodes()).nodes == []


async def test_the_agents_backend_is_asked_when_no_other_is_named() -> None:
    assert backend_address(load_settings({"BACKEND_URL": "http://a"}, {}, Path("nowhere"))) == "http://a"
    assert backend_address(settings("http://b", BACKEND_URL="http://a")) == "http://b"
    assert backend_address(load_settings({}, {}, Path("nowhere"))) == "http://127.0.0.1:8700"


async def beat(client: MusterClient, node_id: str, *, ahead_ms: int = 0, **fields: Any) -> None:
    now = SystemClock().now_ms()
    counts = dict.fromkeys(("connected_devices_count", "running_devices_count", "queue_devices_count"), 0)
    heartbeat = NodeHeartbeat(
        node_id=node_id, timestamp=now + ahead_ms, vendor_ws_ok=True, agent_version="0.1.0", outbox_depth=0, devices=[],
        **counts, **fields,
    )  # fmt: skip
    await client.callback([envelope(id_source(SystemClock())(), heartbeat)])


async def test_nodes_that_need_somebody_are_told_one_by_one(backend: str) -> None:
    (nobody,) = await check_nodes(settings(backend))
    assert (nobody.verdict, nobody.detail) == ("warning", "none has reported yet")
    async with MusterClient(backend, secret=SECRET) as client:
        await beat(client, "PC-01")
        full = NodeTrouble(reason="disk_full", message="12 MB are free", stops_work=True)
        await beat(client, "PC-02", degraded=True, troubles=[full], dead_letters=1)
        await beat(client, "PC-03", ahead_ms=-95_000)
        await client.pull("PC-04", "one", 0)
    well, *ill = await check_nodes(settings(backend))
    assert (well.verdict, well.detail) == ("ok", "PC-01 online")
    assert [(finding.detail, finding.verdict) for finding in ill] == [
        ("PC-02 degraded, 12 MB are free, 1 event refused for good", "warning"),
        ("PC-03 online, has a wrong clock (-95 s)", "warning"), ("PC-04 offline", "warning"),
    ]  # fmt: skip
    assert all(finding.advice for finding in ill)
    (own,) = await check_nodes(settings(backend, NODE_ID="PC-01"))
    assert own.verdict == "ok", "the others are not this PC's trouble"
