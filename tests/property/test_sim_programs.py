"""No arguments make a program of the virtual phone fall over: it ends with a status, whatever it was given."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.sim_phone import make_phone, say_bytes

from muster.sim.shell.commands import BUILTINS, TOOLS

WORDS = [
    "",
    "a b",
    "\udcff",
    *"""
    - -- -a -n -l -r -c -d -e -p -S -W -w -R --user 0 1 -1 7 99999999999 2.5 x = a=b ! ( ) ] -eq %s %d %5 % \\c
    \\x / /sdcard /sdcard/f /none * . .. /dev/null /dev/tty global system get put delete list reset set start dump
    packages path install clear grant size density tap text swipe keyevent HOME battery window level
    com.example.app com.example.app/.SignInActivity no.such https://youtu.be/abc s/a/b/ s/(/x/ [ a-z +%s +%Q @5
    1,2 -5 start startservice broadcast force-stop --bogus -Z unplug svc uninstall resolve-activity stayon power
    wifi enable ime package activity 한글 echo sleep 0.01
    """.split(),  # noqa: SIM905 - seventy words are easier to read so
]
LEAVE_OUT = {"reboot"}  # waits for its own end
NAMES = sorted((set(BUILTINS) | set(TOOLS)) - LEAVE_OUT)
arguments = st.lists(st.sampled_from(WORDS), max_size=5)


def quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


@pytest.mark.parametrize("name", NAMES)
@given(given_words=arguments, stdin=st.sampled_from([b"", b"a b\nc\n", b"\xff\x00"]))
@settings(max_examples=examples(12), deadline=None)
def test_a_program_ends_with_a_status_whatever_it_is_given(name: str, given_words: list[str], stdin: bytes) -> None:
    script = f"echo x > /sdcard/f; {name} {' '.join(map(quoted, given_words))}"

    async def run() -> int:
        phone = make_phone()
        task = asyncio.create_task(say_bytes(phone, script, stdin))
        done, _ = await asyncio.wait([task], timeout=0.3)  # some wait for ever on a clock that stands still
        task.cancel()
        await asyncio.wait([task])
        await phone.close()
        return task.result()[0] if done else 0

    assert 0 <= asyncio.run(run()) <= 255
