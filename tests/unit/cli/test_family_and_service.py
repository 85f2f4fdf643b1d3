"""Children and services as processes: small scripts in place of the parts of Muster."""

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from muster.cli.failing import CommandFailed
from muster.cli.family import LINE_BYTES_MAX, ChildPlan, Family, LogFile
from muster.cli.parts import is_free

NEVER = re.compile("^never$")
SERVICE = """
import asyncio, itertools, sys, threading
from muster.cli.service import run_service

async def work():
    print("ready", flush=True)
    try:
        {work}
    finally:
        print("ending", flush=True)
        {ending}
        print("ended", flush=True)

run_service(work, stop_on_eof={stop_on_eof})
print("done", flush=True)
"""
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGTERM")


WORKS = "await asyncio.Event().wait()"


class Service(Protocol):
    """Starts one, and waits until it is ready."""

    def __call__(self, ending: str = ..., *, work: str = ..., stop_on_eof: bool = ...) -> "subprocess.Popen[str]": ...


@pytest.fixture
def service() -> Iterator[Service]:
    """None is left behind, however badly it hangs."""
    started: list[subprocess.Popen[str]] = []

    def start(ending: str = "pass", *, work: str = WORKS, stop_on_eof: bool = False) -> "subprocess.Popen[str]":
        script = SERVICE.format(work=work, ending=ending, stop_on_eof=stop_on_eof)
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        started.append(process)
        read_to(process, "ready")
        return process

    yield start
    for process in started:
        with process:  # leaving closes its pipes
            process.kill()


def read_to(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    while (said := process.stdout.readline()) != f"{line}\n":
        assert said, f"ended before it said {line!r}"


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for the signal, by the kernel's word."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (caught,) = re.findall(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(caught, 16) >> number - 1 & 1)


def rest_of(process: "subprocess.Popen[str]") -> tuple[int, list[str]]:
    """Its exit status, and what it still says."""
    assert process.stdout is not None
    lines = process.stdout.read().split()
    return process.wait(timeout=30), lines


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_service_clean_up_and_ends_it_with_0(service: Service, number: signal.Signals) -> None:
    process = service()
    process.send_signal(number)
    assert rest_of(process) == (0, ["ending", "ended", "done"])


# What a service may hang in when it is told to stop, and the last line that it still says.
HANGING = {
    "a loop that turns": ("await asyncio.sleep(600)", "ending"),
    "a blocked loop": ("threading.Event().wait()", "ending"),
    "a loop that is blocked in C, where Python hears of no signal": ("sum(itertools.repeat(0))", "ending"),
    "a thread that the loop waits for": (
        "asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)",
        "ended",
    ),
    "a thread that the interpreter waits for": ("threading.Thread(target=threading.Event().wait).start()", "done"),
}


@POSIX
@pytest.mark.parametrize("hanging", HANGING)
def test_a_second_signal_ends_a_service_at_once_whatever_it_hangs_in(service: Service, hanging: str) -> None:
    ending, last_line = HANGING[hanging]
    second = signal.SIGINT if hanging == "a blocked loop" else signal.SIGTERM
    process = service(ending)
    process.send_signal(signal.SIGTERM)
    read_to(process, last_line)
    process.send_signal(second)
    assert rest_of(process) == (-second, [])


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells that a signal has been taken")
@pytest.mark.parametrize(
    ("work", "last_line"),
    [("threading.Event().wait()", None), ("threading.Thread(target=threading.Event().wait).start()", "done")],
    ids=["at work", "at its end"],
)
def test_two_signals_end_a_service_that_was_blocked_before_the_first(
    service: Service, work: str, last_line: str | None
) -> None:
    process = service(work=work)
    if last_line:
        read_to(process, last_line)
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    while catches(process.pid, signal.SIGTERM):
        assert time.monotonic() < deadline, "the first signal was not taken"
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert rest_of(process) == (-signal.SIGTERM, [])


@POSIX
def test_a_signal_after_the_end_of_standard_input_is_the_first_one(service: Service) -> None:
    process = service("await asyncio.sleep(0.2)", stop_on_eof=True)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGTERM)
    assert rest_of(process) == (0, ["ended", "done"])


def test_a_service_ends_with_its_standard_input_when_told_so(service: Service) -> None:
    process = service(stop_on_eof=True)
    assert process.stdin is not None
    process.stdin.close()
    assert rest_of(process) == (0, ["ending", "ended", "done"])


async def test_a_child_that_ends_before_it_is_ready_is_told_with_its_last_lines() -> None:
    lines: list[str] = []
    async with Family() as family:
        child = await family.start(ChildPlan("odd", ["no-such-command"], NEVER), lines.append)
        with pytest.raises(CommandFailed, match=r"(?s)odd ended with exit status 2.*No such command"):
            await child.ready()
    assert any("No such command" in line for line in lines)


async def test_a_child_that_ends_later_is_told_by_name() -> None:
    async with Family() as family:
        await family.start(ChildPlan("short", ["settings"], NEVER), lambda line: None)
        assert "short ended with exit status 2" in str(await family.first_to_end())


async def test_leaving_a_family_ends_its_children_and_takes_all_their_lines(tmp_path: Path) -> None:
    lines: list[str] = []
    plan = ChildPlan("backend", ["backend", "--port", "0", "--data", str(tmp_path)], re.compile("ready on (?P<url>.*)"))
    async with asyncio.timeout(60), Family() as family:
        child = await family.start(plan, lines.append)
        port = int((await child.ready())["url"].rpartition(":")[2])
        assert not is_free("127.0.0.1", port)
    assert is_free("127.0.0.1", port)
    assert not any("Traceback" in line for line in lines)


async def test_an_endless_line_is_cut_not_kept() -> None:
    lines: list[str] = []
    child = ChildPlan("long", ["x" * (3 * LINE_BYTES_MAX)], NEVER)
    async with Family() as family:
        await (await family.start(child, lines.append)).ended()
    assert lines
    assert max(map(len, lines)) <= LINE_BYTES_MAX


def test_a_log_of_bounded_size_keeps_one_predecessor(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "agent.log", bytes_max=100)
    for number in range(30):
        log.write(f"line {number:02}")
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.log", "agent.log.1"]
    kept = [line for name in ("agent.log.1", "agent.log") for line in (tmp_path / name).read_text().split("\n") if line]
    assert kept[-1] == "line 29"
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2 * 108
