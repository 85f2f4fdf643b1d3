"""The few lines of HTTP on loopback: they answer a scraper, and are bored by everybody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx2
import pytest

from muster.agent.observe.http import CONNECTIONS_MAX, HEAD_BYTES_MAX, LoopbackServer, Page


async def hello() -> Page:
    return Page(200, b"hello\n")


async def unwell() -> Page:
    return Page(503, b'{"status": "degraded"}', "application/json")


@asynccontextmanager
async def served(**options: float) -> AsyncIterator[LoopbackServer]:
    async with LoopbackServer(0, {"/hello": hello, "/unwell": unwell}, **options) as server:
        yield server


@asynccontextmanager
async def connected(server: LoopbackServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def say(server: LoopbackServer, head: bytes) -> bytes:
    """All that is answered until the server hangs up."""
    async with asyncio.timeout(20), connected(server) as (reader, writer):
        writer.write(head)
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_a_scraper_gets_its_page_with_status_and_type() -> None:
    async with served() as server, httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{server.url}/hello?name=x")
        assert (answer.status_code, answer.text) == (200, "hello\n")
        sick = await http.get(f"{server.url}/unwell")
        assert (sick.status_code, sick.headers["content-type"]) == (503, "application/json")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: localhost:9\r\n\r\n", 200),
        (b"GET /hello HTTP/1.0\r\nHOST: [::1]\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
        (b"POST /hello HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\n", 405),
        (b"GET /hello HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 403),
        (b"GET /hello HTTP/1.1\r\nHost: 127.0.0.1.example\r\n\r\n", 403),
        (b"GET /hello HTTP/1.1\r\n\r\n", 403),
        (b"GET /hel lo HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
)
async def test_each_head_has_its_answer(head: bytes, status: int) -> None:
    async with served() as server:
        assert (await say(server, head)).split(b" ")[1] == str(status).encode()


async def test_head_has_the_length_and_no_body() -> None:
    async with served() as server:
        answer = await say(server, b"HEAD /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b"Content-Length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_head_without_end_is_cut_off() -> None:
    async with served() as server:
        assert await say(server, b"GET /hello HTTP/1.1\r\nX: " + b"x" * (2 * HEAD_BYTES_MAX)) == b""
        assert b"hello" in await say(server, b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def test_whoever_says_nothing_is_hung_up_on() -> None:
    async with served(exchange_sec=0.05) as server:
        assert await say(server, b"GET /hel") == b""


async def test_more_connections_than_a_scraper_needs_are_refused_until_one_ends() -> None:
    ask = b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with served(exchange_sec=60.0) as server, asyncio.timeout(40):
        silent = [connected(server) for _ in range(CONNECTIONS_MAX)]
        held = [await each.__aenter__() for each in silent]
        # They are accepted in the order in which they came.
        assert await say(server, ask) == b""
        held[0][1].write(ask)
        assert b"hello" in await held[0][0].read()
        answer = b""
        while not answer:  # the end of the other one is a turn of the loop away
            answer = await say(server, ask)
        assert b"hello" in answer
        for each in silent:
            await each.__aexit__(None, None, None)


async def test_leaving_ends_open_exchanges_and_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with asyncio.timeout(20):
        async with served() as server:
            silent = connected(server)
            reader, _ = await silent.__aenter__()
            assert b"hello" in await say(server, b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await reader.read() == b""
        await silent.__aexit__(None, None, None)
    assert asyncio.all_tasks() == before


async def test_two_agents_on_one_pc_have_two_ports() -> None:
    async with served() as one, served() as other:
        assert one.url != other.url
