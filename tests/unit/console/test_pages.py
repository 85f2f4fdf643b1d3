"""The pages as a browser without JavaScript sees them."""

import re
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from tests.support.manual_clock import ManualClock
from tests.support.runs import MemoryRuns, uid

from muster.backend.console.assets import FOLDER
from muster.backend.console.pages import console_router
from muster.contracts.api import NodeStatus, NodeView
from muster.contracts.events import NodeTrouble
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState


@pytest.fixture
def runs() -> MemoryRuns:
    return MemoryRuns(ManualClock())


@pytest.fixture
async def http(runs: MemoryRuns) -> AsyncIterator[httpx2.AsyncClient]:
    app = FastAPI()
    app.include_router(console_router(runs, runs.node_views))
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://console") as client:
        yield client


def text_of(html: str) -> str:
    body = re.sub(r"<(script|dialog|svg).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def finish(runs: MemoryRuns, run_id: str, status: TaskState) -> None:
    for task in runs.tasks(run_id):
        runs.move(run_id, task.device_id, status)


async def test_the_root_leads_to_the_runs(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")


async def test_an_empty_list_tells_what_to_do(http: httpx2.AsyncClient) -> None:
    page = text_of((await http.get("/runs")).text)
    assert "No runs yet" in page
    assert "muster run start login_settings_screenshot_v1 --watch" in page


async def test_the_list_shows_failed_and_running_first_with_counts_per_state(
    http: httpx2.AsyncClient, runs: MemoryRuns
) -> None:
    done, failed, running = (runs.add(name, devices=2, workflow_name=name) for name in ("Done", "Broken", "Busy"))
    finish(runs, done, TaskState.SUCCEEDED)
    finish(runs, failed, TaskState.FAILED)
    runs.move(running, "SIM-0001", TaskState.RUNNING)
    html = (await http.get("/runs")).text
    assert re.findall(r'<tr id="run-(\S+)"', html) == [failed, running, done]
    assert "Failed 1" in text_of(html)
    assert "Completed 1" in text_of(html)
    assert "2 / 2" in text_of(html)


async def test_a_state_filter_lives_in_the_address_and_keeps_all_counts(
    http: httpx2.AsyncClient, runs: MemoryRuns
) -> None:
    done, queued = runs.add("done", devices=1), runs.add("queued", devices=1)
    finish(runs, done, TaskState.SUCCEEDED)
    html = (await http.get("/runs?status=completed")).text
    assert re.findall(r'<tr id="run-(\S+)"', html) == [done]
    assert queued not in html
    assert "Queued 1" in text_of(html)
    assert re.search(r'data-s="completed" href="/runs" aria-pressed="true"', html)
    assert 'href="/runs?status=completed&amp;status=queued"' in html


async def test_a_filter_that_matches_nothing_says_so(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    runs.add("one")
    assert "No run is in this state" in text_of((await http.get("/runs?status=failed")).text)


async def test_the_list_is_paged(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    for number in range(60):
        runs.add(f"run {number}", devices=1)
    first = (await http.get("/runs?status=queued")).text
    [older] = re.findall(r'class="pager"><a href="([^"]+)"', first)
    second = (await http.get(unescape(older))).text
    assert (first.count('<tr id="run-'), second.count('<tr id="run-')) == (50, 10)
    assert "status=queued" in older
    assert "pager" not in second


DISK_FULL = NodeTrouble(reason="disk_full", message="12 MB are free", stops_work=True)


def hear_of(runs: MemoryRuns, node_id: str, status: NodeStatus, *troubles: NodeTrouble, **fields: Any) -> None:
    runs.conditions[node_id] = NodeView(node_id=node_id, status=status, troubles=list(troubles), **fields)


async def test_the_list_says_which_node_is_in_trouble_and_why(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    hear_of(runs, "PC-01", "online", connected_devices_count=20, quarantined_devices_count=2)
    hear_of(runs, "PC-02", "degraded", DISK_FULL, dead_letters=3)
    hear_of(runs, "PC-03", "offline", last_heartbeat_at=1_800_000_000_000)
    html = (await http.get("/runs")).text
    strip = text_of(re.findall(r'<ul class="nodes".*?</ul>', html, re.DOTALL)[0])
    ill, silent, well = strip.find("PC-02"), strip.find("PC-03"), strip.find("PC-01")
    assert 0 <= ill < silent < well, "who needs somebody comes first"
    assert "PC-02 Degraded The disk is full: no run is taken Phones 0 Events refused for good 3" in strip
    assert "PC-03 Silent Last heartbeat: 2027-01-15 08:00:00 UTC" in strip
    assert "PC-01 Online Phones 20 In quarantine 2" in strip
    assert 'title="12 MB are free"' in html
    korean = text_of((await http.get("/runs", headers={"Accept-Language": "ko"})).text)
    assert "PC-02 이상 있음 디스크가 가득 찼습니다: 실행을 받지 않습니다" in korean


async def test_a_trouble_that_this_console_does_not_know_is_told_in_the_node_s_own_words(
    http: httpx2.AsyncClient, runs: MemoryRuns
) -> None:
    hear_of(runs, "PC-01", "online", NodeTrouble(reason="usb_hub_hot", message="the hub is at <80> °C"))
    assert "PC-01 Online the hub is at <80> °C" in text_of((await http.get("/runs")).text)


async def test_a_node_in_trouble_is_shown_above_its_phones_while_they_are_open(
    http: httpx2.AsyncClient, runs: MemoryRuns
) -> None:
    run_id = runs.add("one", devices=2)
    hear_of(runs, "PC-01", "degraded", DISK_FULL)
    assert "Degraded The disk is full: no run is taken" in text_of((await http.get(f"/runs/{run_id}")).text)
    finish(runs, run_id, TaskState.SUCCEEDED)
    assert "The disk is full" not in text_of((await http.get(f"/runs/{run_id}")).text)


@pytest.mark.parametrize(
    ("reason", "english", "korean"),
    [
        (FailureReason.ADB_OFFLINE, "Waiting for the phone: adb sees it as offline", "폰을 기다리는 중: adb가"),
        (FailureReason.DEVICE_RESERVED, "another agent on its PC has it", "다른 에이전트가 쓰고 있습니다"),
        (FailureReason.VENDOR_WS_ERROR, "in its own words", "in its own words"),
    ],
)
async def test_a_waiting_phone_says_why_it_waits(
    http: httpx2.AsyncClient, runs: MemoryRuns, reason: FailureReason, english: str, korean: str
) -> None:
    run_id = runs.add("one", devices=1)
    runs.move(
        run_id, "SIM-0001", TaskState.WAITING, failure_reason=reason, error_message="in its own words", wait_until=1
    )
    for language, words in (("en", english), ("ko", korean)):
        page = await http.get(f"/runs/{run_id}?sel=SIM-0001", headers={"Accept-Language": language})
        assert words in text_of(page.text)
    assert "did not recover" not in page.text


async def test_tiles_stand_by_node_and_device_whatever_their_state(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    run_id = runs.add("one", devices=12, nodes=2)
    before = re.findall(r'data-id="(\S+)"', (await http.get(f"/runs/{run_id}")).text)
    runs.move(run_id, "SIM-0011", TaskState.FAILED)
    runs.move(run_id, "SIM-0002", TaskState.RUNNING)
    html = (await http.get(f"/runs/{run_id}")).text
    assert re.findall(r'data-id="(\S+)"', html) == before == [uid("one", n) for n in range(12)]
    assert re.findall(r'data-node="(\S+)"', html) == ["PC-01", "PC-02"]


async def test_every_state_has_its_badge(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    run_id = runs.add("one", devices=7)
    for number, state in enumerate(TaskState, start=1):
        runs.move(run_id, f"SIM-{number:04d}", state, **({"step_index": 2, "step_id": "login"} if number == 2 else {}))
    html = (await http.get(f"/runs/{run_id}")).text
    tiles = [text_of(tile) for tile in re.findall(r'<a class="tile.*?</a>', html)]
    assert tiles == [
        "SIM-0001 Queued",
        "SIM-0002 Running 3/8 login",
        "SIM-0003 WAIT",
        "SIM-0004 Succeeded",
        "SIM-0005 Failed",
        "SIM-0006 SKIPPED(offline)",
        "SIM-0007 Cancelled",
    ]
    assert "4 / 7 finished" in text_of(html)


async def test_filter_search_and_selection_are_in_the_address(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    run_id = runs.add("one", devices=3)
    runs.move(
        run_id, "SIM-0002", TaskState.FAILED, failure_reason=FailureReason.STEP_TIMEOUT, error_message="too <slow>"
    )
    html = (await http.get(f"/runs/{run_id}?status=failed&q=sim&sel=SIM-0002")).text
    assert html.count('class="tile off"') == 2
    assert 'value="sim"' in html
    assert f'href="/runs/{run_id}?status=failed&amp;q=sim&amp;sel=SIM-0003"' in html
    side = text_of(html[html.index('<section id="phone"') :])
    assert "SIM-0002" in side
    assert "A step took too long too <slow> step_timeout Look at the phone" in side


async def test_device_ids_cannot_break_out_of_the_page(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    evil = "\"><script>alert(1)</script>&amp;'"
    run_id = runs.add("one", devices=1, device_name=evil)
    runs.move(run_id, evil, TaskState.FAILED, error_message="</script><script>x</script>")
    html = (await http.get(f"/runs/{run_id}", params={"sel": evil, "q": evil})).text
    assert "<script>alert" not in html
    assert "<script>x" not in html


@pytest.mark.parametrize("path", ["/runs/0190d4d2-0000-7000-8000-000000000000", "/static/abc/no.js"])
async def test_an_address_that_leads_nowhere_is_a_404_page_with_a_way_out(http: httpx2.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404
    assert 'href="/runs"' in answer.text


async def test_the_browser_chooses_the_language_and_a_link_changes_it(http: httpx2.AsyncClient) -> None:
    korean = await http.get("/runs?status=failed", headers={"Accept-Language": "ko-KR,ko;q=0.9"})
    assert '<html lang="ko">' in korean.text
    [link] = re.findall(r'<a href="([^"]+)" hreflang="en"', korean.text)
    switched = await http.get(unescape(link))
    assert (switched.status_code, switched.headers["location"]) == (303, "/runs?status=failed")
    again = await http.get("/runs", headers={"Accept-Language": "ko-KR"})
    assert '<html lang="en">' in again.text


async def test_pages_run_no_inline_code_and_reach_no_foreign_origin(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    for path in ("/runs", f"/runs/{runs.add('one')}", "/runs/nothing"):
        answer = await http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "connect-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        scripts = re.findall(r"<script([^>]*)>", answer.text)
        assert all('src="/static/' in tag or 'type="application/json"' in tag for tag in scripts)
        assert not re.search(r"\sstyle=|<style|\son\w+=|https?://", answer.text)


async def test_static_files_are_kept_for_ever_under_their_hash(http: httpx2.AsyncClient) -> None:
    html = (await http.get("/runs")).text
    [script] = re.findall(r'src="(/static/\S+/runs\.js)"', html)
    answer = await http.get(script)
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "immutable" in answer.headers["cache-control"]
    other_version = await http.get("/static/000000000000/runs.js")
    assert (other_version.status_code, other_version.headers["cache-control"]) == (200, "no-cache")


async def test_an_open_phone_of_a_silent_node_says_so(http: httpx2.AsyncClient, runs: MemoryRuns) -> None:
    run_id = runs.add("one", devices=2)
    runs.move(run_id, "SIM-0001", TaskState.RUNNING, unreachable=True)
    runs.move(run_id, "SIM-0002", TaskState.RUNNING)
    for language, word in (("en", "Unreachable"), ("ko", "연결 안 됨")):
        html = (await http.get(f"/runs/{run_id}", headers={"Accept-Language": language})).text
        tiles = re.findall(r'<a class="tile.*?</a>', html, re.DOTALL)
        assert [(word in tile, " data-unreachable" in tile) for tile in tiles] == [(True, True), (False, False)]


def test_only_stopping_changes_anything_and_it_is_a_call_of_the_api() -> None:
    for path in FOLDER.glob("*.js"):
        text = path.read_text()
        assert ("method:" in text) == (path.name == "stop.js"), path.name
        assert all(call.startswith("`/api/") for call in re.findall(r"this\.url = (\S+)", text)), path.name
        assert not re.search(r"https?://(?!www\.w3\.org)", text), path.name
        assert not re.search(r"(inner|outer)HTML \+?= ", text), path.name
