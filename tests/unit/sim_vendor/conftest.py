"""A running vendor tool over three phones, and a client that speaks its protocol by hand."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.vendor_rack import Rack, rack_of
from websockets.asyncio.client import ClientConnection, connect

from muster.sim.vendor import VendorServer
from muster.sim.vendor.quirks import INSTANT


class Talker:
    """One connection to the tool."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def ask(self, action: str, devices: str | None = None, data: Any = None) -> tuple[int, str, Any]:
        message = {"action": action, "devices": devices, "data": data}
        await self.connection.send(json.dumps({key: value for key, value in message.items() if value is not None}))
        answer = json.loads(await self.connection.recv())
        return answer["code"], answer["message"], answer["data"]


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    return rack_of(3, tmp_path / "rack")


@pytest.fixture
async def server(rack: Rack) -> AsyncIterator[VendorServer]:
    server = VendorServer(rack, pace=INSTANT)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def talker(server: VendorServer) -> AsyncIterator[Talker]:
    async with connect(f"ws://127.0.0.1:{server.port}/", proxy=None) as connection:
        yield Talker(connection)
