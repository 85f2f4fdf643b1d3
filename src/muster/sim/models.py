"""Which phones a rack consists of: a small table of models, and one phone's identity drawn from the rack's seed."""

import random
from dataclasses import dataclass
from typing import Final

DEVICE_ID_ALPHABET: Final = "0123456789ABCDEFGHJKLMNPRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class Model:
    """A kind of phone. Width and height are pixels in portrait, `density` dpi."""

    brand: str
    model: str
    device: str
    release: str
    sdk: int
    width: int
    height: int
    density: int
    serial_prefix: str
    serial_chars: int
    abi: str = "arm64-v8a"


MODELS: Final = (
    Model("samsung", "SM-S911N", "dm1q", "14", 34, 1080, 2340, 480, "R3CW", 11),
    Model("google", "Pixel 7", "panther", "14", 34, 1080, 2400, 420, "2A", 14),
    Model("samsung", "SM-A536N", "a53x", "13", 33, 1080, 2400, 450, "R5CT", 11),
    Model("Redmi", "2201117TG", "spes", "12", 31, 1080, 2400, 440, "", 8),
    Model("samsung", "SM-G965N", "star2qlte", "10", 29, 1440, 2960, 560, "", 16),
    Model("google", "Pixel 4a", "sunfish", "13", 33, 1080, 2340, 440, "0B", 14),
    Model("samsung", "SM-A125N", "a12", "11", 30, 720, 1600, 300, "R9PR", 11),
    Model("LGE", "LM-Q730N", "mmh45lm", "10", 29, 720, 1560, 320, "LMQ730N", 15),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """One phone for ever. `device_id` is its `onlySerial` and, unless a profile says otherwise, its `ro.serialno`."""

    device_id: str
    number: int
    model: Model
    seed: int


def draw_identities(count: int, seed: int) -> list[Identity]:
    """`count` different phones; the same seed gives the same ones, and a larger rack begins with a smaller one's."""
    rng = random.Random(f"identities/{seed}")
    taken: set[str] = set()
    identities: list[Identity] = []
    while len(identities) < count:
        model = rng.choice(MODELS)
        tail = "".join(rng.choices(DEVICE_ID_ALPHABET, k=model.serial_chars - len(model.serial_prefix)))
        device_id = model.serial_prefix + tail
        phone_seed = rng.getrandbits(32)
        if device_id not in taken:
            taken.add(device_id)
            identities.append(Identity(device_id, len(identities) + 1, model, phone_seed))
    return identities
