"""Time-ordered ids (UUIDv7, RFC 9562 §5.7), made from a clock and a source of randomness that are passed in."""

import random
import uuid
from collections.abc import Callable

from muster.runtime.clock import Clock

NewId = Callable[[], str]


def uuid7(now_ms: int, random_bits_74: int) -> str:
    """A UUIDv7 text from 48 bits of epoch ms and 74 random bits."""
    value = (now_ms & (2**48 - 1)) << 80
    value |= 0x7 << 76
    value |= (random_bits_74 >> 62 & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random_bits_74 & (2**62 - 1)
    return str(uuid.UUID(int=value))


def id_source(clock: Clock, rng: random.Random | None = None) -> NewId:
    """Ids that sort in the order they were made by this source, even within one millisecond or a clock set back."""
    bits = (rng or random.SystemRandom()).getrandbits
    last_ms, last_bits = 0, 0

    def new_id() -> str:
        nonlocal last_ms, last_bits
        now = clock.now_ms()
        if now > last_ms:
            last_ms, last_bits = now, bits(73)
        else:
            # Same millisecond, or the wall clock went back: count on from the last id (RFC 9562 §6.2, method 2).
            last_bits += 1 + bits(32)
            if last_bits >= 2**74:
                last_ms, last_bits = last_ms + 1, bits(73)
        return uuid7(last_ms, last_bits)

    return new_id
