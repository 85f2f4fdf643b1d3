"""Real `muster` processes for tests: started, awaited by their ready line, surely ended."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from muster.runtime.settings import TABLE

READY_SEC_MAX = 200.0
STOP_SEC_MAX = 120.0
RUN_SEC_MAX = 170.0

if sys.platform == "win32":
    STOP_SIGNAL = signal.CTRL_BREAK_EVENT
else:
    STOP_SIGNAL = signal.SIGTERM

SECRET = "a-secret-of-this-test-run"


@dataclass
class Process:
    """A running child. `lines`: what it wrote to stdout and stderr so far."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    is_silent: bool = False  # its output has ended

    async def wait_for_line(self, pattern: str, *, limit_sec: float = READY_SEC_MAX) -> re.Match[str]:
        """The first line that matches, past or to come. Fails with all output when it does not come."""
        expression = re.compile(pattern)
        async with asyncio.timeout(limit_sec), self.news:
            seen = 0
            while True:
                for line in self.lines[seen:]:
                    if match := expression.search(line):
                        return match
                seen = len(self.lines)
                if self.is_silent:
                    raise AssertionError(f"ended before it said {pattern!r}:\n{self.output}")
                await self.news.wait()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    async def ended(self, limit_sec: float = STOP_SEC_MAX) -> int:
        """Its exit status."""
        async with asyncio.timeout(limit_sec):
            return await self.process.wait()

    def interrupt(self) -> None:
        """What a service manager does: SIGTERM (Ctrl-Break on Windows)."""
        if self.process.returncode is None:
            self.process.send_signal(STOP_SIGNAL)


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end."""

    status: int
    stdout: str
    stderr: str


@asynccontextmanager
async def muster(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Process]:
    """`python -m muster ARGUMENTS` in the background; ended on leaving, by force if need be."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "muster",
        *arguments,
        cwd=cwd,
        env=_environment(cwd, environment or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    child = Process(process)
    reader = asyncio.create_task(_collect(child))
    try:
        yield child
    finally:
        child.interrupt()
        try:
            await child.ended()
        except TimeoutError:
            process.kill()
            await process.wait()
        await reader


async def run_muster(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, limit_sec: float = RUN_SEC_MAX
) -> Finished:
    """Runs one command to its end; it is killed, and the test fails, when that takes longer than `limit_sec`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "muster",
        *arguments,
        cwd=cwd,
        env=_environment(cwd, environment or {}),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limit_sec):
            stdout, stderr = await process.communicate()
    except TimeoutError:
        process.kill()
        stdout, stderr = await process.communicate()
        raise AssertionError(f"muster {' '.join(arguments)} hangs:\n{stderr.decode()}") from None
    assert process.returncode is not None
    return Finished(process.returncode, stdout.decode(), stderr.decode())


async def _collect(child: Process) -> None:
    assert child.process.stdout is not None
    while line := await child.process.stdout.readline():
        async with child.news:
            child.lines.append(line.decode("utf-8", "replace").rstrip())
            child.news.notify_all()
    async with child.news:
        child.is_silent = True
        child.news.notify_all()


def _environment(cwd: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Nothing of this machine's settings, and a home of the test's own: two test runs share no lock and no key."""
    settings = {row.name for row in TABLE}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in settings and not name.startswith(("MUSTER_", "ADB_"))
    }
    home = cwd / "home"
    home.mkdir(exist_ok=True)
    own = {"HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "NODE_AGENT_SHARED_SECRET": SECRET}
    return kept | own | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"} | dict(extra)
