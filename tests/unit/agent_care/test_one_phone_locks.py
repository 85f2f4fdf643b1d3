"""One phone is one lock, whatever it is called."""

from tests.support.agent_parts import MemoryLocks
from tests.support.phones import MemoryPhones

from muster.agent.one_phone_locks import OnePhoneLocks


def test_a_task_under_an_alias_and_one_under_the_id_never_have_the_phone_at_once() -> None:
    below = MemoryLocks()
    locks = OnePhoneLocks(below, MemoryPhones(aliases={"ALIAS": "ID"}))
    assert locks.acquire("ALIAS")
    assert not locks.acquire("ID")
    assert locks.why_refused("ID") == "a task of this node has the phone under its name ALIAS"
    assert locks.acquire("OTHER")
    locks.release("ALIAS")
    assert below.held == {"OTHER"}
    assert locks.acquire("ID") and not locks.acquire("ALIAS")
    locks.release("ID")
    locks.release("OTHER")
    assert below.held == set()


def test_ids_that_become_one_phone_while_a_task_runs_are_given_back_as_they_were_taken() -> None:
    below, phones = MemoryLocks(), MemoryPhones()
    locks = OnePhoneLocks(below, phones)
    assert locks.acquire("A")
    phones.aliases["A"] = "B"
    assert not locks.acquire("B"), "it has turned out to be the phone that is in use"
    locks.release("A")
    assert below.held == set()
    assert locks.acquire("B")


def test_a_phone_that_another_agent_has_is_not_taken() -> None:
    locks = OnePhoneLocks(MemoryLocks(elsewhere={"ID"}), MemoryPhones(aliases={"ALIAS": "ID"}))
    assert not locks.acquire("ALIAS") and not locks.acquire("ID")
    assert locks.why_refused("ALIAS") == "another agent has ID"
