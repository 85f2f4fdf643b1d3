"""Children and services as processes: small scripts in place of the parts of Muster."""

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from muster.cli.failing import CommandFailed
from muster.cli.family import LINE_BYTES_MAX, ChildPlan, Family, LogFile
from muster.cli.parts import is_free

NEVER = re.compile("^never$")
SERVICE = """
import asyncio, sys
from muster.cli.service import run_service

async def work():
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("ending", flush=True)
        {ending}
        print("ended", flush=True)

run_service(work, stop_on_eof={stop_on_eof})
print("done", flush=True)
"""
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send SIGTERM")


def service(ending: str = "pass", *, stop_on_eof: bool = False) -> "subprocess.Popen[str]":
    script = SERVICE.format(ending=ending, stop_on_eof=stop_on_eof)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def rest_of(process: "subprocess.Popen[str]") -> tuple[int, list[str]]:
    assert process.stdout is not None
    lines = process.stdout.read().split()
    process.stdout.close()
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()
    return process.wait(timeout=30), lines


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_service_clean_up_and_ends_it_with_0(number: signal.Signals) -> None:
    process = service()
    process.send_signal(number)
    assert rest_of(process) == (0, ["ending", "ended", "done"])


@POSIX
def test_a_second_signal_ends_a_service_at_once() -> None:
    process = service("await asyncio.sleep(600)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "ending\n"
    process.send_signal(signal.SIGTERM)
    assert rest_of(process) == (130, [])


def test_a_service_ends_with_its_standard_input_when_told_so() -> None:
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
