"""The agent's own address, as an operator's tools use it: figures against the records, health against the facts."""

import asyncio
import json
import sqlite3
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.support.processes import run_muster
from tests.support.scraped import Scraped
from tests.support.whole_rack import WholeRack, whole_rack

from muster.adb.binary import find_adb
from muster.sim.main import RackSettings
from muster.sim.states import PhoneState, set_state

pytestmark = [pytest.mark.system, pytest.mark.timeout(300), pytest.mark.xdist_group("processes")]
WORKFLOW: dict[str, Any] = {
    "workflow_id": "mixed",
    "defaultOnFailure": "continue",
    "steps": [
        {"id": "look", "kind": "adb", "command": "getprop ro.serialno"},
        {"id": "no", "kind": "adb", "command": "false"},
        {"id": "shot", "kind": "screenshot"},
        {"id": "keep", "kind": "upload", "source": "shot"},
    ],
}
SECONDS = "muster_agent_step_seconds_count"


def get(url: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Asked:
    """The agent's pages."""

    def __init__(self, whole: WholeRack) -> None:
        self.address = whole.folder / "node" / "agent" / "address"
        self.url = self.address.read_text().strip()

    async def scrape(self) -> Scraped:
        return Scraped.of((await asyncio.to_thread(get, f"{self.url}/metrics"))[1])

    async def health(self) -> tuple[int, list[str]]:
        status, body = await asyncio.to_thread(get, f"{self.url}/healthz")
        return status, [reason["reason"] for reason in json.loads(body)["reasons"]]

    async def until(self, holds: Callable[[tuple[int, list[str]]], bool]) -> None:
        seen: object = None
        try:
            async with asyncio.timeout(60):
                while not holds(seen := await self.health()):  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"health stays {seen}") from None


async def kill_adb_server(whole: WholeRack) -> None:
    port = str(whole.rack.adb_address[1])
    killer = await asyncio.create_subprocess_exec(
        str(find_adb()), "-P", port, "kill-server", stderr=asyncio.subprocess.DEVNULL
    )
    assert await killer.wait() == 0


async def doctor(whole: WholeRack, vendor_url: str) -> dict[str, tuple[str, str]]:
    """What it says of this agent's PC, beside the agent at work: verdict and advice of each check."""
    places = ["--data", str(whole.folder / "node"), "--url", whole.client.base_url]
    places += ["--adb-server", "{}:{}".format(*whole.rack.adb_address), "--vendor-url", vendor_url]
    ran = await run_muster("doctor", "--node", *places, "--json", cwd=whole.folder)
    assert ran.status == 0, ran.stdout
    return {found["check"]: (found["verdict"], found["advice"]) for found in json.loads(ran.stdout)}


async def ill(whole: WholeRack, vendor_url: str, expected: set[str]) -> set[str]:
    """What the doctor finds wrong. Who answers too late for it on a busy machine is asked again."""
    for _ in range(3):
        found = {check for check, (verdict, _) in (await doctor(whole, vendor_url)).items() if verdict != "ok"}
        if found == expected:
            break
    return found


async def test_figures_are_those_of_the_records_and_health_tells_what_is_gone(tmp_path: Path) -> None:
    settings = RackSettings(devices=5, latency="none", control_port=None, data_dir=tmp_path / "sim")
    async with whole_rack(tmp_path, settings, WORKFLOW, slots=2) as whole:
        asked, vendor_url = Asked(whole), whole.rack.vendor_url or "none"
        assert await asked.health() == (200, [])
        await set_state(whole.phones[0], PhoneState.UNAUTHORIZED, whole.rack)
        run = await whole.ended(await whole.start("mixed"))
        scraped = await asked.scrape()
        backend_says = Counter((task.status.value, task.failure_reason or "") for task in run.tasks)
        with closing(sqlite3.connect(asked.address.with_name("journal.sqlite3"))) as journal:
            rows = journal.execute("SELECT state, COALESCE(failure_reason, '') FROM tasks").fetchall()
        ended = scraped.of_name("muster_agent_tasks_ended_total")
        assert ended == {f"reason={why},status={how}": number for (how, why), number in Counter(rows).items()}
        assert Counter(rows) == backend_says, "journal and backend have the same record"
        tried = {"adb,status=completed": 4, "adb,status=failed": 4, "screenshot,status=completed": 4}
        assert {f"kind={kind}": number for kind, number in tried.items()}.items() <= scraped.of_name(SECONDS).items()
        assert scraped["muster_agent_uploads_total{result=ok}"] == 4
        assert scraped["muster_agent_upload_bytes_total"] == sum(
            path.stat().st_size for path in (tmp_path / "backend" / "objects").rglob("*.png")
        )
        assert scraped["muster_agent_slot_refill_seconds_count"] == 3, "five phones, two slots"
        assert abs(scraped["muster_agent_clock_skew_seconds"]) < 60, "the same clock, read by two busy processes"

        assert await ill(whole, vendor_url, {"phones"}) == {"phones"}, "the unauthorized one"
        await kill_adb_server(whole)
        await asked.until(lambda seen: seen == (503, ["adb_gone"]))
        await asked.until(lambda seen: seen == (200, []))
        assert whole.rack.vendor is not None
        await whole.rack.vendor.stop()
        await asked.until(lambda seen: seen == (200, ["vendor_gone"]))
        verdict, advice = (await doctor(whole, vendor_url))["agent"]
        assert (verdict, "--vendor-url none" in advice) == ("warning", True)
        scraped = await asked.scrape()
        assert scraped["muster_agent_adb_server_restarts_total"] == 1
        assert scraped["muster_agent_vendor_up"] == 0
        assert whole.logged("Not well")[0]["trouble"] == "adb_gone"
    assert not asked.address.exists()
