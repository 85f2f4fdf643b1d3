"""`GET /api/runs/{run_id}/events`: the run's live stream as server-sent events."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from muster.backend.live import LiveRuns, LiveStream, Refusal
from muster.contracts.api import PROBLEM_TYPE_PREFIX, Problem

_DRAIN_SEC: Final = 1.0
# X-Accel-Buffering: nginx would collect the stream otherwise.
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
_REFUSALS: Final = {
    Refusal.UNKNOWN_RUN: (404, "unknown-run", "There is no such run."),
    Refusal.TOO_MANY_VIEWERS: (503, "too-many-viewers", "Too many live views are open; close one or try again later."),
    Refusal.UNAVAILABLE: (503, "unavailable", "The backend is stopping or cannot read the run; try again."),
}


class EventStream(Response):
    """Sends frames until the viewer goes or its stream ends. One that no longer reads is cut off, not waited for."""

    media_type = "text/event-stream"

    def __init__(self, stream: LiveStream) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Races the sending against the viewer's going and the stream's end."""
        pump = asyncio.create_task(self._pump(send))
        gone = asyncio.create_task(_until_gone(receive))
        ended = asyncio.create_task(self._stream.ended.wait())
        try:
            await asyncio.wait({pump, gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await asyncio.wait({pump, gone}, timeout=_DRAIN_SEC, return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                pump.result()
        finally:
            self._stream.close()
            for task in (pump, gone, ended):
                task.cancel()
            await asyncio.gather(pump, gone, ended, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for frame in self._stream:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def stream_router(live: LiveRuns) -> APIRouter:
    """The router of the live stream over `live`."""
    router = APIRouter(tags=["runs"])

    @router.get("/api/runs/{run_id}/events", response_class=Response, responses=_DOCUMENTED)
    async def stream_run(
        run_id: str,
        last_event_id: Annotated[str | None, Header(max_length=128)] = None,
        resume: Annotated[
            str | None, Query(max_length=128, description="As `Last-Event-ID`, for a new EventSource")
        ] = None,
    ) -> Response:
        """Events `snapshot`, `delta` and `heartbeat` (every 2 s); `Last-Event-ID` resumes without a gap.

        The stream of a finished run stays open, with heartbeats only.
        """
        opened = await live.subscribe(run_id, last_event_id or resume)
        return _problem(opened) if isinstance(opened, Refusal) else EventStream(opened)

    return router


def _problem(refusal: Refusal) -> JSONResponse:
    status, slug, detail = _REFUSALS[refusal]
    problem = Problem(
        type=PROBLEM_TYPE_PREFIX + slug, title=slug.replace("-", " ").capitalize(), status=status, detail=detail
    )
    headers = {"Retry-After": "2"} if status == 503 else {}
    return JSONResponse(problem.model_dump(mode="json"), status, headers=headers, media_type="application/problem+json")


_DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Events snapshot, delta, heartbeat"},
    404: {"model": Problem, "description": "Unknown run"},
    503: {"model": Problem, "description": "Too many viewers, or stopping"},
}
