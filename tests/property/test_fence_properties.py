"""The fence through real shells: before its deadline a command is as if there were none, after it nothing happens."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from muster.adb.fence import REFUSED_STATUS, SHELL_BYTES_MAX, fenced, refused_at
from muster.domain.limits import PHONE_CLOCK_SEC_MAX

FOUND = [found for name in ("mksh", "dash", "bash", "sh") if (found := shutil.which(name))]
SHELLS = list({Path(found).resolve(): found for found in reversed(FOUND)}.values())[::-1]
needs_shell = pytest.mark.skipif(sys.platform == "win32" or not SHELLS, reason="needs a POSIX shell on this PC")
HOUR = 3600
COMMANDS = st.one_of(
    st.sampled_from(
        [
            "exit 7", "false", "true", "exit 124", "echo out; echo err >&2; exit 3", "printf 'a\\nb' # a comment",
            "cat <<E\nit's $((1 + 1))\nE", "x='a'; y=\"$x b\"; echo \"$y\"", "for i in 1 2; do echo $i; done; (exit 5)",
            "no-such-program-anywhere", "set -e; false; echo not here", "echo muster-fence 5 >&2; exit 1",
            "case x in x) echo yes;; esac", "echo a |\n cat", "echo 'it'\\''s'", "{ echo x; } >&2", "kill -9 $$",
            "", "\n\necho late line", "if true; then exit 9; fi", "echo $#$0 | wc -l", "trap 'echo bye' EXIT; exit 2",
        ]
    ),
    st.lists(
        st.sampled_from(["echo ", "a", "'b c'", '"$X"', " ", "\n", ";", "true", "exit 4", "&&", "||", "|", "x=1"]),
        max_size=8,
    ).map("".join),
)  # fmt: skip


def run(shell: str, script: str, folder: Path) -> tuple[int, bytes, bytes]:
    done = subprocess.run(
        [shell, "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def is_broken(shell: str, script: str, folder: Path) -> bool:
    """Whether the shell cannot even read it; then its own message tells lines and text, which differ."""
    return run(shell, f"set -n\n{script}", folder)[2] != b""


@needs_shell
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(12), deadline=None)
@given(command=COMMANDS, limited=st.booleans())
@example(command="exit 124", limited=False)
@example(command="echo 'it'\\''s'; exit 3", limited=True)
def test_before_its_deadline_a_fenced_command_is_as_if_there_were_no_fence(
    shell: str, command: str, limited: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = run(shell if not limited else "sh", command, folder)
        assume(not is_broken(shell, command, folder) and b"syntax" not in plain[2].lower() and plain[0] != -9)
        deadline = int(time.time()) + HOUR
        status, stdout, stderr = run(shell, fenced(command, deadline, timeout_sec=60 if limited else None), folder)
    assert (status, stdout) == plain[:2]
    # Messages of the shell itself name lines, and the fence is one.
    assert bool(stderr) == bool(plain[2])
    assert refused_at(status, stderr) is None


@needs_shell
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=examples(12), deadline=None)
@given(command=COMMANDS, late_sec=st.integers(1, 10**9), limited=st.booleans())
def test_after_its_deadline_a_fenced_command_does_nothing_and_tells_the_phones_clock(
    shell: str, command: str, late_sec: int, limited: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        before = int(time.time())
        script = fenced(f"touch canary; {command}\ntouch canary", before - late_sec, timeout_sec=9 if limited else None)
        assume(not is_broken(shell, script, folder))
        status, stdout, stderr = run(shell, script, folder)
        told = refused_at(status, stderr)
        assert (status, stdout) == (REFUSED_STATUS, b"")
        assert told is not None and before <= told <= time.time()
        assert list(folder.iterdir()) == []


@needs_shell
@pytest.mark.parametrize("shell", SHELLS)
def test_the_phones_own_timeout_ends_a_long_command(shell: str, tmp_path: Path) -> None:
    status, _, stderr = run(shell, fenced("sleep 60; touch canary", int(time.time()) + HOUR, timeout_sec=1), tmp_path)
    assert status == 124
    assert refused_at(status, stderr) is None, "it ran: its fate is not that of one that never started"
    assert list(tmp_path.iterdir()) == []


@given(
    command=st.text(max_size=200), deadline=st.integers(1, PHONE_CLOCK_SEC_MAX), timeout=st.none() | st.integers(1, 600)
)
def test_the_fence_is_the_first_line_and_leaves_the_command_as_it_is(
    command: str, deadline: int, timeout: int | None
) -> None:
    first, rest = fenced(command, deadline, timeout_sec=timeout).split("\n", 1)
    assert first.startswith(f'[ "$(date +%s)" -le {deadline} ] || ')
    if timeout is None:
        assert rest == command


def test_a_command_too_long_for_a_second_quoting_keeps_the_fence_alone() -> None:
    command = "echo " + "'" * 30_000
    assert "timeout" not in fenced(command, 1, timeout_sec=60)
    assert len(fenced("a" * (SHELL_BYTES_MAX - 500), 1, timeout_sec=60)) <= SHELL_BYTES_MAX


@pytest.mark.parametrize("deadline", [0, -5, PHONE_CLOCK_SEC_MAX + 1])
def test_a_deadline_that_mksh_cannot_compare_is_refused(deadline: int) -> None:
    with pytest.raises(ValueError, match="is not between"):
        fenced("true", deadline)


@pytest.mark.parametrize(
    ("status", "stderr"),
    [
        (0, b"muster-fence 5\n"),
        (124, b""),
        (124, b"muster-fence \n"),
        (124, b"x\nmuster-fence 5\n"),
        (124, b"muster-fence 5\nmore"),
    ],
)
def test_only_the_fences_own_words_are_a_refusal(status: int, stderr: bytes) -> None:
    assert refused_at(status, stderr) is None
    assert refused_at(124, b"muster-fence 1739012345\r\n") == 1_739_012_345
