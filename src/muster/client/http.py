"""Typed client of Muster's API (spec/04): used by the agent, the command line, benchmarks and tests."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import httpx2

from muster.client.sse import SseError, SseEvent, SseParser
from muster.client.wire import (
    ERROR_BYTES_MAX,
    Answer,
    ApiError,
    BackendError,
    BackendUnreachable,
    QueryValue,
    Wire,
    decode,
)
from muster.contracts.api import (
    CreateRun,
    DeviceActionAccepted,
    DeviceDetail,
    DevicePage,
    HealthAnswer,
    NodeList,
    RunCreated,
    RunDetail,
    RunPage,
    RunStopped,
    StepPage,
    UploadRequest,
    UploadTicket,
    ValidationAnswer,
    WorkflowList,
    WorkflowVersion,
)
from muster.contracts.commands import DeviceActionKind, PullAnswer
from muster.contracts.events import CallbackAnswer
from muster.domain import limits
from muster.domain.run import RunState

__all__ = ["ApiError", "BackendError", "BackendUnreachable", "MusterClient"]

POLL_MARGIN_SEC: Final = 10.0
UPLOAD_TIMEOUT_SEC: Final = 120.0
PROBE_TIMEOUT_SEC: Final = 5.0
STREAM_SILENCE_SEC: Final = 5.0 * limits.STREAM_HEARTBEAT_SEC
_READ_CHUNK_BYTES: Final = 256 * 1024
_JSON: Final = {"Content-Type": "application/json"}

Params = dict[str, QueryValue | list[str]]


class MusterClient:
    """A backend, by its address. Use as `async with`. Every call raises ApiError or BackendUnreachable, nothing else.

    `secret` is the node's shared secret or an operator's token, sent to `base_url` alone.
    `transport` replaces the network (an ASGI application in tests). Raises ValueError for a bad address.
    """

    def __init__(
        self, base_url: str, *, secret: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self._wire = Wire(base_url, secret, transport)

    async def __aenter__(self) -> "MusterClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._wire.close()

    @property
    def base_url(self) -> str:
        """The backend's address as given, without a trailing slash."""
        return str(self._wire.base_url).rstrip("/")

    @property
    def place(self) -> str:
        """The same as anybody may see it: without a password."""
        return self._wire.place

    # ---- node ----

    async def pull(
        self, node_id: str, instance_id: str, wait_ms: int, *, replaces: str | None = None, leaving: bool = False
    ) -> PullAnswer:
        """Commands for this node; waits up to `wait_ms` for the first.

        `replaces`: the instance that last spoke from this one's data folder, itself included; None: nobody ever did, so
        that nothing the node was given before is known there. `leaving`: this instance gives the node free.
        """
        params: Params = {"node_id": node_id, "instance_id": instance_id, "wait_ms": wait_ms}
        if replaces is not None:
            params["replaces"] = replaces
        if leaving:
            params["leaving"] = "true"
        answer = await self._wire.fetch(
            "GET", "/api/nodes/pull", params=params, timeout_sec=wait_ms / 1000 + POLL_MARGIN_SEC
        )
        return decode(PullAnswer, answer)

    async def callback(self, events: Sequence[Mapping[str, Any]]) -> CallbackAnswer:
        """Tells a batch of events (`contracts.events.envelope`); the answer has a verdict for each."""
        return decode(CallbackAnswer, await self._post("/api/nodes/callback", {"events": list(events)}))

    async def request_upload(self, request: UploadRequest) -> UploadTicket:
        """Where one picture may be put."""
        body = request.model_dump(mode="json", by_alias=True, exclude_none=True)
        return decode(UploadTicket, await self._post("/api/nodes/uploads", body))

    async def put_object(self, ticket: UploadTicket, path: Path, *, timeout_sec: float = UPLOAD_TIMEOUT_SEC) -> None:
        """Streams the file to where the ticket says. Raises OSError when the file cannot be read."""
        size = (await asyncio.to_thread(path.stat)).st_size
        headers = {"Content-Type": "image/png"} | ticket.headers | {"Content-Length": str(size)}
        await self._wire.fetch(
            ticket.method,
            ticket.url,
            content=_file_chunks(path),
            headers=headers,
            timeout_sec=timeout_sec,
            bytes_max=ERROR_BYTES_MAX,
        )

    # ---- runs ----

    async def create_run(self, request: CreateRun, idempotency_key: str | None = None) -> RunCreated:
        """Starts a run. With the same key again: the first answer, and no second run."""
        body = request.model_dump(mode="json", by_alias=True, exclude_none=True)
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return decode(RunCreated, await self._post("/api/runs", body, headers=headers))

    async def runs(
        self,
        *,
        status: Sequence[RunState] = (),
        workflow_id: str | None = None,
        window: str | None = None,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> RunPage:
        """A page of runs: failed and running first, then newest first."""
        params = _given(
            status=[str(state) for state in status] or None,
            workflow_id=workflow_id,
            window=window,
            cursor=cursor,
            limit=limit,
        )
        return decode(RunPage, await self._wire.fetch("GET", "/api/runs", params=params))

    async def run(self, run_id: str) -> RunDetail:
        """A run with its nodes and device tasks."""
        return decode(RunDetail, await self._wire.fetch("GET", f"/api/runs/{_part(run_id)}"))

    async def stop_run(self, run_id: str) -> RunStopped:
        """Stops a run; asked again it changes nothing."""
        return decode(RunStopped, await self._post(f"/api/runs/{_part(run_id)}/stop", {}))

    async def steps(
        self, run_id: str, *, device_id: str | None = None, cursor: str | None = None, limit: int | None = None
    ) -> StepPage:
        """A page of steps, by device, then in the recipe's order."""
        params = _given(device_id=device_id, cursor=cursor, limit=limit)
        return decode(StepPage, await self._wire.fetch("GET", f"/api/runs/{_part(run_id)}/steps", params=params))

    async def events(self, run_id: str, last_event_id: str | None = None) -> AsyncGenerator[SseEvent, None]:
        """The run's live stream over one connection, from `last_event_id` on; ends when the backend ends it.

        Close it (`contextlib.aclosing`) when it is left early. A broken or silent stream is BackendUnreachable.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        parser = SseParser()
        async with self._wire.stream(
            f"/api/runs/{_part(run_id)}/events",
            headers=headers,
            content_type="text/event-stream",
            read_timeout_sec=STREAM_SILENCE_SEC,
        ) as chunks:
            async for chunk in chunks:
                try:
                    events = parser.feed(chunk)
                except SseError as error:
                    raise BackendUnreachable(f"the event stream of {self.place} is broken: {error}") from error
                for event in events:
                    yield event

    # ---- workflows ----

    async def workflows(self) -> WorkflowList:
        """Every workflow at its newest version."""
        return decode(WorkflowList, await self._wire.fetch("GET", "/api/workflows"))

    async def workflow(self, workflow_id: str, version: int | None = None) -> WorkflowVersion:
        """One version of a workflow, the newest when none is named."""
        params = _given(version=version)
        return decode(
            WorkflowVersion, await self._wire.fetch("GET", f"/api/workflows/{_part(workflow_id)}", params=params)
        )

    async def put_workflow(self, workflow_id: str, document: Mapping[str, Any]) -> WorkflowVersion:
        """Adds a version; never overwrites one."""
        answer = await self._wire.fetch(
            "PUT", f"/api/workflows/{_part(workflow_id)}", content=_json(document), headers=_JSON
        )
        return decode(WorkflowVersion, answer)

    async def validate_workflow(self, document: Mapping[str, Any]) -> ValidationAnswer:
        """All that is wrong with a document; stores nothing."""
        return decode(ValidationAnswer, await self._post("/api/workflows/validate", document))

    # ---- nodes, devices, pictures ----

    async def nodes(self) -> NodeList:
        """Every node, as the backend sees it now."""
        return decode(NodeList, await self._wire.fetch("GET", "/api/nodes"))

    async def devices(
        self,
        *,
        node_id: str | None = None,
        online_only: bool = False,
        cursor: str | None = None,
        limit: int | None = None,
    ) -> DevicePage:
        """A page of phones."""
        online = "true" if online_only else None
        params = _given(node_id=node_id, online_only=online, cursor=cursor, limit=limit)
        return decode(DevicePage, await self._wire.fetch("GET", "/api/devices", params=params))

    async def device(self, device_id: str) -> DeviceDetail:
        """One phone."""
        return decode(DeviceDetail, await self._wire.fetch("GET", f"/api/devices/{_part(device_id)}"))

    async def act_on_device(
        self,
        device_id: str,
        action: DeviceActionKind,
        *,
        reason: str | None = None,
        owner: str | None = None,
        minutes: int | None = None,
    ) -> DeviceActionAccepted:
        """Asks the phone's node to do something to it. `owner` and `minutes` belong to `reserve`."""
        body = {"action": action.value} | _given(reason=reason, owner=owner, minutes=minutes)
        answer = await self._post(f"/api/devices/{_part(device_id)}/actions", body)
        return decode(DeviceActionAccepted, answer)

    async def artifact(self, artifact_id: str) -> bytes:
        """A picture's bytes, wherever the backend says they lie (at most one redirect)."""
        url = f"/api/artifacts/{_part(artifact_id)}"
        answer = await self._wire.fetch("GET", url, bytes_max=limits.ARTIFACT_BYTES_MAX)
        if answer.location is not None:
            answer = await self._wire.fetch("GET", answer.location, bytes_max=limits.ARTIFACT_BYTES_MAX)
        return answer.body

    # ---- health ----

    async def healthz(self) -> HealthAnswer:
        """The backend's process answers, with its version and clock."""
        answer = await self._wire.fetch("GET", "/healthz", timeout_sec=PROBE_TIMEOUT_SEC, bytes_max=ERROR_BYTES_MAX)
        return decode(HealthAnswer, answer)

    async def readyz(self) -> None:
        """Returns when the backend reaches its database and object store; ApiError 503 tells which it does not."""
        await self._wire.fetch("GET", "/readyz", timeout_sec=PROBE_TIMEOUT_SEC, bytes_max=ERROR_BYTES_MAX)

    async def _post(self, path: str, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._wire.fetch("POST", path, content=_json(body), headers=_JSON | dict(headers or {}))


def _given(**params: QueryValue | list[str] | None) -> Params:
    return {name: value for name, value in params.items() if value is not None}


def _part(text: str) -> str:
    """One part of a path; what a person typed cannot reach another endpoint."""
    return quote(text, safe="")


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while chunk := await asyncio.to_thread(file.read, _READ_CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
