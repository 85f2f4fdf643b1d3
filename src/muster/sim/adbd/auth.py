"""AUTH: whether the host's key is known to this phone. Real RSA with integers; nothing here is secret.

The phone sends 20 random bytes; the host signs them as if they were a SHA-1 digest (PKCS #1 v1.5, 2048 bits). A host
whose signature fits no known key sends its public key, and the phone asks its user. Source: `adb/daemon/auth.cpp`,
`libcrypto_utils/android_pubkey.cpp` of AOSP.
"""

import base64
import binascii
import struct
from dataclasses import dataclass, field
from typing import Final

TOKEN_BYTES: Final = 20
KEY_BITS: Final = 2048
_KEY_BYTES: Final = KEY_BITS // 8
_KEY_WORDS: Final = _KEY_BYTES // 4
_BLOB: Final = struct.Struct(f"<II{_KEY_BYTES}s{_KEY_BYTES}sI")
_SHA1_PREFIX: Final = bytes.fromhex("3021300906052b0e03021a05000414")
PUBLIC_KEY_CHARS_MAX: Final = 4_096
KNOWN_KEYS_MAX: Final = 64


class KeyFormatError(Exception):
    """Bytes that are no adb public key."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An RSA public key as adb writes it into `adbkey.pub`; two are equal when the numbers are."""

    modulus: int
    exponent: int

    def verifies(self, token: bytes, signature: bytes) -> bool:
        """Whether `signature` was made over `token` with this key's private half."""
        if len(token) != TOKEN_BYTES or len(signature) != _KEY_BYTES:
            return False
        number = int.from_bytes(signature, "big")
        if number >= self.modulus:
            return False
        return pow(number, self.exponent, self.modulus).to_bytes(_KEY_BYTES, "big") == signed_block(token)


def signed_block(token: bytes) -> bytes:
    """What the host raises to its private exponent: 00 01 FF… 00, the SHA-1 algorithm id, the token."""
    tail = _SHA1_PREFIX + token
    return b"\x00\x01" + b"\xff" * (_KEY_BYTES - len(tail) - 3) + b"\x00" + tail


def parse_public_key(text: bytes) -> PublicKey:
    """Reads `base64(struct) user@host NUL`. Raises KeyFormatError."""
    if len(text) > PUBLIC_KEY_CHARS_MAX:
        raise KeyFormatError(f"{len(text)} bytes are too many for a public key")
    words = text.rstrip(b"\x00").split()
    if not words:
        raise KeyFormatError("the public key is empty")
    try:
        blob = base64.b64decode(words[0], validate=True)
        size, _n0inv, modulus, _rr, exponent = _BLOB.unpack(blob)
    except (binascii.Error, struct.error) as error:
        raise KeyFormatError(f"no adb public key: {error}") from error
    number = int.from_bytes(modulus, "little")
    if size != _KEY_WORDS or exponent not in (3, 65537) or number.bit_length() < KEY_BITS - 1 or number % 2 == 0:
        raise KeyFormatError("not an RSA key of 2048 bits with the exponent 3 or 65537")
    return PublicKey(number, exponent)


def format_public_key(key: PublicKey, comment: str) -> bytes:
    """The text that `parse_public_key` reads, with Montgomery's constants filled in as `adb keygen` does."""
    n0inv = (-pow(key.modulus, -1, 2**32)) % 2**32
    rr = pow(2, 2 * KEY_BITS, key.modulus)
    blob = _BLOB.pack(
        _KEY_WORDS, n0inv, key.modulus.to_bytes(_KEY_BYTES, "little"), rr.to_bytes(_KEY_BYTES, "little"), key.exponent
    )
    return base64.b64encode(blob) + b" " + comment.encode() + b"\x00"


@dataclass(slots=True)
class KeyRing:
    """The keys a phone has been told to trust. `asks`: a new key waits until someone presses "Allow"."""

    asks: bool = False
    known: list[PublicKey] = field(default_factory=list)

    def verifies(self, token: bytes, signature: bytes) -> bool:
        """Whether any known key made this signature."""
        return any(key.verifies(token, signature) for key in self.known)

    def offer(self, key: PublicKey) -> bool:
        """A host shows its key. True: trusted from now on; False: someone has to allow it."""
        if key in self.known:
            return True
        if self.asks or len(self.known) >= KNOWN_KEYS_MAX:
            return False
        self.known.append(key)
        return True

    def allow(self, key: PublicKey) -> None:
        """Someone pressed "Always allow from this computer"."""
        if key not in self.known:
            self.known.append(key)

    def forget_all(self) -> None:
        """ "Revoke USB debugging authorisations": every host has to ask again."""
        self.known = []
