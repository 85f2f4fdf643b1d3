"""Connections to the vendor tool: one request in flight on each, and none is used again after a doubt.

The protocol has no request id, so an answer that comes late would be taken for the next request's. Therefore a
connection whose request timed out, was cancelled or was answered with rubbish is aborted, and so is one on which
something lies unread.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from muster.runtime.logs import get_logger
from muster.runtime.masking import hide_passwords
from muster.vendor.errors import VendorBusy, VendorMalformed, VendorUnanswered, VendorUnavailable
from muster.vendor.protocol import Malformed, VendorAnswer, parse_answer, request

POOL_SIZE_DEFAULT: Final = 4
OPEN_TIMEOUT_SEC: Final = 3.0
ANSWER_TIMEOUT_SEC: Final = 10.0
WAIT_TIMEOUT_SEC: Final = 30.0
"""For a free connection: with twenty tasks on four connections a healthy tool answers long before."""
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
"""`list` of 1,000 phones has some 400 KB; 10 MB is an error by spec/05."""

_log = get_logger()


class VendorPool:
    """Up to `size` connections to the tool at `url`, opened when needed. Use as `async with`, or call `close()`.

    And one more for what is asked of the tool itself: phones that hang on all the others must not make it look gone.
    """

    def __init__(
        self,
        url: str,
        *,
        size: int = POOL_SIZE_DEFAULT,
        open_timeout_sec: float = OPEN_TIMEOUT_SEC,
        answer_timeout_sec: float = ANSWER_TIMEOUT_SEC,
        wait_timeout_sec: float = WAIT_TIMEOUT_SEC,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> None:
        self.url = url
        self._slots = asyncio.Semaphore(size)
        self._own_slot = asyncio.Semaphore(1)
        self._idle: list[ClientConnection] = []
        self._closed = False
        self._open_timeout_sec = open_timeout_sec
        self._answer_timeout_sec = answer_timeout_sec
        self._wait_timeout_sec = wait_timeout_sec
        self._answer_bytes_max = answer_bytes_max

    async def request(
        self,
        action: str,
        serials: Sequence[str] = (),
        data: Mapping[str, str] | None = None,
        *,
        timeout_sec: float | None = None,
        of_tool: bool = False,
    ) -> VendorAnswer:
        """Sends one request and gives its own answer, whatever its code. Raises VendorError, but not VendorRefused.

        `timeout_sec`: for all of it, half at most for a free connection, so that whoever is asked has time to answer.
        `of_tool`: no phone has to do anything for it, so it waits for none.
        After a time-out or a cancellation the tool may still do what it was asked.
        """
        text = request(action, serials, data)
        whole_sec = math.inf if timeout_sec is None else timeout_sec
        until = asyncio.get_running_loop().time() + whole_sec
        wait_sec = min(self._wait_timeout_sec, whole_sec / 2)
        async with self._slot(self._own_slot if of_tool else self._slots, wait_sec):
            connection = await self._take(min(self._open_timeout_sec, left_sec(until)))
            try:
                answer_sec = self._answer_timeout_sec if timeout_sec is None else left_sec(until)
                answer = await self._exchange(connection, text, answer_sec)
            except BaseException:
                connection.transport.abort()
                raise
            self._give_back(connection)
        return answer

    @property
    def idle_count(self) -> int:
        """Open connections that wait for a request."""
        return len(self._idle)

    def close(self) -> None:
        """Drops idle connections at once; those in use go when their request ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().transport.abort()

    async def __aenter__(self) -> "VendorPool":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @asynccontextmanager
    async def _slot(self, slots: asyncio.Semaphore, wait_sec: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(wait_sec):
                await slots.acquire()
        except TimeoutError:
            raise VendorBusy(f"every connection to the vendor tool was busy for {wait_sec:g} s") from None
        try:
            yield
        finally:
            slots.release()

    async def _take(self, open_sec: float) -> ClientConnection:
        """An idle connection with nothing unread on it, else a new one. Raises VendorUnavailable."""
        while self._idle:
            connection = self._idle.pop()
            if await _is_reusable(connection):
                return connection
        if self._closed:
            raise VendorUnavailable("the connection pool to the vendor tool is closed")
        return await self._open(open_sec)

    async def _open(self, open_sec: float) -> ClientConnection:
        try:
            return await connect(
                self.url,
                open_timeout=open_sec,
                max_size=self._answer_bytes_max,
                compression=None,  # loopback: it would only cost CPU
                proxy=None,  # the tool is on this PC; a proxy of the environment is for elsewhere
                ping_interval=None,  # each request has its own limit, and not every tool answers pings
            )
        except TimeoutError as error:
            if open_sec >= self._open_timeout_sec:
                raise VendorUnavailable(hide_passwords(f"no vendor tool at {self.url}: {_sentence(error)}")) from error
            # Whoever asked had less time than a handshake may take: that says nothing of the tool.
            raise VendorBusy(f"no connection to the vendor tool came about in {round(open_sec, 2):g} s") from error
        # ValueError: an address that no port can be read from.
        except (OSError, ValueError, WebSocketException) as error:
            raise VendorUnavailable(hide_passwords(f"no vendor tool at {self.url}: {_sentence(error)}")) from error

    async def _exchange(self, connection: ClientConnection, text: str, timeout_sec: float) -> VendorAnswer:
        try:
            async with asyncio.timeout(timeout_sec):
                await connection.send(text)
                answer = parse_answer(await connection.recv(decode=False))
        except TimeoutError:
            raise VendorUnanswered(f"the vendor tool did not answer within {round(timeout_sec, 2):g} s") from None
        except (OSError, WebSocketException) as error:
            raise VendorUnavailable(f"the connection to the vendor tool broke: {_sentence(error)}") from error
        if isinstance(answer, Malformed):
            raise VendorMalformed(f"the vendor tool's answer is malformed: {answer.detail}")
        return answer

    def _give_back(self, connection: ClientConnection) -> None:
        if self._closed:
            connection.transport.abort()
        else:
            self._idle.append(connection)


def left_sec(until: float) -> float:
    """Seconds until then, by the event loop's clock; never below 0."""
    return max(0.0, until - asyncio.get_running_loop().time())


async def _is_reusable(connection: ClientConnection) -> bool:
    """Open, and nothing has come on it since its last answer; any other is aborted here."""
    reusable = False
    try:
        async with asyncio.timeout(0):
            await connection.recv(decode=False)
    except TimeoutError:
        reusable = True
    except WebSocketException as error:
        _log.debug("The vendor tool closed an idle connection", error=_sentence(error))
    finally:
        if not reusable:
            connection.transport.abort()
    return reusable


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
