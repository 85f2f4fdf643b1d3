"""Whoever connects and then sends slowly, or without end, costs the backend little and is let go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.support.backend import WAIT_SEC, Rig
from uvicorn.config import Config
from uvicorn.server import ServerState

from muster.backend.api.guard import Guard
from muster.backend.http_connection import HEAD_SEC, BoundedHttp

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
POST = (
    b"POST /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9000000\r\n\r\n"
)


@asynccontextmanager
async def connected(
    rig: Rig, head_sec: float = HEAD_SEC
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's end of a connection to the backend."""
    config = Config(rig.app, lifespan="off", log_config=None, server_header=False)
    config.load()
    make = partial(BoundedHttp, config, ServerState(), {}, head_sec=head_sec)
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
        async with connected(rig, head_sec) as (reader, writer):
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
    guarded = Guard(rig.app, None, body_sec=0.05)

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
