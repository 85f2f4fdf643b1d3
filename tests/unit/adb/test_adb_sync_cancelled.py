"""A transfer that is ended while this PC's disk takes its time leaves no file open and none behind."""

import asyncio
import threading
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from tests.support.waiting import until

from muster.adb.client import AdbClient
from muster.adb.sync import AdbSync


class SlowPath(type(Path())):  # type: ignore[misc]  # the system's own kind of path
    """A path that is opened only when the test lets it."""

    asked, allowed = threading.Event(), threading.Event()
    opened: list[BinaryIO] = []  # noqa: RUF012 - paths are made of other paths, so they share it

    def open(self, *args: Any, **kwargs: Any) -> Any:
        SlowPath.asked.set()
        assert SlowPath.allowed.wait(20)
        SlowPath.opened.append(super().open(*args, **kwargs))
        return SlowPath.opened[-1]


@pytest.mark.parametrize("direction", ["pull", "push"])
async def test_cancelled_while_its_file_is_being_opened(tmp_path: Path, direction: str) -> None:
    path = SlowPath(tmp_path / "file")
    SlowPath.asked.clear()
    SlowPath.allowed.clear()
    SlowPath.opened.clear()
    sync = AdbSync(AdbClient("127.0.0.1", 1), "A")
    if direction == "push":
        (tmp_path / "file").write_bytes(b"x")
    transfer = asyncio.create_task(sync.pull_to("/a", path) if direction == "pull" else _push(sync, path))
    await until(SlowPath.asked.is_set)
    transfer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await transfer
    SlowPath.allowed.set()
    await until(lambda: SlowPath.opened and SlowPath.opened[0].closed)
    assert names_in(tmp_path) == (["file"] if direction == "push" else [])


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def _push(sync: AdbSync, path: Path) -> int:
    await sync.push(path, "/a")
    return 0
