"""Repairs and tasks take turns at a phone: neither is begun under the other's hands."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class RepairTurns:
    """A task that waits for its phone has it repaired; the next execution of a task ends what was asked before it."""

    def __init__(self) -> None:
        self.busy: Counter[str] = Counter()
        self._executions: Counter[str] = Counter()
        self._asked_in: dict[str, int] = {}
        self._repairs: dict[str | None, asyncio.Event] = {}

    async def begin(self, name: str) -> None:
        """A task is executed on the phone from now on. Waits for a repair that is under way: each has a limit."""
        while (under_way := self._repairs.get(name) or self._repairs.get(None)) is not None:
            await under_way.wait()
        self.busy[name] += 1
        self._executions[name] += 1

    def end(self, name: str) -> None:
        """It is not any more."""
        self.busy[name] -= 1
        if self.busy[name] <= 0:
            del self.busy[name]

    def ask(self, name: str) -> None:
        """Somebody misses the phone: it may be repaired until another execution begins, which asks it anew."""
        self._asked_in[name] = self._executions[name]

    async def go_on(self, name: str) -> bool:
        """Who asked has its phone again. False: a repair was under way, and the phone must be looked at once more."""
        self._asked_in.pop(name, None)
        if (under_way := self._repairs.get(name) or self._repairs.get(None)) is None:
            return True
        await under_way.wait()
        return False

    def may_repair(self, name: str) -> bool:
        """Nobody works on the phone but who asked, or nobody at all."""
        return name not in self.busy or self._asked_in.get(name) == self._executions[name]

    @asynccontextmanager
    async def repair(self, name: str | None) -> AsyncIterator[None]:
        """Nothing is begun on the phone meanwhile; None: on no phone."""
        while (under_way := self._repairs.get(name)) is not None:
            await under_way.wait()
        over = self._repairs[name] = asyncio.Event()
        try:
            yield
        finally:
            del self._repairs[name]
            over.set()

    def forget(self, known: set[str]) -> None:
        """Phones that are gone for good."""
        for name in self._executions.keys() - known - self.busy.keys():
            del self._executions[name]
            self._asked_in.pop(name, None)
