"""Connections of a server are closed, however what serves them ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from muster.runtime.connections import Connections, Serve

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def until_hung_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raise ConnectionError("as it happens")


@asynccontextmanager
async def handed_over(connections: Connections) -> AsyncIterator[asyncio.StreamReader]:
    """A connection that a server has accepted and hands over now; answers its other end."""
    taken: asyncio.Queue[Pair] = asyncio.Queue()
    server = await asyncio.start_server(lambda *pair: taken.put_nowait(pair), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        connections.accept(*await taken.get())
        try:
            yield reader
        finally:
            writer.close()


async def hung_up(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(20):
        try:
            return await reader.read() == b""
        except ConnectionResetError:
            return True


@pytest.mark.parametrize("turns", [0, 3], ids=["before its first step", "at work"])
async def test_one_whose_task_is_ended_is_closed(turns: int) -> None:
    connections = Connections(until_hung_up)
    async with handed_over(connections) as reader:
        for _ in range(turns):
            await asyncio.sleep(0)
        await connections.close()
        assert await hung_up(reader) and len(connections) == 0


@pytest.mark.parametrize("serve", [breaks, until_hung_up])
async def test_one_that_comes_too_late_or_is_one_too_many_is_hung_up_on(serve: Serve) -> None:
    late, full = Connections(serve), Connections(serve, at_once_max=0)
    await late.close()
    for connections in (late, full):
        async with handed_over(connections) as reader:
            assert await hung_up(reader) and len(connections) == 0


async def test_one_is_closed_when_what_serves_it_returns() -> None:
    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    connections = Connections(greets)
    async with handed_over(connections) as reader, asyncio.timeout(20):
        assert await reader.read() == b"hello"
        await connections.idle()
