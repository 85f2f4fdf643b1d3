"""Whatever bytes or words arrive, the rack's parsers answer with a value or with their own one error."""

import asyncio
import contextlib
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.adb_host import key
from tests.support.examples import examples
from tests.support.sim_phone import make_phone, say

from muster.sim.adbd.auth import KeyFormatError, format_public_key, parse_public_key
from muster.sim.adbd.packets import Command, Decoder, Packet, ProtocolError, encode
from muster.sim.adbd.shellproto import PacketReader, pack
from muster.sim.adbd.sync import sync_service
from muster.sim.files import normalise
from muster.sim.shell.arithmetic import ArithmeticProblem, evaluate, wrap32
from muster.sim.shell.commands.package import apk_package
from muster.sim.shell.expansion import compile_pattern, strip_pattern
from muster.sim.shell.parser import parse
from muster.sim.shell.syntax import ShellSyntaxError

numbers = st.integers(0, 2**32 - 1)
packets = st.builds(Packet, st.sampled_from([int(c) for c in Command]), numbers, numbers, st.binary(max_size=300))
words = [
    "$(",
    "${",
    "$((",
    "))",
    "if ",
    "then ",
    "fi",
    "while ",
    "do ",
    "done",
    "case x in ",
    "esac",
    "echo ",
    "for i in ",
    "&&",
]
shellish = st.lists(st.sampled_from(list("ab $(){}[]'\"\\`;&|<>!#=*?\n-1/~") + words), max_size=40).map("".join)


@given(st.lists(packets, max_size=5), st.booleans(), st.data())
def test_packets_survive_any_cutting(sent: list[Packet], checked: bool, data: st.DataObject) -> None:
    stream = b"".join(encode(packet, checked=checked) for packet in sent)
    decoder, received, at = Decoder(checked=checked), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 100))
        received += decoder.feed(stream[at : at + step])
        at += step
    assert received == sent


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_no_bytes_make_the_packet_decoder_raise_anything_else_or_hoard(chunks: list[bytes]) -> None:
    decoder = Decoder(max_payload=1_000)
    try:
        for chunk in chunks:
            decoder.feed(chunk)
            assert decoder.buffered <= 1_024 + 200
    except ProtocolError:
        pass


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=50)), max_size=5), st.integers(1, 20))
def test_shell_packets_survive_any_cutting(sent: list[tuple[int, bytes]], step: int) -> None:
    stream = b"".join(pack(packet_id, data) for packet_id, data in sent)
    reader = PacketReader()
    assert [p for at in range(0, len(stream), step) for p in reader.feed(stream[at : at + step])] == sent


@given(st.binary(max_size=200))
def test_no_bytes_make_the_shell_packet_reader_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        PacketReader().feed(data)


@given(st.binary(max_size=800))
def test_no_bytes_make_the_key_reader_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(KeyFormatError):
        parse_public_key(data)


@given(st.integers(0, 700), st.integers(0, 255))
@settings(deadline=None)  # making the key takes a moment, once
def test_a_damaged_key_is_another_key_or_none(at: int, byte: int) -> None:
    text = bytearray(format_public_key(key().public, "x"))
    text[at % len(text)] = byte
    with contextlib.suppress(KeyFormatError):
        parse_public_key(bytes(text))


@given(shellish)
def test_no_script_makes_the_parser_raise_anything_else(script: str) -> None:
    with contextlib.suppress(ShellSyntaxError):
        parse(script)


@given(shellish)
@settings(max_examples=examples(150), deadline=None)
def test_no_script_takes_the_shell_down(script: str) -> None:
    async def run() -> int:
        phone = make_phone()
        task = asyncio.create_task(say(phone, script))
        done, _ = await asyncio.wait([task], timeout=1)  # an endless loop is a fine script
        task.cancel()
        await asyncio.wait([task])
        await phone.close()
        return task.result().status if done else 0

    assert 0 <= asyncio.run(run()) <= 255


@given(st.text(max_size=40).map(lambda text: text.replace("\0", "").replace("\r", "")))
def test_what_stands_in_single_quotes_arrives_unchanged(value: str) -> None:
    quoted = "'" + value.replace("'", "'\\''") + "'"
    said = asyncio.run(say(make_phone(), f"printf %s {quoted}"))
    assert (said.status, said.out) == (0, value)


@given(st.text("0123456789+-*/%()<>=!&|^~?: xyz", max_size=30))
def test_no_expression_makes_arithmetic_raise_anything_else(expression: str) -> None:
    with contextlib.suppress(ArithmeticProblem):
        assert -(2**31) <= evaluate(expression, lambda _name: "7") < 2**31


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_sums_and_quotients_are_those_of_c(left: int, right: int) -> None:
    names = {"x": str(left), "y": str(right)}
    assert evaluate("x + y", names.__getitem__) == wrap32(left + right)
    if right:
        quotient = evaluate("x / y", names.__getitem__)
        assert wrap32(quotient * right + evaluate("x % y", names.__getitem__)) == left


@given(st.text("ab/.", max_size=20), st.text("ab/.", max_size=10))
def test_a_plain_path_stays_plain(path: str, cwd: str) -> None:
    plain = normalise(path, "/" + cwd)
    assert plain == normalise(plain)
    assert plain.startswith("/")
    assert not re.search(r"//|/\.{1,2}(/|$)", plain)


@given(st.text("ab*?[]-!\\", max_size=15))
def test_every_pattern_compiles(pattern: str) -> None:
    compile_pattern(pattern).fullmatch("ab")


@given(st.text("abc", max_size=12), st.text("abc*?[]!", max_size=6), st.sampled_from(["#", "##", "%", "%%"]))
def test_a_stripped_end_is_the_shortest_or_the_longest_that_fits(value: str, pattern: str, operator: str) -> None:
    fits = compile_pattern(pattern)
    ends = [value[:n] if operator[0] == "#" else value[len(value) - n :] for n in range(len(value) + 1)]
    cuts = [n for n, end in enumerate(ends) if fits.fullmatch(end)]
    cut = (max(cuts) if len(operator) == 2 else min(cuts)) if cuts else 0
    kept = value[cut:] if operator[0] == "#" else value[: len(value) - cut]
    assert strip_pattern(value, operator, pattern) == kept


@given(st.binary(max_size=300))
def test_no_bytes_make_the_apk_reader_raise(data: bytes) -> None:
    apk_package(data)
    apk_package(b"PK\x03\x04" + data)


sync_bytes = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from(
            [b"STAT", b"LIST", b"SEND", b"RECV", b"STA2", b"LIS2", b"SND2", b"RCV2", b"DATA", b"DONE", b"QUIT"]
        ),
        st.integers(0, 40).map(lambda number: number.to_bytes(4, "little")),
        st.sampled_from([b"/sdcard", b"/sdcard/x,33188", b"/system/x,1", b",", b"\0\0\0\0"]),
    ),
    max_size=12,
).map(b"".join)


@given(sync_bytes, st.integers(1, 50))
@settings(deadline=None)
def test_no_bytes_make_the_sync_service_raise_anything_else(data: bytes, step: int) -> None:
    class Wire:
        """A stream whose host has sent `data` and closed."""

        def __init__(self) -> None:
            self.left = data

        async def read(self) -> bytes:
            chunk, self.left = self.left[:step], self.left[step:]
            return chunk

        async def write(self, _data: bytes) -> None:
            return

    async def run() -> None:
        with contextlib.suppress(ProtocolError):
            await sync_service(make_phone(), Wire())

    asyncio.run(run())
