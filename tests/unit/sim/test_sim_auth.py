"""Which host a phone trusts: real RSA, adb's key format."""

import base64

import pytest
from tests.support.adb_host import key

from muster.sim.adbd.auth import KeyFormatError, KeyRing, PublicKey, format_public_key, parse_public_key

TOKEN = bytes(range(20))
# Made by `adb keygen` of platform-tools 36; the private half was thrown away.
ADB_PUBLIC_KEY_HEAD = b"QAAAA"


def test_a_key_is_read_as_it_was_written() -> None:
    text = format_public_key(key().public, "me@host")
    assert text.startswith(ADB_PUBLIC_KEY_HEAD)  # 64 words, little-endian, is how every adbkey.pub begins
    assert text.endswith(b" me@host\0")
    assert parse_public_key(text) == key().public


def test_montgomery_constants_are_the_ones_that_adb_checks() -> None:
    blob = base64.b64decode(format_public_key(key().public, "x").split()[0])
    n0inv = int.from_bytes(blob[4:8], "little")
    rr = int.from_bytes(blob[264:520], "little")
    assert n0inv * key().public.modulus % 2**32 == 2**32 - 1
    assert rr == 2**4096 % key().public.modulus


def test_a_signature_counts_for_its_token_and_its_key_only() -> None:
    signature = key().sign(TOKEN)
    assert key().public.verifies(TOKEN, signature)
    assert not key().public.verifies(TOKEN[::-1], signature)
    assert not key(2).public.verifies(TOKEN, signature)
    assert not key().public.verifies(TOKEN, signature[:-1])
    assert not key().public.verifies(TOKEN, b"\xff" * 256)


@pytest.mark.parametrize(
    "text",
    [b"", b"\0", b"not base64!", base64.b64encode(b"short"), base64.b64encode(bytes(524)), b"A" * 5000],
)
def test_what_is_no_key_is_refused(text: bytes) -> None:
    with pytest.raises(KeyFormatError):
        parse_public_key(text)


def test_a_ring_that_does_not_ask_trusts_whoever_comes() -> None:
    ring = KeyRing()
    assert not ring.verifies(TOKEN, key().sign(TOKEN))
    assert ring.offer(key().public)
    assert ring.verifies(TOKEN, key().sign(TOKEN))


def test_a_ring_that_asks_waits_until_someone_allows_it() -> None:
    ring = KeyRing(asks=True)
    assert not ring.offer(key().public)
    ring.allow(key().public)
    assert ring.offer(key().public)
    ring.forget_all()
    assert not ring.verifies(TOKEN, key().sign(TOKEN))


def test_a_ring_holds_only_so_many_keys() -> None:
    ring = KeyRing()
    assert [ring.offer(PublicKey(2**2047 + 2 * n + 1, 3)) for n in range(66)].count(True) == 64
