"""`/metrics` of the backend: what it counts is what happened, and no series names a phone or a run."""

import asyncio

from tests.support.backend import Rig
from tests.support.scraped import Scraped

from muster.backend.live import LiveStream

EVENTS = "muster_backend_events_total"
REQUESTS = "muster_backend_requests_total"


async def scrape(rig: Rig) -> Scraped:
    answer = await rig.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scraped.of(answer.text)


async def test_requests_are_counted_by_the_template_of_their_route(rig: Rig) -> None:
    for run_id in ("one", "two"):
        await rig.http.get(f"/api/runs/{run_id}")
    await rig.http.get("/api/made-up")
    await rig.http.request("BREW", "/api/runs")
    await rig.http.get("/api/runs", headers={"Host": "rebound.example"})
    scraped = await scrape(rig)
    counted = scraped.of_name(REQUESTS)
    assert counted["method=GET,route=/api/runs/{run_id},status=4xx"] == 2
    assert counted["method=GET,route=unmatched,status=4xx"] == 2, "one of no route, one refused before any"
    assert sum(number for labels, number in counted.items() if labels.startswith("method=other")) == 1
    timed = scraped.of_name("muster_backend_request_seconds_count")
    assert timed["method=GET,route=/api/runs/{run_id}"] == 2
    assert scraped["muster_backend_requests_in_flight"] == 1, "the scrape itself"


async def test_long_polls_are_counted_but_not_timed(rig: Rig) -> None:
    await rig.pull()
    scraped = await scrape(rig)
    assert scraped.of_name(REQUESTS)["method=GET,route=/api/nodes/pull,status=2xx"] == 1
    assert "method=GET,route=/api/nodes/pull" not in scraped.of_name("muster_backend_request_seconds_count")


async def test_events_are_counted_by_type_and_verdict(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    await rig.start_run()
    (task,) = await rig.take_tasks()
    started = rig.started(task)
    await rig.tell(started, rig.started(task, seq=5, attempt=2))
    await rig.verdicts(
        started,
        rig.progress(task, 2, "wake", "running"),
        rig.event("task_finished", nonsense=True),
        {"type": ["x"]},
        "rubbish",
    )
    assert (await scrape(rig)).of_name(EVENTS) == {
        "type=node_heartbeat,verdict=accepted": 1,
        "type=task_started,verdict=accepted": 2,
        "type=task_started,verdict=duplicate": 1,
        "type=task_progress,verdict=stale": 1,
        "type=task_finished,verdict=refused": 1,
        "type=unreadable,verdict=refused": 2,
    }


async def test_runs_tasks_and_commands_are_those_of_the_database(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B", "C"])
    first = await rig.start_run()
    tasks = await rig.take_tasks()
    await rig.tell(rig.started(tasks[0]), rig.finished(tasks[0], 2), rig.started(tasks[1]))
    await rig.start_run()
    scraped = await scrape(rig)
    assert scraped.of_name("muster_backend_runs") == {"status=queued": 1, "status=running": 1}
    counts = (await rig.run(first)).counts
    assert scraped.of_name("muster_backend_open_tasks") == {
        "status=queued": counts.queued + 3,
        "status=running": counts.running,
    }
    assert scraped["muster_backend_commands_open"] == 2
    assert scraped["muster_backend_database_up"] == 1


async def test_a_silent_node_is_told_by_name(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A", "B"], outbox_depth=7)
    await rig.heartbeat("PC-02", ["C"])
    await rig.clock.advance(31)
    await rig.heartbeat("PC-02", ["C"])
    scraped = await scrape(rig)
    assert scraped["muster_backend_node_up{node_id=PC-01}"] == 0
    assert scraped["muster_backend_node_up{node_id=PC-02}"] == 1
    assert scraped["muster_backend_node_heartbeat_age_seconds{node_id=PC-01}"] == 31
    assert scraped["muster_backend_node_outbox_events{node_id=PC-01}"] == 7
    assert scraped.of_name("muster_backend_phones") == {"state=online": 1, "state=offline": 2}


async def test_viewers_and_units_of_work_in_hand_are_told(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["A"])
    stream = await rig.parts.live.subscribe(await rig.start_run())
    assert isinstance(stream, LiveStream)
    async with rig.parts.database.writing():
        second = asyncio.create_task(rig.http.post("/api/runs", json={"workflow_id": "tour"}))
        async with asyncio.timeout(20):
            while not rig.parts.database.pool_figures().waiting_to_write:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.001)
        scraped = await scrape(rig)
    assert (await second).status_code == 201
    stream.close()
    assert scraped["muster_backend_stream_viewers"] == 1
    assert scraped["muster_backend_database_connections_in_use{pool=write}"] == 1
    assert scraped["muster_backend_database_waiting_to_write"] >= 1
    assert (await scrape(rig))["muster_backend_stream_viewers"] == 0


async def test_a_database_that_is_gone_takes_its_own_figures_along_and_no_more(rig: Rig) -> None:
    async with rig.parts.database.writing() as tx:
        await tx.exec_driver_sql("ALTER TABLE runs RENAME TO gone")
    scraped = await scrape(rig)
    assert scraped["muster_backend_database_up"] == 0
    assert "muster_backend_runs{status=queued}" not in scraped
    assert "process_resident_memory_bytes" in scraped


async def test_no_series_names_a_phone_or_a_run(rig: Rig) -> None:
    await rig.heartbeat("PC-01", ["PHONE-0815"])
    run_id = await rig.start_run()
    (task,) = await rig.take_tasks()
    await rig.tell(rig.started(task))
    await rig.run(run_id)
    text = (await rig.http.get("/metrics")).text
    assert all(name not in text for name in ("PHONE-0815", run_id, task.task_id))


async def test_the_process_tells_its_version_and_its_clock(rig: Rig) -> None:
    document = (await rig.http.get("/healthz")).json()
    assert document["status"] == "ok"
    assert document["now"] == rig.clock.now_ms()
    assert document["version"]
