"""Asks the backend for work, by long poll, for as long as the agent lives (R3.2)."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from muster.agent.intake import Nameless, Readable, Unreadable, read_command
from muster.agent.journal import Commands, JournalError
from muster.agent.link import BackendLink, LinkBroken, LinkError, LinkRefused, is_unauthorized
from muster.agent.narrate import Narrator
from muster.agent.orders import Orders, order_of
from muster.agent.ports import Task
from muster.contracts.commands import DeviceAction, RunStop, TaskCancel
from muster.domain.limits import PULL_WAIT_MS_DEFAULT
from muster.runtime.backoff import full_jitter_delay_sec
from muster.runtime.clock import Clock
from muster.runtime.logs import get_logger

log = get_logger()
RETRY_BASE_SEC: Final = 0.5
RETRY_CAP_SEC: Final = 30.0
# A backend that answers with nothing new at once, again and again, is asked about once a second.
IDLE_PULL_SEC_MIN: Final = 1.0
PULL_MARGIN_SEC: Final = 20.0


class Work(Protocol):
    """Where tasks are executed (`scheduler/loop.py`)."""

    def submit(self, tasks: Sequence[Task]) -> None:
        """Journaled tasks; a known one of a higher attempt takes the place of what is under way."""
        ...

    def cancel(self, task_id: str) -> None:
        """Ends a task: a queued or parked one at once, a running one after its teardown."""
        ...


class PullLoop:
    """Survives a backend that is gone, slow, restarting, answers rubbish or 401; never a busy loop."""

    def __init__(
        self,
        link: BackendLink,
        journal: Commands,
        work: Work,
        orders: Orders,
        *,
        narrator: Narrator,
        clock: Clock,
        rng: random.Random,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._link = link
        self._journal = journal
        self._work = work
        self._orders = orders
        self._narrator = narrator
        self._clock = clock
        self._rng = rng
        # Why no run is taken now.
        self._trouble = trouble

    async def run(self) -> None:
        """Pulls until it is cancelled. A command in hand is journaled whole or not at all."""
        failures = 0
        while True:
            asked_at = self._clock.monotonic()
            try:
                is_new = await self._pull_once()
            except (LinkError, JournalError) as error:
                failures += 1
                self._tell_failure(error, failures)
                delay = full_jitter_delay_sec(failures, base_sec=RETRY_BASE_SEC, cap_sec=RETRY_CAP_SEC, rng=self._rng)
                await self._clock.sleep(delay)
                continue
            if failures:
                log.info("The backend answers again", failures=failures)
            failures = 0
            took = self._clock.monotonic() - asked_at
            if not is_new and took < IDLE_PULL_SEC_MIN:
                await self._clock.sleep((IDLE_PULL_SEC_MIN - took) * self._rng.uniform(0.8, 1.2))

    async def _pull_once(self) -> bool:
        """Whether something new came."""
        try:
            async with asyncio.timeout(PULL_WAIT_MS_DEFAULT / 1000 + PULL_MARGIN_SEC):
                # Jitter: a thousand nodes whose polls began with the backend's restart must not march in step.
                answer = await self._link.pull(round(PULL_WAIT_MS_DEFAULT * self._rng.uniform(0.8, 1.0)))
        except TimeoutError as error:
            raise LinkBroken("no answer to a pull in time") from error
        is_new = False
        for raw in answer.commands:
            is_new = await self._take(raw) or is_new
        return is_new

    async def _take(self, raw: Mapping[str, Any]) -> bool:
        command = read_command(raw)
        match command:
            case Readable():
                return await self._accept(command)
            case RunStop(run_id=subject) | TaskCancel(task_id=subject):
                return await self._end(command, subject)
            case DeviceAction():
                return await self._act(command)
            case Unreadable():
                return await self._refuse(command)
            case Nameless(message):
                log.error("A command is dropped: it cannot be read nor answered", error=message)
                return False

    async def _accept(self, command: Readable) -> bool:
        if self._trouble() is not None:
            # Not acknowledged, so it is handed out again until there is room.
            return False
        start = command.start
        ack = self._narrator.command_ack(start.command_id)
        new = await self._journal.accept_run(start, ack, self._narrator.run_started(start))
        if new:
            self._work.submit([Task(task.task_id, task.device_id, task.attempt, command.plan) for task in new])
            log.info("Run accepted", run_id=start.run_id, workflow_id=start.workflow_id, tasks=len(new))
        return bool(new)

    async def _end(self, command: RunStop | TaskCancel, subject: str) -> bool:
        """Durable before it is acted on: what a crash leaves open ends at the next start."""
        is_new, task_ids = await self._journal.accept_cancel(self._narrator.command_ack(command.command_id), subject)
        if is_new:
            of = {"run_id": subject} if isinstance(command, RunStop) else {"task_id": subject}
            log.info("Asked to stop", command=command.type.value, open_tasks=len(task_ids), **of)
        for task_id in task_ids:
            self._work.cancel(task_id)
        return is_new

    async def _act(self, command: DeviceAction) -> bool:
        order = order_of(command, self._clock.now_ms())
        refusal = self._orders.refusal(order)
        ack = self._narrator.command_ack(command.command_id, refusal)
        if not await self._journal.accept_order(ack, order if refusal is None else None):
            return False
        if refusal is not None:
            log.warning("A device action is refused", device_id=command.device_id, error=refusal)
            return True
        log.info("Device action", device_id=command.device_id, device_action=command.action.value)
        self._orders.begin(order)
        return True

    async def _refuse(self, command: Unreadable) -> bool:
        ack = self._narrator.command_ack(command.command_id, command.message)
        ended = self._narrator.unreadable(command.run_id, command.tasks, command.message) if command.run_id else []
        refused = await self._journal.refuse_command(ack, ended)
        if refused:
            of = {"run_id": command.run_id} if command.run_id else {}
            log.error(
                "A command is refused", command_id=command.command_id, tasks=len(ended), error=command.message, **of
            )
        return refused

    def _tell_failure(self, error: LinkError | JournalError, failures: int) -> None:
        if isinstance(error, LinkRefused) and is_unauthorized(error.status):
            log.error("The backend refuses this node's secret", error=str(error), failures=failures)
        elif isinstance(error, LinkRefused) and error.status == 409:
            log.error("Another agent works under this node's id", error=str(error), failures=failures)
        # The first few, then once in a while: days of outage must not fill the disk with lines.
        elif failures <= 5 or failures % 60 == 0:
            log.warning("Cannot take commands", error=str(error), failures=failures)
