"""Has the agent watched for as long as the block lasts, and tells what is seen at an address on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from muster.agent.observe.http import LoopbackServer
from muster.agent.observe.observer import AgentObserver
from muster.runtime.logs import get_logger
from muster.runtime.supervision import Background

log = get_logger()
ADDRESS_FILE: Final = "address"


@asynccontextmanager
async def watched(observer: AgentObserver, folder: Path, port: int | None) -> AsyncIterator[None]:
    """`port` None: told nowhere. The address lies in `folder` for as long as somebody answers there.

    A port that is taken is logged and done without: phones are not to wait for whoever counts them.
    """
    async with AsyncExitStack() as stack, Background() as background:
        # One that was killed has left its own.
        await asyncio.to_thread(_forget, folder / ADDRESS_FILE)
        if port is not None:
            await _tell(observer, folder / ADDRESS_FILE, port, stack)
        _ = background.start("observe: health", _outlived(observer.keep_looking()))
        _ = background.start("observe: lag", _outlived(observer.measure_lag()))
        yield


async def _tell(observer: AgentObserver, address: Path, port: int, stack: AsyncExitStack) -> None:
    try:
        server = await stack.enter_async_context(LoopbackServer(port, observer.pages))
        stack.callback(_forget, address)
        await asyncio.to_thread(address.write_text, server.url + "\n", encoding="utf-8")
        log.info("Metrics and health", url=server.url)
    except OSError as error:
        log.error("Metrics and health are not told on their port", port=port, error=str(error))


def _forget(address: Path) -> None:
    with contextlib.suppress(OSError):
        address.unlink(missing_ok=True)


async def _outlived(watching: Coroutine[Any, Any, None]) -> None:
    try:
        await watching
    except Exception as error:
        log.error("Watching the agent has failed, which is a bug", exc_info=error)
