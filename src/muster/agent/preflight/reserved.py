"""A phone that somebody has reserved gets no task (spec/07)."""

from muster.agent.preflight.gate import Refused, Subject
from muster.domain.failure import FailureReason
from muster.domain.limits import ONLINE_WINDOW_SEC
from muster.domain.task import TaskState


class NotReserved:
    """Asked first: not even a probe disturbs whoever has it. One that is Offline besides is skipped as such (R8.2)."""

    async def check(self, subject: Subject) -> Refused | None:
        """The task ends at once and says who has the phone: a run does not wait for a person."""
        status = subject.phones.status(subject.device_id)
        if status is None or status.reserved is None:
            return None
        if status.last_seen is None or subject.clock.monotonic() - status.last_seen > ONLINE_WINDOW_SEC:
            return None
        return Refused(TaskState.FAILED, FailureReason.DEVICE_RESERVED, status.reserved)
