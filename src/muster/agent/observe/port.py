"""What the agent's composition lets an observer see. It is told, and asked nothing."""

from collections.abc import Callable
from typing import Protocol

from muster.agent.heartbeat import Workload
from muster.agent.ports import Executor


class Observer(Protocol):
    """Whoever watches an agent at work."""

    def executor(self, executor: Executor) -> Executor:
        """What tasks are executed with: the same, and seen."""
        ...

    def refilled(self, seconds: float) -> None:
        """A slot that was given back had its next task's start journaled so much later."""
        ...

    def sees(self, workload: Workload, no_run: Callable[[], str | None], on_change: Callable[[], None]) -> None:
        """What the scheduler has in hand, and why no run is taken, for as long as the agent lives.

        `on_change` is to be called when the node falls ill or gets well.
        """
        ...


class NoObserver:
    """Nobody watches."""

    def executor(self, executor: Executor) -> Executor:
        """The same."""
        return executor

    def refilled(self, seconds: float) -> None:
        """See `Observer`."""

    def sees(self, workload: Workload, no_run: Callable[[], str | None], on_change: Callable[[], None]) -> None:
        """See `Observer`."""
