"""What an operator asked of a phone is kept until it is done, has failed or is too late, whatever the agent's lives."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.agent_parts import HastyClock, narrator, opened_journal, seeded, told, types_of, uuid
from tests.support.waiting import until

from muster.agent.journal import JournalError
from muster.agent.journal_sqlite import SqliteJournal
from muster.agent.orders import OrderLedger, Orders, order_of
from muster.agent.ports import DeviceOrder, NoDeviceActions, ReserveTerms
from muster.contracts.commands import DeviceAction, DeviceActionKind
from muster.contracts.events import CommandAck
from muster.domain.limits import DEVICE_ACTION_EXPIRY_SEC, DEVICE_ORDERS_MAX, RESERVATION_MINUTES_DEFAULT
from muster.runtime.supervision import Background

NOW = 1_800_000_000_000
REBOOT, RESERVE = DeviceActionKind.REBOOT, DeviceActionKind.RESERVE


def order(
    number: int, device_id: str = "A", action: DeviceActionKind = REBOOT, terms: ReserveTerms | None = None
) -> DeviceOrder:
    """The `number`th that was asked for."""
    return DeviceOrder(uuid(number, kind=7), device_id, action, NOW, terms, terms.reason if terms else None)


@dataclass
class Hands:
    """`DeviceActions`: does what it is asked when the test lets it; `fails`: why it cannot; `bug`: raises it."""

    begun: list[str] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    fails: str | None = None
    bug: Exception | None = None

    def refusal(self, device_id: str, action: DeviceActionKind, terms: ReserveTerms | None = None) -> str | None:
        return None

    def begin(self, order: DeviceOrder) -> None:
        self.begun.append(_name(order))

    async def see_through(self, order: DeviceOrder) -> str | None:
        self.under_way.append(_name(order))
        await self.gate.wait()
        if self.bug is not None:
            raise self.bug
        self.done.append(_name(order))
        return self.fails


def _name(order: DeviceOrder) -> str:
    return f"{order.device_id} {order.action.value}"


@asynccontextmanager
async def working(ledger: OrderLedger, hands: Hands, clock: HastyClock | None = None) -> AsyncIterator[Orders]:
    """Until it is left, as if the process ended then."""
    async with Background() as background:
        pace = clock or HastyClock()
        yield Orders(ledger, hands, background, narrator=narrator(), clock=pace, rng=seeded())


async def accepted(journal: SqliteJournal, orders: Sequence[DeviceOrder]) -> None:
    for one in orders:
        assert await journal.accept_order(narrator().command_ack(one.command_id), one)


async def none_left(journal: SqliteJournal) -> None:
    async with asyncio.timeout(20):
        while await journal.open_orders():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


async def test_an_order_outlives_the_agent_from_its_acknowledgement_on_as_it_was_given(tmp_path: Path) -> None:
    asked = [order(1), order(2, "B", RESERVE, ReserveTerms("kim", "why", 5)), order(3, "C", RESERVE, ReserveTerms("a"))]
    asked.append(DeviceOrder(uuid(4, kind=7), "D", DeviceActionKind.QUARANTINE, NOW, reason="swollen battery"))
    async with opened_journal(tmp_path) as journal:
        await accepted(journal, asked)
    async with opened_journal(tmp_path) as journal:
        assert types_of(await told(journal)) == ["command_ack"] * 4
        assert await journal.open_orders() == asked


async def test_what_was_refused_or_is_known_is_not_kept(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        assert await journal.accept_order(narrator().command_ack(uuid(1, kind=7), "no such phone"), None)
        assert not await journal.accept_order(narrator().command_ack(uuid(1, kind=7)), order(1))
        assert await journal.open_orders() == []


async def test_a_command_that_is_known_is_not_refused_for_what_has_come_since(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await accepted(journal, [order(1)])
        await journal.settle([event.position for event in await journal.pending(10, 1 << 20)], [])
        refused = narrator().command_ack(uuid(1, kind=7), "a task is running on the phone")
        assert not await journal.accept_order(refused, None)
        assert [event["payload"].get("error_message") for event in await told(journal)] == [None]


@pytest.mark.parametrize("fails", [None, "nothing answers at the phone"])
async def test_an_order_leaves_when_it_is_done_or_has_failed_and_a_failure_is_told(
    tmp_path: Path, fails: str | None
) -> None:
    async with opened_journal(tmp_path) as journal:
        await accepted(journal, [order(1)])
        hands = Hands(fails=fails)
        async with working(journal, hands) as orders:
            orders.begin(order(1))
            await until(lambda: hands.under_way)
            assert await journal.open_orders() == [order(1)], "not before"
            hands.gate.set()
            await none_left(journal)
        answers = [
            (event["payload"]["command_id"], event["payload"].get("error_message")) for event in await told(journal)
        ]
        first = (order(1).command_id, None)
        assert answers == ([first] if fails is None else [first, (order(1).command_id, fails)])


async def test_what_an_ended_agent_left_is_done_by_the_next_in_order_for_each_phone(tmp_path: Path) -> None:
    release = DeviceActionKind.RELEASE
    asked = [order(1), order(2, "B"), order(3, "A", release), order(4)]
    async with opened_journal(tmp_path) as journal:
        await accepted(journal, asked)
        cut_off = Hands()
        async with working(journal, cut_off) as orders:
            for one in asked:
                orders.begin(one)
            await until(lambda: len(cut_off.under_way) == 3)
        assert cut_off.under_way == ["A reboot", "B reboot", "A release"] and cut_off.done == []
    async with opened_journal(tmp_path) as journal:
        hands = Hands()
        async with working(journal, hands) as orders:
            orders.take_up(await journal.open_orders())
            assert hands.begun == ["A reboot", "B reboot", "A release", "A reboot"], "each holds at once, in order"
            await until(lambda: len(hands.under_way) == 3)
            assert hands.under_way == ["A reboot", "B reboot", "A release"], "the disk keeps no phone from its reboot"
            hands.gate.set()
            await none_left(journal)
        assert hands.under_way[3:] == ["A reboot"], "one reboot after the other"
        assert len(hands.done) == 4


@dataclass
class FullFor:
    """`OrderLedger` on a disk that takes nothing for so many times."""

    journal: SqliteJournal
    times: int

    async def end_order(self, command_id: str, failed: CommandAck | None) -> None:
        if self.times:
            self.times -= 1
            raise JournalError("disk full")
        await self.journal.end_order(command_id, failed)


async def test_an_end_that_the_disk_does_not_take_is_recorded_later_and_the_action_is_done_once(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await accepted(journal, [order(1)])
        hands, clock = Hands(), HastyClock()
        hands.gate.set()
        async with working(FullFor(journal, 40), hands, clock) as orders:
            orders.begin(order(1))
            await none_left(journal)
        assert hands.done == ["A reboot"]
        assert len(clock.slept) == 40 and min(clock.slept) > 0.3, "never a busy loop"


async def test_an_order_that_meets_a_bug_ends_and_does_not_end_each_agent_that_takes_it_up(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        await accepted(journal, [order(1), order(2)])
        hands = Hands(bug=KeyError("oh"))
        hands.gate.set()
        async with working(journal, hands) as orders:
            orders.take_up(await journal.open_orders())
            await none_left(journal)
        assert [event["payload"].get("error_message") for event in await told(journal)][2:] == [
            "a bug: KeyError: 'oh'"
        ] * 2


async def test_above_its_limit_an_order_is_refused_until_one_has_ended(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal:
        hands = Hands()
        async with working(journal, hands) as orders:
            for number in range(DEVICE_ORDERS_MAX):
                assert orders.refusal(order(number, f"P{number}")) is None
                orders.begin(order(number, f"P{number}"))
            refusal = orders.refusal(order(DEVICE_ORDERS_MAX))
            assert refusal == "this node has 2000 actions on phones to do already: ask again later"
            hands.gate.set()
            await until(lambda: orders.refusal(order(DEVICE_ORDERS_MAX)) is None)


def test_what_is_done_to_a_phone_is_late_after_ten_minutes_and_what_is_noted_of_it_never() -> None:
    for action in DeviceActionKind:
        asked, edge_ms = order(1, "A", action), DEVICE_ACTION_EXPIRY_SEC * 1000
        is_felt = action in (DeviceActionKind.REBOOT, DeviceActionKind.RECONNECT)
        assert not asked.is_late(NOW) and not asked.is_late(NOW + edge_ms) and not asked.is_late(NOW - edge_ms)
        assert asked.is_late(NOW + edge_ms + 1) is is_felt
        assert asked.is_late(NOW - edge_ms - 1) is is_felt, "a clock that was put back by so much proves nothing"


def test_a_command_becomes_an_order_with_its_terms() -> None:
    command = DeviceAction(command_id=uuid(1), device_id="A", action=RESERVE, owner="kim", reason="why")
    assert order_of(command, NOW) == DeviceOrder(
        uuid(1), "A", RESERVE, NOW, ReserveTerms("kim", "why", RESERVATION_MINUTES_DEFAULT), "why"
    )


async def test_a_node_without_means_refuses_what_was_left_for_it_too(tmp_path: Path) -> None:
    async with opened_journal(tmp_path) as journal, Background() as background:
        await accepted(journal, [order(1)])
        orders = Orders(journal, NoDeviceActions(), background, narrator=narrator(), clock=HastyClock(), rng=seeded())
        orders.take_up(await journal.open_orders())
        await none_left(journal)
        assert "no means" in (await told(journal))[-1]["payload"]["error_message"]
