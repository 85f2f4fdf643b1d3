"""A phone that somebody has reserved gets no task (spec/07)."""

from muster.agent.preflight.gate import Refused, Subject
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState


class NotReserved:
    """Asked first: not even a probe disturbs whoever has it. One that is Offline besides is skipped as such (R8.2)."""

    async def check(self, subject: Subject) -> Refused | None:
        """The task ends at once and says who has the phone: a run does not wait for a person."""
        status = subject.status
        if status is None or status.reserved is None or not subject.is_online(status):
            return None
        return Refused(TaskState.FAILED, FailureReason.DEVICE_RESERVED, status.reserved)
