import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from tests.support.backend import Rig, open_rig

from muster.runtime.logs import configure_logs


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """What the backend logs, as it would in a terminal."""
    stream = io.StringIO()
    configure_logs(stream=stream)
    yield stream
    structlog.reset_defaults()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path / "data") as opened:
        yield opened
