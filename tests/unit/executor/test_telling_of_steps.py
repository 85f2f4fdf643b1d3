"""When the journal is told of a task's steps: each commit is an fsync, so what belongs together goes together."""

import asyncio
from typing import Any

from tests.support.bench import Bench, adb
from tests.support.phones import MemoryPhone, Told, ended
from tests.support.virtual_time import LoopClock

from muster.agent.ports import StepProgress


class SlowJournal(Told):
    """Takes a second for each progress. `begun`: when it was told of each."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[float, str]] = []

    async def progress(self, step: StepProgress) -> None:
        self.begun.append((LoopClock().monotonic(), f"{step.step_id}:{step.status.value}"))
        await asyncio.sleep(1.0)
        await super().progress(step)


def begun_in(*steps: dict[str, Any], phone: MemoryPhone | None = None) -> list[tuple[float, str]]:
    bench = Bench(phone)
    bench.told = told = SlowJournal()
    bench.run(*steps)
    assert bench.told.story == [text for _, text in told.begun], "the order is kept"
    return told.begun


def test_the_end_of_a_step_is_told_together_with_the_beginning_of_the_next() -> None:
    assert begun_in(adb("a"), adb("b")) == [(0.0, "a:running"), (1.0, "a:completed"), (1.0, "b:running"),
                                            (2.0, "b:completed")]  # fmt: skip


def test_a_skipped_step_is_told_together_with_the_end_of_the_one_before() -> None:
    skipped = adb("b", probability=0.0)
    assert begun_in(adb("a"), skipped)[1:] == [(1.0, "a:completed"), (1.0, "b:skipped")]


def test_a_failed_step_is_told_at_once() -> None:
    phone = MemoryPhone(answers={"false": [ended(exit_code=1)]})
    told = begun_in(adb("a"), adb("b", "false", onFailure="retry", retryCount=1), phone=phone)
    assert [text for _, text in told] == ["a:running", "a:completed", "b:running", "b:failed", "b:running", "b:failed"]
    assert told[3][0] == 2.0
