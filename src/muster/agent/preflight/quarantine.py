"""A phone that failed again and again gets no task (spec/07)."""

from muster.agent.preflight.gate import Refused, Subject
from muster.domain.failure import FailureReason
from muster.domain.task import TaskState


class NotQuarantined:
    """Asked before the phone is: one that hangs must not cost its slot fifteen seconds each time."""

    async def check(self, subject: Subject) -> Refused | None:
        """One that is Offline besides is left to the next gate: Offline is skipped, whatever else it is (R8.2)."""
        status = subject.status
        if status is None or status.quarantined is None or not subject.is_online(status):
            return None
        return Refused(TaskState.FAILED, FailureReason.QUARANTINED, f"in quarantine: {status.quarantined}")
