"""The agent's link over HTTP: how an agent takes its node's seat at the backend (docs/adr/0012)."""

import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.support.scripted_http import Asked, answer, scripted_peer

from muster.agent.http_link import HttpLink
from muster.agent.instance import Instance
from muster.agent.link import LinkRefused
from muster.client.http import MusterClient

NOTHING = answer(200, b'{"commands": []}')
SOMETHING = answer(200, json.dumps({"commands": [{"type": "x"}]}).encode())


def asked_for(asked: Asked) -> tuple[str, str | None]:
    """How long to wait, and which other one it replaces."""
    query = parse_qs(urlsplit(asked.target).query)
    others = [name for name in query.get("replaces", []) if name not in query["instance_id"]]
    return query["wait_ms"][0], others[0] if others else None


def link(client: MusterClient, folder: Path, name: str) -> HttpLink:
    return HttpLink(client, node_id="PC-01", instance=Instance(folder / "instance", name), upload_timeout_sec=1)


async def test_an_agent_that_is_killed_while_its_first_poll_waits_is_known_to_its_successor(tmp_path: Path) -> None:
    async with scripted_peer([NOTHING]) as peer, MusterClient(peer.url) as client:
        await link(client, tmp_path, "one").pull(25_000)
        await link(client, tmp_path, "two").pull(25_000)
    assert [asked_for(asked) for asked in peer.asked] == [("0", None), ("25000", None), ("0", "one"), ("25000", None)]


async def test_work_that_waits_is_taken_with_the_seat(tmp_path: Path) -> None:
    async with scripted_peer([SOMETHING]) as peer, MusterClient(peer.url) as client:
        taking = link(client, tmp_path, "one")
        assert len((await taking.pull(25_000)).commands) == 1
        await taking.pull(25_000)
    assert [wait for wait, _ in map(asked_for, peer.asked)] == ["0", "25000"]


async def test_one_that_is_refused_the_seat_is_nobody_to_follow(tmp_path: Path) -> None:
    refused = answer(
        409,
        b'{"type": "urn:muster:problem:x", "title": "Taken", "status": 409}',
        content_type="application/problem+json",
    )
    async with scripted_peer([refused]) as peer, MusterClient(peer.url) as client:
        with pytest.raises(LinkRefused):
            await link(client, tmp_path, "one").pull(25_000)
    assert [wait for wait, _ in map(asked_for, peer.asked)] == ["0"]
    assert Instance(tmp_path / "instance", "two").replaces is None
