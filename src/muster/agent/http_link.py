"""The agent's link to the backend over HTTP: the client's calls, with its errors split by what the agent does next."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from muster.agent.instance import Instance
from muster.agent.link import LinkBroken, LinkError, LinkRefused, is_unauthorized
from muster.client.http import ApiError, BackendUnreachable, MusterClient
from muster.contracts.api import PROBLEM_TYPE_PREFIX, UploadRequest, UploadTicket
from muster.contracts.commands import PullAnswer
from muster.contracts.events import CallbackAnswer
from muster.runtime.logs import get_logger

log = get_logger()

TOO_LARGE = 413


class HttpLink:
    """Implements `link.BackendLink`."""

    def __init__(self, client: MusterClient, *, node_id: str, instance: Instance, upload_timeout_sec: float) -> None:
        self._client = client
        self._node_id = node_id
        self._instance = instance
        self._upload_timeout_sec = upload_timeout_sec

    async def pull(self, wait_ms: int) -> PullAnswer:
        """See `BackendLink`."""
        if not self._instance.has_seat:
            # Answered at once: one that is killed while its first poll waits must be known to its successor.
            answer = await self._pull(0)
            if answer.commands:
                return answer
        return await self._pull(wait_ms)

    async def _pull(self, wait_ms: int) -> PullAnswer:
        instance = self._instance
        async with _split_errors():
            answer = await self._client.pull(self._node_id, instance.current, wait_ms, replaces=instance.replaces)
        try:
            instance.took_seat()
        except OSError as error:
            log.warning(
                "Cannot note which agent speaks; a killed agent's successor may wait a minute", error=str(error)
            )
        return answer

    async def leave(self) -> None:
        """Gives the node's seat free, so that the next start under this id need not wait for it. Raises LinkError."""
        async with _split_errors():
            await self._client.pull(self._node_id, self._instance.current, 0, leaving=True)

    async def callback(self, events: Sequence[dict[str, Any]]) -> CallbackAnswer:
        """See `BackendLink`."""
        async with _split_errors():
            return await self._client.callback(events)

    async def request_upload(self, request: UploadRequest) -> UploadTicket:
        """See `BackendLink`."""
        async with _split_errors():
            return await self._client.request_upload(request)

    async def put_object(self, ticket: UploadTicket, path: Path) -> None:
        """See `BackendLink`."""
        async with _split_errors():
            await self._client.put_object(ticket, path, timeout_sec=self._upload_timeout_sec)


@asynccontextmanager
async def _split_errors() -> AsyncIterator[None]:
    try:
        yield
    except ApiError as error:
        raise _meaning(error) from error
    except BackendUnreachable as error:
        raise LinkBroken(str(error)) from error


def _meaning(error: ApiError) -> LinkError:
    """Only the backend's own 4xx is a verdict: a proxy's page or an object store's must not bury a fact.

    A secret refused is a secret refused, whoever says so; whoever calls a request too large may take a smaller one.
    """
    is_our_own = error.problem.type.startswith(PROBLEM_TYPE_PREFIX) and 400 <= error.status < 500
    if is_our_own or is_unauthorized(error.status) or error.status == TOO_LARGE:
        return LinkRefused(error.status, str(error))
    return LinkBroken(f"{error.status}: {error}")
