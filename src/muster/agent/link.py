"""The backend as the agent sees it: four calls, and two ways in which they fail, split by what the caller does next."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from muster.contracts.api import UploadRequest, UploadTicket
from muster.contracts.commands import PullAnswer
from muster.contracts.events import CallbackAnswer


class LinkError(Exception):
    """A call to the backend did not succeed."""


class LinkBroken(LinkError):
    """No usable answer: unreachable, timed out, 5xx, rubbish. The request's fate is unknown; try again later."""


class LinkRefused(LinkError):
    """The backend itself answered 4xx. What to do depends on `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class BackendLink(Protocol):
    """Outbound only (spec/03). Every call has a time-out of its own and raises LinkError."""

    async def pull(self, wait_ms: int) -> PullAnswer:
        """Waits at the backend for at most `wait_ms` for commands of this node."""
        ...

    async def callback(self, events: Sequence[dict[str, Any]]) -> CallbackAnswer:
        """Posts a batch of events; the answer has a verdict for each, in their order."""
        ...

    async def request_upload(self, request: UploadRequest) -> UploadTicket:
        """Asks where to put a picture."""
        ...

    async def put_object(self, ticket: UploadTicket, path: Path) -> None:
        """Sends the bytes of the file at `path`."""
        ...


def is_unauthorized(status: int) -> bool:
    """The node's secret is missing, wrong or not allowed: nothing will pass until somebody acts."""
    return status in (401, 403)


def is_final_refusal(status: int) -> bool:
    """Refused for good: the same message will never be accepted (spec/03, Outbox)."""
    return 400 <= status < 500 and status not in (401, 403, 408, 429)
