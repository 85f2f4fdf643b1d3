"""Child processes of `muster up` and `muster demo`: started, listened to, and stopped in order."""

import asyncio
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from muster.cli.failing import CommandFailed

READY_SEC_MAX: Final = 90.0
STOP_SEC_MAX: Final = 45.0
KILL_SEC_MAX: Final = 5.0
LINE_BYTES_MAX: Final = 16 * 1024
LOG_BYTES_MAX: Final = 20 * 1024 * 1024
TAIL_LINES: Final = 12

Write = Callable[[str], None]

if sys.platform == "win32":
    _NEW_GROUP: Final = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    _NEW_GROUP: Final = 0  # POSIX has sessions


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """A `muster` command to run as a child. `ready` matches the line by which it says that it is ready.

    `module`: another program that takes the arguments of that command.
    """

    name: str
    arguments: Sequence[str]
    ready: re.Pattern[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    module: str = "muster"


class Child:
    """One running child. Its output goes line by line to `write`; the last lines are kept for an error's report."""

    def __init__(self, plan: ChildPlan, process: asyncio.subprocess.Process, write: Write) -> None:
        self.name = plan.name
        self._plan = plan
        self._process = process
        self._write = write
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._ready: asyncio.Future[re.Match[str]] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read_output(), name=f"output of {plan.name}")

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    async def ready(self) -> re.Match[str]:
        """The ready line. Raises CommandFailed when the child ends or `READY_SEC_MAX` passes before it comes."""
        ended = asyncio.create_task(self.ended())
        either: set[asyncio.Future[Any]] = {self._ready, ended}
        try:
            await asyncio.wait(either, timeout=READY_SEC_MAX, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
        if self._ready.done():
            return self._ready.result()
        if self._process.returncode is not None:
            raise CommandFailed(self.report(f"{self.name} ended with exit status {self._process.returncode}"))
        raise CommandFailed(self.report(f"{self.name} was not ready within {READY_SEC_MAX:g} s"))

    async def ended(self) -> int:
        """Its exit status, when its output is read to the end."""
        await asyncio.shield(self._reader)
        return await self._process.wait()

    def report(self, what: str) -> str:
        """`what`, and the last lines that the child wrote."""
        return "\n".join([f"{what}; its last lines:", *(f"  {line}" for line in self._tail)]) if self._tail else what

    async def stop(self) -> None:
        """Asks it to end, insists after `STOP_SEC_MAX`, and returns when it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if not await self._ends_within(STOP_SEC_MAX):
            self.kill()
            await self._ends_within(KILL_SEC_MAX)
        self._reader.cancel()

    def kill(self) -> None:
        """Ends it at once."""
        if self._process.returncode is None:
            self._process.kill()

    async def _ends_within(self, limit_sec: float) -> bool:
        try:
            async with asyncio.timeout(limit_sec):
                await self._process.wait()
        except TimeoutError:
            return False
        return True

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        rest = b""
        while chunk := await self._process.stdout.read(64 * 1024):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)
            if len(rest) > LINE_BYTES_MAX:
                self._take(rest)
                rest = b""
        if rest:
            self._take(rest)

    def _take(self, raw: bytes) -> None:
        line = raw[:LINE_BYTES_MAX].decode("utf-8", "replace").rstrip("\r")
        self._tail.append(line)
        self._write(line)
        match = self._plan.ready.search(line)
        if match and not self._ready.done():
            self._ready.set_result(match)


class Family:
    """The children of this process. Leaving the `async with` stops them, the youngest first."""

    def __init__(self) -> None:
        self._children: list[Child] = []

    async def __aenter__(self) -> "Family":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._children:
                await self._children[-1].stop()
                self._children.pop()
        finally:
            for child in self._children:
                child.kill()

    async def start(self, plan: ChildPlan, write: Write) -> Child:
        """Starts a child; wait for its `ready()`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            plan.module,
            *plan.arguments,
            "--stop-on-eof",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | plan.environment | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            # A group of its own: Ctrl-C reaches the parent alone, which stops its children in order.
            start_new_session=True,
            creationflags=_NEW_GROUP,
        )
        child = Child(plan, process, write)
        self._children.append(child)
        return child

    async def first_to_end(self) -> CommandFailed:
        """Returns when a child ends that nobody stopped, with the report."""
        ends = {asyncio.create_task(child.ended()): child for child in self._children}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ends:
                task.cancel()
        task = done.pop()
        return CommandFailed(ends[task].report(f"{ends[task].name} ended with exit status {task.result()}"))


class LogFile:
    """Lines of one child, in a file of bounded size with one predecessor (`name.log.1`)."""

    def __init__(self, path: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._file = path.open("a", encoding="utf-8", errors="replace")

    def write(self, line: str) -> None:
        """Appends one line."""
        self._file.write(line + "\n")
        self._file.flush()
        if self._file.tell() > self._bytes_max:
            self._file.close()
            self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._file = self._path.open("a", encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
