"""A known screen (spec/07): a task that was cut off may have left its phone anywhere; the next one begins at home.

What this process saw is remembered; what earlier ones left, the journal tells when it starts. A phone whose last task
succeeded, or failed because the phone did as its recipe said, is left as it is.
"""

from collections.abc import Sequence
from typing import Final

from muster.agent.journal import LastAtPhone
from muster.agent.ports import Executor, NotReady, Phones, Reporter, Task, TaskOutcome
from muster.agent.preflight.device import ask
from muster.agent.preflight.gate import Refused, Subject, Wait
from muster.domain.failure import FailureClass, FailureReason
from muster.domain.task import TaskState
from muster.runtime.logs import get_logger

log = get_logger()
GO_HOME: Final = "input keyevent KEYCODE_WAKEUP; input keyevent KEYCODE_HOME"
GO_HOME_SEC: Final = 10.0


class Screens:
    """Which phones may show anything. Bounded by the phones that there are."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()

    def lose(self, device_id: str) -> None:
        """A task of the phone was cut off, and may have left it anywhere."""
        self._unknown.add(device_id)

    def take_up(self, last: Sequence[LastAtPhone], phones: Phones) -> None:
        """What earlier processes left. The journal does not tell how far a task came: one that was refused before its
        first step costs its phone a key press."""
        for task in last:
            if _may_show_anything(task.state, task.failure_reason):
                self.lose(phones.resolve(task.device_id))

    def found(self, device_id: str) -> None:
        """It shows its home screen."""
        self._unknown.discard(device_id)

    def is_unknown(self, device_id: str) -> bool:
        """Nobody knows what it shows."""
        return device_id in self._unknown


class KnownScreen:
    """The last gate: the phone is there and answers."""

    def __init__(self, screens: Screens) -> None:
        self._screens = screens

    async def check(self, subject: Subject) -> Refused | Wait | None:
        """Sends the phone to its home screen, where nobody knows what it shows."""
        if not self._screens.is_unknown(subject.phones.resolve(subject.device_id)):
            return None
        now = subject.clock.monotonic()
        fence = subject.phone_clock.fence(now + GO_HOME_SEC, now) if subject.phone_clock else None
        said = await ask(subject, GO_HOME, GO_HOME_SEC, f"no home screen within {GO_HOME_SEC:g} s", fence)
        if isinstance(said, (Refused, Wait)):
            return said
        log.info("Back to the home screen: the last task was cut off")
        self._screens.found(subject.phones.resolve(subject.device_id))
        return None


class ScreenWatch:
    """Implements `ports.Executor`: notes which tasks may have left their phone anywhere."""

    def __init__(self, executor: Executor, screens: Screens, phones: Phones) -> None:
        self._executor = executor
        self._screens = screens
        self._phones = phones

    async def execute(self, task: Task, report: Reporter) -> TaskOutcome | NotReady:
        """See `Executor`."""
        try:
            outcome = await self._executor.execute(task, report)
        except BaseException:
            self._lose(task)
            raise
        if isinstance(outcome, TaskOutcome) and _was_cut_off(outcome):
            self._lose(task)
        return outcome

    def _lose(self, task: Task) -> None:
        self._screens.lose(self._phones.resolve(task.device_id))


def _was_cut_off(outcome: TaskOutcome) -> bool:
    """A step of it has failed, for which the recipe is not to blame."""
    return bool(outcome.failed_steps) and _may_show_anything(outcome.status, outcome.failure_reason)


def _may_show_anything(state: TaskState, reason: FailureReason | None) -> bool:
    """After a task that began to do something. One that has no end, or was cancelled, was cut off."""
    if state is TaskState.FAILED and reason is not None:
        return reason.failure_class is not FailureClass.RECIPE
    return state not in (TaskState.SUCCEEDED, TaskState.SKIPPED_OFFLINE)
