"""Counts every request by its route's template, outside of everything else. Plain ASGI: streams stay streams."""

import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster.backend.metrics import BackendMetrics

# They last as long as nothing happens; their length says nothing.
_LONG: Final = frozenset({"/api/runs/{run_id}/events", "/api/nodes/pull", "/api/nodes/pending-runs"})
_UNMATCHED: Final = "unmatched"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measured:
    """Told of each request's route, method, status and length."""

    def __init__(self, app: ASGIApp, metrics: BackendMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes it on, and notes what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, noting)
            finally:
                self._note(scope, status, time.monotonic() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # A label of what a client made up would be a series of its own for each.
        route = getattr(scope.get("route"), "path", _UNMATCHED)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, f"{status // 100}xx").inc()
        if route not in _LONG:
            self._metrics.request_seconds.labels(method, route).observe(seconds)
