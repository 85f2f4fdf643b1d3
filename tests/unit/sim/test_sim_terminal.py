"""An interactive shell: prompt, echo, editing, variables that stay."""

from tests.support.sim_phone import make_phone

from muster.sim.shell.streams import Capture, Source, Streams
from muster.sim.shell.terminal import interact


async def typed(keys: list[bytes], *, echo: bool = True) -> tuple[int, str]:
    """What a person sees who types these chunks, and the status at the end."""
    left = list(keys)

    async def read() -> bytes:
        return left.pop(0) if left else b""

    out = Capture()
    status = await interact(make_phone(), Streams(Source(read), out, out, out), echo=echo)
    return status, out.value().decode()


async def test_lines_are_echoed_run_and_prompted_for() -> None:
    status, seen = await typed([b"echo hi\r", b"exit 3\r"])
    assert seen == "dm1q:/ $ echo hi\r\nhi\ndm1q:/ $ exit 3\r\n"
    assert status == 3


async def test_variables_and_the_folder_stay_from_line_to_line() -> None:
    _, seen = await typed([b"X=5; cd /sdcard\n", b"echo $X; pwd\n"], echo=False)
    assert seen == "5\n/storage/emulated/0\n"


async def test_a_wrong_key_is_taken_back_and_a_line_can_be_dropped() -> None:
    _, seen = await typed([b"ecx\x7fho a\r", b"garbage\x03", b"echo b\r", b"\x04"])
    assert "ecx\b \bho a\r\na\n" in seen
    assert "garbage^C\r\n" in seen
    assert "garbage: inaccessible" not in seen
    assert seen.endswith("echo b\r\nb\ndm1q:/ $ ")


async def test_a_wrong_line_does_not_end_the_shell() -> None:
    _, seen = await typed([b"echo 'open\n", b"nope\n", b"echo on\n"], echo=False)
    assert "no closing quote" in seen
    assert "nope: inaccessible or not found" in seen
    assert seen.endswith("on\n")


async def test_a_script_on_the_input_may_read_from_it() -> None:
    _, seen = await typed([b"read A\nvalue\necho got $A\n"], echo=False)
    assert seen == "got value\n"
