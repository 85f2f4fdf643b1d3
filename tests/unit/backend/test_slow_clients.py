"""Whoever connects and then sends slowly, or without end, costs the backend little and is let go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.support.backend import WAIT_SEC, Rig
from uvicorn.config import Config
from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from muster.backend.api.guard import Guard
from muster.backend.body_limits import BodyLimitsOf, body_limits
from muster.backend.http_connection import HEAD_SEC, BoundedHttp
from muster.backend.uploads import UPLOAD_PATH
from muster.domain.limits import UPLOAD_TIMEOUT_MS_MAX

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = (
    b"POST /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n"
)


def body_in(sec_max: float) -> BodyLimitsOf:
    return lambda scope: replace(body_limits(scope), sec_max=sec_max)


@asynccontextmanager
async def connected(
    rig: Rig, head_sec: float = HEAD_SEC, limits: BodyLimitsOf = body_limits
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's end of a connection to the backend."""
    config = Config(rig.app, lifespan="off", log_config=None, server_header=False)
    config.load()
    make = partial(BoundedHttp, config, ServerState(), {}, head_sec=head_sec, limits=limits)
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        await server.wait_closed()


async def status(reader: asyncio.StreamReader) -> int:
    """Reads one whole answer."""
    async with asyncio.timeout(WAIT_SEC):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
    return int(head.split()[1])


async def until_closed(reader: asyncio.StreamReader) -> None:
    """Whatever is answered first (h11 says 400, httptools nothing)."""
    async with asyncio.timeout(WAIT_SEC):
        with suppress(ConnectionError):
            await reader.read()


@pytest.mark.parametrize("sent", [b"", b"GET /hea", GET, GET + b"X: y"])
async def test_a_head_that_does_not_come_closes_the_connection(rig: Rig, sent: bytes) -> None:
    async with connected(rig, head_sec=0.05) as (reader, writer):
        writer.write(sent)
        await until_closed(reader)


@pytest.mark.parametrize(("first", "answer", "then"), [(GET + b"\r\n", 200, GET), (POST, 413, b" ")])
async def test_what_does_not_come_after_an_answer_closes_it_too(
    rig: Rig, first: bytes, answer: int, then: bytes
) -> None:
    """A second head, or the rest of a body that was refused."""
    for head_sec in (0.05, 1, WAIT_SEC / 3):  # a busy machine may be too slow for the first head itself
        async with connected(rig, head_sec, body_in(head_sec)) as (reader, writer):
            writer.write(first)
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                assert await status(reader) == answer
                writer.write(then)
                await until_closed(reader)
                return
    pytest.fail("the first request was never answered")


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"])
async def test_a_head_without_end_is_cut_off(rig: Rig, before: bytes) -> None:
    async with connected(rig) as (reader, writer):
        if before:
            writer.write(before)
            assert await status(reader) == 200
        writer.write(GET + b"X: " + b"a" * 1_000_000)
        await until_closed(reader)


async def test_many_requests_on_one_connection_are_as_ever(rig: Rig) -> None:
    async with connected(rig, head_sec=WAIT_SEC) as (reader, writer):
        for _ in range(200):
            for piece in (GET, b"X: " + b"a" * 1_000, b"\r\n\r\n"):
                writer.write(piece)
                await writer.drain()
            assert await status(reader) == 200


async def test_the_rest_of_a_refused_body_is_let_in_and_the_next_request_answered(rig: Rig) -> None:
    async with connected(rig) as (reader, writer):
        writer.write(POST)
        assert await status(reader) == 413
        writer.write(b" " * 9_000_000)
        writer.write(GET + b"\r\n")
        assert await status(reader) == 200


async def test_a_body_that_does_not_end_is_answered_408(rig: Rig) -> None:
    guarded = Guard(rig.app, None, limits=body_in(0.05))

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        pieces: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]

        async def drip() -> Message:
            if pieces:
                return pieces.pop()
            await asyncio.Event().wait()
            raise AssertionError("never")

        await guarded(scope, drip, send)

    transport = httpx2.ASGITransport(slow, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        for path in ("/api/runs", "/api/nodes/callback"):
            answer = await http.post(path, content=b"{", headers={"X-Node-Auth": rig.parts.settings.secret})
            assert (answer.status_code, answer.json()["type"]) == (408, "urn:muster:problem:body-too-slow")


class Line(asyncio.Transport):
    """The backend's end of a connection whose other end is the test: what comes when is the test's to say."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol, self.told, self.changed, self.is_cut = protocol, b"", asyncio.Event(), False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told += bytes(data)
        self.changed.set()

    def close(self) -> None:
        self.is_cut = True
        self.changed.set()

    def is_closing(self) -> bool:
        return self.is_cut

    def pause_reading(self) -> None:
        """The test sends as it likes."""

    def resume_reading(self) -> None:
        """The test sends as it likes."""

    async def answers(self, count: int) -> None:
        """Waits for them; fails when the connection is closed before."""
        async with asyncio.timeout(WAIT_SEC):
            while self.told.count(b"HTTP/1.1 200 OK") < count:
                assert not self.is_cut, self.told
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> None:
        """Waits until the backend closes the connection."""
        async with asyncio.timeout(WAIT_SEC):
            while not self.is_cut:
                self.changed.clear()
                await self.changed.wait()


async def tell_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, whatever else comes; `/slow` when a wait of HEAD has long been over."""
    await asyncio.sleep(5 * HEAD if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


HEAD = 0.01  # The loop's own order of its timers decides, on a machine of any speed.


@pytest.fixture(params=[H11Protocol, AutoHTTPProtocol])
def make(request: pytest.FixtureRequest) -> partial[BoundedHttp]:
    config = Config(tell_path, lifespan="off", log_config=None, server_header=False)
    config.load()
    return partial(BoundedHttp, config, ServerState(), {}, head_sec=HEAD, kind=request.param)


@pytest.mark.parametrize("paths", [("/", "/slow"), ("/slow", "/"), ("/slow", "/slow", "/slow")])
async def test_a_request_that_came_before_its_turn_is_answered_however_long_the_answers_take(
    make: partial[BoundedHttp], paths: tuple[str, ...]
) -> None:
    line = Line(make())
    for path in paths:
        line.protocol.data_received(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())
    await line.answers(len(paths))
    line.protocol.connection_lost(None)


async def test_a_head_that_began_before_its_turn_is_waited_for_no_longer_than_any(make: partial[BoundedHttp]) -> None:
    line = Line(make())
    line.protocol.data_received(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    line.protocol.data_received(GET)
    await line.answers(1)
    line.protocol.data_received(b"X: y")
    await line.end()
    line.protocol.connection_lost(None)


async def test_the_rest_of_a_picture_that_was_answered_early_may_take_as_long_as_an_upload(
    make: partial[BoundedHttp],
) -> None:
    """It is stored already, or its ticket is too old: cut off, its node would never hear that, and send it for ever."""
    line = Line(make())
    line.protocol.data_received(b"PUT %btoken HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n" % UPLOAD_PATH.encode())
    await line.answers(1)
    for piece in (b"p", b"n"):
        line.protocol.data_received(piece)
        await asyncio.sleep(5 * HEAD)
    line.protocol.data_received(b"g" + GET + b"\r\n")
    await line.answers(2)
    line.protocol.connection_lost(None)


def test_a_picture_may_take_as_long_as_any_node_can_be_told_to_wait_and_nothing_else_may() -> None:
    picture = body_limits({"method": "PUT", "path": f"{UPLOAD_PATH}token"})
    others: list[dict[str, Any]] = [{"method": "POST", "path": UPLOAD_PATH}, {"method": "PUT", "path": "/api/runs"}]
    assert picture.sec_max * 1000 >= UPLOAD_TIMEOUT_MS_MAX
    assert all(body_limits(other).sec_max * 1000 < UPLOAD_TIMEOUT_MS_MAX for other in others)
