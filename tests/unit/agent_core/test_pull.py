"""Taking commands: each by itself, once, and from a backend in any state."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.agent_parts import (
    HastyClock,
    MemoryBackend,
    accept,
    broken,
    command,
    narrator,
    opened_journal,
    run_start,
    seeded,
    told,
    types_of,
    uuid,
)

from muster.agent.intake import Nameless, Readable, Unreadable, read_command
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.link import LinkError, LinkRefused
from muster.agent.orders import Orders
from muster.agent.ports import DeviceActions, DeviceOrder, NoDeviceActions, ReserveTerms, Task
from muster.agent.pull import PullLoop
from muster.contracts.commands import CommandType, DeviceActionKind, PullAnswer
from muster.domain.limits import RESERVATION_MINUTES_DEFAULT
from muster.runtime.logs import configure_logs
from muster.runtime.supervision import Background

GOOD = command(run_start("A", "B"))
BAD_RECIPE = {**command(run_start("C", run=2)), "definition": {"workflow_id": "x", "steps": []}}
BAD_FIELD = {**command(run_start("D", run=3)), "globalTimeoutMs": 1}


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[SqliteJournal]:
    async with opened_journal(tmp_path) as opened:
        yield opened


class Taken:
    """Where the pull loop submits; waits for a number of tasks."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.cancelled: list[str] = []
        self.changed = asyncio.Event()

    def cancel(self, task_id: str) -> None:
        self.cancelled.append(task_id)
        self.changed.set()

    def submit(self, tasks: Sequence[Task]) -> None:
        self.tasks.extend(tasks)
        self.changed.set()

    async def has(self, count: int, *, cancelled: int = 0) -> None:
        async with asyncio.timeout(20):
            while len(self.tasks) < count or len(self.cancelled) < cancelled:
                self.changed.clear()
                await self.changed.wait()


@dataclass
class Nurse:
    """`DeviceActions`: notes what it is asked; knows one phone."""

    begun: list[tuple[str, str]] = field(default_factory=list)
    terms: list[ReserveTerms | None] = field(default_factory=list)

    def refusal(self, device_id: str, action: DeviceActionKind, terms: ReserveTerms | None = None) -> str | None:
        return None if device_id == "A" else f"there is no phone {device_id}"

    def begin(self, order: DeviceOrder) -> None:
        self.begun.append((order.action.value, order.device_id))
        self.terms.append(order.terms)

    async def see_through(self, order: DeviceOrder) -> str | None:
        return None


@asynccontextmanager
async def pulling(
    journal: SqliteJournal,
    backend: MemoryBackend,
    clock: HastyClock | None = None,
    actions: DeviceActions | None = None,
) -> AsyncIterator[Taken]:
    taken = Taken()
    async with Background() as background:
        pace = clock or HastyClock()
        orders = Orders(
            journal, actions or NoDeviceActions(), background, narrator=narrator(), clock=pace, rng=seeded()
        )
        loop = PullLoop(backend, journal, taken, orders, narrator=narrator(), clock=pace, rng=seeded())
        _ = background.start("pull", loop.run())
        yield taken


async def test_a_run_is_journaled_before_its_tasks_are_submitted(journal: SqliteJournal) -> None:
    backend = MemoryBackend(pulls=[PullAnswer(commands=[GOOD])])
    async with pulling(journal, backend) as taken:
        await taken.has(2)
        assert [task.device_id for task in await journal.open_tasks()] == ["A", "B"]
    assert [(task.device_id, task.attempt) for task in taken.tasks] == [("A", 1), ("B", 1)]
    assert taken.tasks[0].run.recipe.workflow_id == "test_v1"
    assert types_of(await told(journal)) == ["command_ack", "run_started"]


async def test_a_command_handed_out_again_is_taken_once(journal: SqliteJournal) -> None:
    other = command(run_start("Z", run=9))
    backend = MemoryBackend(pulls=[PullAnswer(commands=[GOOD, GOOD]), PullAnswer(commands=[GOOD, other])])
    async with pulling(journal, backend) as taken:
        await taken.has(3)
    assert [task.device_id for task in taken.tasks] == ["A", "B", "Z"]


@pytest.mark.parametrize(
    ("raw", "says"), [(BAD_RECIPE, "steps"), (BAD_FIELD, "globalTimeoutMs")], ids=["recipe", "field"]
)
async def test_a_command_that_cannot_be_read_is_answered_and_its_tasks_end(
    journal: SqliteJournal, raw: dict[str, Any], says: str
) -> None:
    configure_logs(json_lines=True, stream=(log := io.StringIO()))
    backend = MemoryBackend(pulls=[PullAnswer(commands=[raw, GOOD])])
    async with pulling(journal, backend) as taken:
        await taken.has(2)
    (line,) = [json.loads(line) for line in log.getvalue().splitlines() if "A command is refused" in line]
    assert line["run_id"] == raw["run_id"]
    ack, finished, over, *_ = await told(journal)
    assert says in ack["payload"]["error_message"]
    assert finished["payload"]["task_id"] == raw["tasks"][0]["task_id"]
    assert (finished["payload"]["status"], says in finished["payload"]["error_message"]) == ("failed", True)
    assert over["type"] == "run_finished"


async def test_an_unknown_command_is_refused_and_touches_no_task(journal: SqliteJournal) -> None:
    await accept(journal, run_start("A", "B"))
    unknown = {"type": "fly", "command_id": uuid(5), "run_id": GOOD["run_id"], "tasks": GOOD["tasks"]}
    backend = MemoryBackend(pulls=[PullAnswer(commands=[unknown, command(run_start("Z", run=9))])])
    async with pulling(journal, backend) as taken:
        await taken.has(1)
    assert len(await journal.open_tasks()) == 3
    refusal = next(event for event in await told(journal) if event["payload"].get("command_id") == uuid(5))
    assert "does not know" in refusal["payload"]["error_message"]


async def test_a_command_without_an_id_is_dropped_and_its_neighbours_land(journal: SqliteJournal) -> None:
    backend = MemoryBackend(pulls=[PullAnswer(commands=[{}, {"command_id": 5, "type": "run_start"}, GOOD])])
    async with pulling(journal, backend) as taken:
        await taken.has(2)
    assert types_of(await told(journal)) == ["command_ack", "run_started"]


@pytest.mark.parametrize(
    "fault", [broken(), LinkRefused(401, "no"), LinkRefused(409, "two of you"), LinkRefused(404, "?")]
)
async def test_a_backend_in_trouble_is_asked_again_with_growing_waits(journal: SqliteJournal, fault: LinkError) -> None:
    clock = HastyClock()
    backend = MemoryBackend(pulls=[*([fault] * 10), PullAnswer(commands=[GOOD])])
    async with pulling(journal, backend, clock) as taken:
        await taken.has(2)
    assert len(clock.slept) == 10
    assert min(clock.slept) >= 0.25, "never a busy loop"
    assert max(clock.slept) <= 30
    assert max(clock.slept) > 4


async def test_a_backend_that_answers_empty_at_once_is_not_asked_in_a_busy_loop(journal: SqliteJournal) -> None:
    clock = HastyClock()
    backend = MemoryBackend(pulls=[*([PullAnswer()] * 10), PullAnswer(commands=[GOOD])])
    async with pulling(journal, backend, clock) as taken:
        await taken.has(2)
    assert len(clock.slept) == 10
    assert all(0.7 <= seconds <= 1.2 for seconds in clock.slept)


async def test_a_journal_that_cannot_be_written_takes_no_run_and_the_backend_keeps_it(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as closed:
        pass
    clock = HastyClock()
    backend = MemoryBackend(pulls=[PullAnswer(commands=[GOOD])] * 3)
    async with pulling(closed, backend, clock) as taken:
        await clock.has_slept(3)
        assert taken.tasks == []


def order(kind: CommandType, number: int, **fields: object) -> dict[str, Any]:
    return {"type": kind.value, "command_id": uuid(number, kind=7), **fields}


async def test_stopping_a_run_cancels_its_open_tasks_and_no_others(journal: SqliteJournal) -> None:
    stop = order(CommandType.RUN_STOP, 1, run_id=GOOD["run_id"])
    other = command(run_start("A", "Z", run=9))
    backend = MemoryBackend(pulls=[PullAnswer(commands=[GOOD, other, stop])])
    async with pulling(journal, backend) as taken:
        await taken.has(4, cancelled=2)
    assert taken.cancelled == [task["task_id"] for task in GOOD["tasks"]]
    assert [event["payload"].get("command_id") for event in await told(journal)][-1] == stop["command_id"]


async def test_cancelling_a_task_asks_the_loop_again_each_time_it_is_handed_out(journal: SqliteJournal) -> None:
    cancel = order(CommandType.TASK_CANCEL, 1, task_id=GOOD["tasks"][1]["task_id"])
    backend = MemoryBackend(pulls=[PullAnswer(commands=[GOOD, cancel]), PullAnswer(commands=[cancel])])
    async with pulling(journal, backend) as taken:
        await taken.has(2, cancelled=2)
    assert taken.cancelled == [GOOD["tasks"][1]["task_id"]] * 2
    assert types_of(await told(journal)).count("command_ack") == 2, "once for each command"


async def test_a_stop_that_overtakes_its_run_ends_the_run_before_it_starts(journal: SqliteJournal) -> None:
    stop = order(CommandType.RUN_STOP, 1, run_id=GOOD["run_id"])
    backend = MemoryBackend(pulls=[PullAnswer(commands=[stop, GOOD, command(run_start("Z", run=9))])])
    async with pulling(journal, backend) as taken:
        await taken.has(1)
    assert [task.device_id for task in taken.tasks] == ["Z"]
    ends = [event["payload"] for event in await told(journal) if event["type"] == "task_finished"]
    assert [(end["device_id"], end["status"]) for end in ends] == [("A", "cancelled"), ("B", "cancelled")]


async def test_a_task_handed_out_with_a_higher_attempt_is_submitted_again_and_a_lower_one_is_not(
    journal: SqliteJournal,
) -> None:
    def again(number: int, attempt: int) -> dict[str, Any]:
        return {
            **GOOD,
            "command_id": uuid(number, kind=8),
            "tasks": [{**GOOD["tasks"][0], "attempt": attempt}],
        }

    backend = MemoryBackend(pulls=[PullAnswer(commands=[GOOD, again(1, 3), again(2, 2), again(3, 3)])])
    async with pulling(journal, backend) as taken:
        await taken.has(3)
    assert [(task.device_id, task.attempt) for task in taken.tasks] == [("A", 1), ("B", 1), ("A", 3)]
    assert [task.attempt for task in await journal.open_tasks()] == [3, 1]


async def test_a_device_action_is_begun_once_however_often_it_is_handed_out(journal: SqliteJournal) -> None:
    reboot = order(CommandType.DEVICE_ACTION, 1, device_id="A", action="reboot")
    backend = MemoryBackend(pulls=[PullAnswer(commands=[reboot, reboot, GOOD])])
    nurse = Nurse()
    async with pulling(journal, backend, actions=nurse) as taken:
        await taken.has(2)
    assert nurse.begun == [("reboot", "A")]


async def test_a_reservation_comes_with_its_terms(journal: SqliteJournal) -> None:
    whole = order(CommandType.DEVICE_ACTION, 1, device_id="A", action="reserve", owner="kim", reason="why", minutes=5)
    short = order(CommandType.DEVICE_ACTION, 2, device_id="A", action="reserve", owner="kim")
    nurse, backend = Nurse(), MemoryBackend(pulls=[PullAnswer(commands=[whole, short, GOOD])])
    async with pulling(journal, backend, actions=nurse) as taken:
        await taken.has(2)
    assert nurse.terms == [ReserveTerms("kim", "why", 5), ReserveTerms("kim", None, RESERVATION_MINUTES_DEFAULT)]


async def test_a_device_action_is_refused_where_nobody_can_do_it(journal: SqliteJournal) -> None:
    reboot = order(CommandType.DEVICE_ACTION, 1, device_id="A", action="reboot")
    async with pulling(journal, MemoryBackend(pulls=[PullAnswer(commands=[reboot, GOOD])])) as taken:
        await taken.has(2)
    assert "no means" in (await told(journal))[0]["payload"]["error_message"]


def test_reading_a_command_tells_a_run_from_what_is_none() -> None:
    readable = read_command(GOOD)
    assert isinstance(readable, Readable)
    assert readable.plan.run_id == GOOD["run_id"]
    assert isinstance(read_command({}), Nameless)
    assert isinstance(read_command({"command_id": uuid(1)}), Unreadable)


def test_of_an_unreadable_run_every_task_that_has_a_name_is_found() -> None:
    raw = {**BAD_RECIPE, "tasks": [*BAD_RECIPE["tasks"], {"task_id": "?"}, 7, {"task_id": uuid(8), "device_id": "E"}]}
    unreadable = read_command(raw)
    assert isinstance(unreadable, Unreadable)
    assert [task.device_id for task in unreadable.tasks] == ["C", "E"]
