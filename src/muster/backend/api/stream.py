"""`GET /api/runs/{run_id}/events`: the run's live stream as server-sent events."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from muster.backend.api.problems import answer_refusal, documented
from muster.backend.live import LiveRuns, LiveStream, StreamRefusal
from muster.backend.refusal import ProblemSlug, Refusal

_DRAIN_SEC: Final = 1.0
# X-Accel-Buffering: nginx would collect the stream otherwise.
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
_REFUSALS: Final = {
    StreamRefusal.UNKNOWN_RUN: Refusal(ProblemSlug.UNKNOWN_RUN),
    StreamRefusal.TOO_MANY_VIEWERS: Refusal(ProblemSlug.TOO_MANY_VIEWERS, "close one, or try again later"),
    StreamRefusal.UNAVAILABLE: Refusal(ProblemSlug.UNAVAILABLE, "the backend is stopping, or cannot read the run"),
}
_DOCUMENTED: Final = documented(
    ProblemSlug.UNKNOWN_RUN,
    ProblemSlug.TOO_MANY_VIEWERS,
    ProblemSlug.UNAVAILABLE,
    also={200: {"content": {"text/event-stream": {}}, "description": "Events `snapshot`, `delta`, `heartbeat`"}},
)


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
        return answer_refusal(_REFUSALS[opened]) if isinstance(opened, StreamRefusal) else EventStream(opened)

    return router
