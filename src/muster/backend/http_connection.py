"""A connection's limits before its request is known: anybody may connect, and uvicorn waits and collects for ever."""

import asyncio
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.server import ServerState

from muster.backend.body_limits import BodyLimitsOf, body_limits
from muster.domain.limits import ARTIFACT_BYTES_MAX

HEAD_BYTES_MAX: Final = 64 * 1024
HEAD_SEC: Final = 30.0


class BoundedHttp(asyncio.Protocol):
    """uvicorn's HTTP, closed when a request's head takes more than HEAD_BYTES_MAX or HEAD_SEC.

    So it is when the rest of a body that was answered early does not end in the time of a body. While a request is
    under way, what comes behind it may wait; its own body is the `Guard`'s.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        head_sec: float = HEAD_SEC,
        limits: BodyLimitsOf = body_limits,
        kind: Any = AutoHTTPProtocol,  # httptools' where it is installed, else h11's: both have a `cycle` a request
    ) -> None:
        self._http = kind(config=config, server_state=server_state, app_state=app_state, _loop=_loop)
        self._head_sec = head_sec
        self._limits = limits
        self._known = self._http.cycle  # of the newest request of which is known that it has begun
        self._waited_for = 0  # bytes of what is not whole yet
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first request has HEAD_SEC from now."""
        self._transport = transport
        self._http.connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Counts what belongs to no request yet."""
        self._has_begun()
        bytes_max = self._bytes_max()
        self._http.data_received(data)
        if not self._has_begun() and bytes_max is not None:
            self._waited_for += len(data)
            self._wait()
            if self._waited_for > bytes_max:
                self._transport.close()

    def _has_begun(self) -> bool:
        """Whether the next request has: its head waits no more. h11 begins one that is there when it ends another."""
        if self._http.cycle is self._known:
            return False
        self._known = self._http.cycle
        self._rest()
        return True

    def _is_answered(self) -> bool:
        return self._known is None or self._known.response_complete

    def _is_in_a_body(self) -> bool:
        return self._known is not None and self._known.more_body

    def _bytes_max(self) -> int | None:
        """Of what comes next. None: a body that somebody reads."""
        if not self._is_in_a_body():
            return HEAD_BYTES_MAX
        return ARTIFACT_BYTES_MAX if self._is_answered() else None

    def _wait(self) -> None:
        if self._timer is None:
            sec = self._limits(self._known.scope).sec_max if self._is_in_a_body() else self._head_sec
            self._timer = asyncio.get_running_loop().call_later(sec, self._end_waiting)

    def _end_waiting(self) -> None:
        if not self._has_begun() and self._is_answered():
            self._transport.close()
        else:
            self._rest()

    def _rest(self) -> None:
        self._waited_for = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> None:
        """As uvicorn has it."""
        self._http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn has it."""
        self._rest()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """As uvicorn has it."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """As uvicorn has it."""
        self._http.resume_writing()
