"""The real backend in a thread of the test's process, for commands that bring their own event loop."""

import asyncio
import io
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import structlog

from muster.backend.main import BackendSettings, serve
from muster.runtime.logs import configure_logs

SECRET = "a-secret-of-this-test-run"


@contextmanager
def backend_in_thread(data_dir: Path) -> Iterator[str]:
    """Yields the address of a backend of its own on a free port; it has ended when the block is left."""
    ready: Future[str] = Future()
    stop: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()

    async def main() -> None:
        settings = BackendSettings(host="127.0.0.1", port=0, data_dir=data_dir, secret=SECRET)
        task = asyncio.create_task(serve(settings, on_ready=lambda line: ready.set_result(line.rpartition(" ")[2])))
        stop.set_result((asyncio.get_running_loop(), task))
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()):
            if ready.done():
                raise error
            ready.set_exception(error)

    configure_logs(stream=io.StringIO())  # a command's answer is alone on stdout
    thread = threading.Thread(target=lambda: asyncio.run(main()), name="backend")
    thread.start()
    try:
        yield ready.result(timeout=60)
    finally:
        loop, task = stop.result(timeout=60)
        if thread.is_alive():
            loop.call_soon_threadsafe(task.cancel)
        thread.join(timeout=60)
        structlog.reset_defaults()
        assert not thread.is_alive(), "the backend does not end"
