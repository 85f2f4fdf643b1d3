"""The whole agent, put together from ports and watched: what it tells is what its journal has and its backend heard."""

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.agent_parts import MemoryBackend, MemoryLocks, command, run_start
from tests.support.phones import MemoryPhone, MemoryPhones, ended
from tests.support.scraped import Scraped
from tests.support.waiting import until

from muster.agent.composition import Agent, AgentPorts, AgentSettings
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.link import LinkBroken, LinkRefused
from muster.agent.observe.observer import AgentObserver, Identity
from muster.agent.observe.service import ADDRESS_FILE, watched
from muster.contracts.commands import PullAnswer
from muster.domain.device import AttachState
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source

NODE = "PC-01"
DEFINITION = {
    "workflow_id": "test_v1",
    "steps": [
        {"id": "look", "kind": "adb", "command": "look", "onFailure": "continue"},
        {"id": "hello", "kind": "adb", "command": "hello"},
        {"id": "pause", "kind": "wait", "durationMs": 1},
    ],
}


@dataclass
class MemoryRack:
    """`composition.Rack` and `observer.WatchedRack`, as the test wants it."""

    phones: MemoryPhones = field(default_factory=MemoryPhones)
    vendor_ok: bool = True
    last_vendor_ok_ms: int | None = None
    vendor_returns: int = 0
    adb_ok: bool = True
    adb_restarts: int = 0

    @property
    def adb_gone(self) -> bool:
        return not self.adb_ok

    def subscribe(self, changed: asyncio.Event) -> None:
        pass

    async def wait_settled(self) -> None:
        pass


@dataclass
class Backend(MemoryBackend):
    """With a clock of its own, and a way to turn the node away."""

    ahead_ms: int = 0
    turned_away: int | None = None

    async def pull(self, wait_ms: int) -> PullAnswer:
        if self.turned_away is not None:
            raise LinkRefused(self.turned_away, "not you")
        answer = await super().pull(wait_ms)
        return PullAnswer(commands=answer.commands, now=SystemClock().now_ms() + self.ahead_ms)


@dataclass
class Watched:
    """An agent at work and who watches it."""

    observer: AgentObserver
    backend: Backend
    rack: MemoryRack
    folder: Path

    async def scrape(self) -> Scraped:
        return Scraped.of((await self.observer.metrics_page()).body.decode())

    async def scraped(self, holds: Callable[[Scraped], bool]) -> Scraped:
        """The first scrape that is as wanted."""
        async with asyncio.timeout(20):
            while not holds(scraped := await self.scrape()):  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        return scraped

    async def settled(self) -> Scraped:
        """When all is told, and no request is on its way."""

        def is_told(scraped: Scraped) -> bool:
            requests = scraped["muster_agent_deliveries_total{result=ok}"]
            return not scraped.of_name("muster_agent_outbox_events") and requests == len(self.backend.batches)

        return await self.scraped(is_told)

    async def health(self) -> tuple[int, dict[str, Any]]:
        page = await self.observer.health_page()
        return page.status, json.loads(page.body)

    async def falls_ill(self, *reasons: str) -> dict[str, Any]:
        """Waits for exactly these troubles."""
        async with asyncio.timeout(20):
            while True:
                _, document = await self.health()
                if [found["reason"] for found in document["reasons"]] == list(reasons):
                    return document
                await asyncio.sleep(0.01)

    def journaled(self) -> Counter[tuple[str, str]]:
        with closing(sqlite3.connect(self.folder / "journal.sqlite3")) as connection:
            return Counter(connection.execute("SELECT state, COALESCE(failure_reason, '') FROM tasks").fetchall())


@asynccontextmanager
async def at_work(
    folder: Path, *, slots: int = 20, port: int | None = None, free_bytes: int | None = None
) -> AsyncIterator[Watched]:
    clock, rack, backend = SystemClock(), MemoryRack(), Backend()
    new_id = id_source(clock)
    observer = AgentObserver(Identity(NODE, "0.1.0", slots, has_vendor=True, data_dir=folder), clock)
    settings = AgentSettings("http://backend", NODE, folder, None, ("127.0.0.1", 1), None, slots, drain_grace_sec=0.05)
    spool = folder / "spool"
    spool.mkdir()
    async with SqliteJournal(
        folder / "journal.sqlite3", new_id=id_source(clock), spool_folder=spool, open_commits=observer.open_commits
    ) as journal:
        observer.watch(rack, journal)
        async with watched(observer, folder, port):
            ports = AgentPorts(
                clock, random.Random(1), new_id, observer.link(backend), journal, rack, MemoryLocks(), spool,
                observer=observer, free_bytes=lambda: free_bytes, condition=observer.condition,
            )  # fmt: skip
            ready = asyncio.Event()
            running = asyncio.create_task(Agent(settings, ports).run(lambda _line: ready.set()))
            await ready.wait()
            try:
                yield Watched(observer, backend, rack, folder)
            finally:
                running.cancel()
                await asyncio.wait({running})


def finished(count: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda applied: sum(event["type"] == "task_finished" for event in applied) >= count


async def test_after_a_run_every_counter_is_what_the_journal_and_the_backend_have(tmp_path: Path) -> None:
    async with at_work(tmp_path, slots=2) as agent:
        phones = agent.rack.phones
        for number in range(6):
            phones.add(MemoryPhone(f"P{number}"))
        phones.attached["P1"].answers["hello"] = [ended("", 1)]
        phones.attached["P2"].answers["look"] = [ended("", 1)]
        phones.lose("P4", AttachState.UNAUTHORIZED)
        phones.lose("P5", AttachState.MISSING)
        start = run_start(*(f"P{number}" for number in range(6)), "never seen", definition=DEFINITION)
        await agent.backend.hand_out(command(start))
        await agent.backend.applied_until(finished(7))
        await until(lambda: agent.backend.of("run_finished"))
        scraped = await agent.settled()
        told_of = sum(len(batch) for batch in agent.backend.batches)
        told = Counter(
            (event["payload"]["step_id"], event["payload"]["status"])
            for event in agent.backend.applied
            if event["type"] == "task_progress" and event["payload"]["status"] in ("completed", "failed")
        )
    ends = {f"reason={reason},status={status}": number for (status, reason), number in agent.journaled().items()}
    assert scraped.of_name("muster_agent_tasks_ended_total") == ends
    assert sum(ends.values()) == scraped["muster_agent_tasks_accepted_total"] == 7
    assert set(ends) >= {"reason=,status=succeeded", "reason=step_failed,status=failed"}
    assert scraped.of_name("muster_agent_step_seconds_count") == {
        "kind=adb,status=completed": told["look", "completed"] + told["hello", "completed"],
        "kind=adb,status=failed": told["look", "failed"] + told["hello", "failed"],
        "kind=wait,status=completed": told["pause", "completed"],
    }
    assert told["look", "failed"] == told["hello", "failed"] == 1
    assert scraped["muster_agent_events_told_total{verdict=accepted}"] == told_of
    assert scraped["muster_agent_delivery_seconds_count"] == scraped["muster_agent_deliveries_total{result=ok}"]
    # P4, P5 and the stranger never start: of the others two find free slots.
    assert scraped["muster_agent_slot_refill_seconds_count"] == 2
    assert scraped.of_name("muster_agent_phones") == {"state=device": 4, "state=missing": 1, "state=unauthorized": 1}
    assert (scraped["muster_agent_slots"], scraped["muster_agent_slots_used"]) == (2, 0)
    assert scraped.of_name("muster_agent_outbox_events") == {}
    assert scraped["muster_agent_journal_failures_total"] == 0


async def test_slots_and_queue_are_told_while_they_are_held(tmp_path: Path) -> None:
    async with at_work(tmp_path, slots=2) as agent:
        for number in range(5):
            phone = agent.rack.phones.add(MemoryPhone(f"P{number}"))
            phone.answers["look"] = [float("inf")]
        await agent.backend.hand_out(command(run_start(*(f"P{n}" for n in range(5)), definition=DEFINITION)))
        await agent.backend.applied_until(lambda applied: sum(e["type"] == "task_started" for e in applied) == 2)
        scraped = await agent.scrape()
    assert (scraped["muster_agent_slots_used"], scraped["muster_agent_queued_phones"]) == (2, 3)


async def test_what_cannot_be_told_waits_and_is_counted(tmp_path: Path) -> None:
    async with at_work(tmp_path) as agent:
        agent.rack.phones.add(MemoryPhone("P0"))
        agent.backend.before_callback = lambda _events: LinkBroken("gone")
        await agent.backend.hand_out(command(run_start("P0", definition=DEFINITION)))
        scraped = await agent.scraped(
            lambda seen: (
                seen["muster_agent_tasks_ended_total{reason=,status=succeeded}"] == 1
                and seen["muster_agent_deliveries_total{result=unreachable}"] >= 1
            )
        )
        with closing(sqlite3.connect(tmp_path / "journal.sqlite3")) as connection:
            waiting = dict(connection.execute("SELECT fact, COUNT(*) FROM outbox GROUP BY fact").fetchall())
        assert scraped.of_name("muster_agent_outbox_events") == {"kind=fact": waiting[1], "kind=telemetry": waiting[0]}
        assert scraped["muster_agent_outbox_oldest_age_seconds{kind=fact}"] > 0
        agent.backend.before_callback = lambda _events: None


async def test_health_falls_and_rises_with_its_causes(tmp_path: Path) -> None:
    async with at_work(tmp_path) as agent:
        status, document = await agent.health()
        assert (status, document["status"], document["node_id"]) == (200, "ok", NODE)
        agent.rack.vendor_ok = False
        status, document = await agent.health()
        assert (status, document["status"]) == (200, "degraded"), "pictures come by adb: it works"
        since = document["reasons"][0]["since"]
        agent.rack.adb_ok = False
        status, document = await agent.health()
        assert (status, document["can_work"]) == (503, False)
        assert [reason["reason"] for reason in document["reasons"]] == ["adb_gone", "vendor_gone"]
        assert document["reasons"][1]["since"] == since, "it began then, not now"
        assert (await agent.scrape()).of_name("muster_agent_trouble") == {"reason=adb_gone": 1, "reason=vendor_gone": 1}
        agent.rack.adb_ok = agent.rack.vendor_ok = True
        assert (await agent.health())[1]["status"] == "ok"


async def test_the_backend_is_told_at_once_when_the_node_falls_ill_and_when_it_is_well_again(tmp_path: Path) -> None:
    def beats(applied: list[dict[str, Any]]) -> list[tuple[bool, list[str]]]:
        told = [event["payload"] for event in applied if event["type"] == "node_heartbeat"]
        return [(beat["degraded"], [trouble["reason"] for trouble in beat["troubles"]]) for beat in told]

    async with at_work(tmp_path) as agent:
        agent.rack.adb_ok = agent.rack.vendor_ok = False
        await agent.falls_ill("adb_gone", "vendor_gone")
        await agent.backend.applied_until(lambda applied: (True, ["adb_gone", "vendor_gone"]) in beats(applied))
        agent.rack.adb_ok = True
        await agent.falls_ill("vendor_gone")
        await agent.backend.applied_until(lambda applied: beats(applied)[-1] == (False, ["vendor_gone"]))


async def test_an_agent_without_room_says_that_it_takes_no_run(tmp_path: Path) -> None:
    async with at_work(tmp_path, free_bytes=1) as agent:
        document = await agent.falls_ill("disk_full")
        assert (await agent.health())[0] == 503
    assert document["reasons"][0]["message"].startswith("no run is taken: 0 MB are free")


async def test_a_wrong_clock_and_being_turned_away_are_noticed_at_the_polls(tmp_path: Path) -> None:
    async with at_work(tmp_path) as agent:
        agent.backend.ahead_ms = 95_000
        await agent.backend.hand_out(command(run_start("P0", run=1)))
        document = await agent.falls_ill("clock_wrong")
        assert document["reasons"][0]["message"] == "this PC's clock is 95 s behind the backend's"
        assert -96 < (await agent.scrape())["muster_agent_clock_skew_seconds"] < -94
        agent.backend.turned_away = 409
        await agent.backend.hand_out(command(run_start("P0", run=2)))
        await agent.falls_ill("another_agent", "clock_wrong")
        scraped = await agent.scrape()
        assert scraped["muster_agent_pulls_total{result=refused}"] >= 1
        agent.backend.turned_away, agent.backend.ahead_ms = None, 0
        await agent.backend.hand_out(command(run_start("P0", run=3)))
        await agent.falls_ill()


async def test_the_address_that_a_killed_agent_left_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    (tmp_path / ADDRESS_FILE).write_text("http://127.0.0.1:1\n")
    async with at_work(tmp_path, port=None):
        assert not (tmp_path / ADDRESS_FILE).exists()


async def test_the_address_lies_in_the_folder_while_somebody_answers_there(tmp_path: Path) -> None:
    async with at_work(tmp_path, port=0):
        assert (tmp_path / ADDRESS_FILE).read_text().startswith("http://127.0.0.1:")
    assert not (tmp_path / ADDRESS_FILE).exists()


async def test_a_port_that_is_taken_keeps_no_agent_from_its_work(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with taken, at_work(tmp_path, port=taken.sockets[0].getsockname()[1]) as agent:
        agent.rack.phones.add(MemoryPhone("P0"))
        await agent.backend.hand_out(command(run_start("P0", definition=DEFINITION)))
        await agent.backend.applied_until(finished(1))
        assert not (tmp_path / ADDRESS_FILE).exists()


async def test_no_series_names_a_phone_or_a_run(tmp_path: Path) -> None:
    async with at_work(tmp_path) as agent:
        agent.rack.phones.add(MemoryPhone("PHONE-0815"))
        start = run_start("PHONE-0815", definition=DEFINITION)
        await agent.backend.hand_out(command(start))
        await agent.backend.applied_until(finished(1))
        text = (await agent.observer.metrics_page()).body.decode()
    assert "PHONE-0815" not in text
    assert start.run_id not in text
    assert text.count("\n") < 400
