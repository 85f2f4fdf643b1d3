"""A run's live state over its event stream, from the first look to its end, through lost connections and restarts."""

import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from pydantic import ValidationError

from muster.client.http import ApiError, BackendUnreachable, MusterClient
from muster.client.sse import SseEvent
from muster.contracts.api import RunDelta, RunListItem, RunSnapshot, TaskView
from muster.domain.task import TaskState
from muster.runtime.backoff import full_jitter_delay_sec
from muster.runtime.clock import Clock

OUTAGE_SEC_MAX: Final = 600.0
_RETRY_BASE_SEC: Final = 0.25
_RETRY_CAP_SEC: Final = 5.0


@dataclass(slots=True)
class RunProgress:
    """What is known of a run now. `trouble` says why nothing new comes; None while the stream flows."""

    run: RunListItem | None = None
    tasks: dict[str, TaskView] = field(default_factory=dict)
    trouble: str | None = None
    last_event_id: str | None = None

    def has_ended(self) -> bool:
        """Nothing more will change."""
        return self.run is not None and self.run.status.is_terminal

    def apply(self, event: SseEvent) -> bool:
        """Takes in one event; False when it says nothing of the run (a heartbeat). ValidationError: not Muster's."""
        if event.event == "snapshot":
            snapshot = RunSnapshot.model_validate_json(event.data)
            self.run, self.tasks = snapshot.run, {task.task_id: task for task in snapshot.tasks}
        elif event.event == "delta":
            delta = RunDelta.model_validate_json(event.data)
            self.run = delta.run
            self.tasks.update((task.task_id, task) for task in delta.tasks)
        else:
            return False
        # Only frames that carry state move the place from which the stream is resumed.
        self.last_event_id = event.id or self.last_event_id
        return True

    def failures(self) -> list[TaskView]:
        """Tasks that ended without success, the latest first."""
        ended = [task for task in self.tasks.values() if task.status.is_terminal and task.status != TaskState.SUCCEEDED]
        return sorted(ended, key=lambda task: task.updated_at, reverse=True)


async def follow_run(
    client: MusterClient, run_id: str, *, clock: Clock, rng: random.Random, outage_sec_max: float = OUTAGE_SEC_MAX
) -> AsyncGenerator[RunProgress, None]:
    """Yields the progress at each change until the run has ended. Raises ApiError for a run that is refused.

    A broken stream is taken up again from its last event; after `outage_sec_max` seconds without one word of the
    backend BackendUnreachable is raised.
    """
    progress = RunProgress()
    failures, last_word = 0, clock.monotonic()
    while not progress.has_ended():
        try:
            async with aclosing(client.events(run_id, progress.last_event_id)) as events:
                async for event in events:
                    failures, last_word = 0, clock.monotonic()
                    if progress.apply(event) or progress.trouble:
                        progress.trouble = None
                        yield progress
                    if progress.has_ended():
                        return
            trouble: Exception = BackendUnreachable(f"{client.place} ended the stream")
        except ApiError as error:
            if error.status < 500:
                raise
            trouble = error
        except (BackendUnreachable, ValidationError) as error:
            trouble = error
        failures += 1
        if clock.monotonic() - last_word > outage_sec_max:
            raise BackendUnreachable(f"gave up after {outage_sec_max:g} s: {trouble}")
        progress.trouble = str(trouble)
        yield progress
        await clock.sleep(full_jitter_delay_sec(failures, base_sec=_RETRY_BASE_SEC, cap_sec=_RETRY_CAP_SEC, rng=rng))
