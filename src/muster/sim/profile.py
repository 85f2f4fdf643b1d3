"""A profile: the characters of a rack's phones, as a YAML file says it. All that is wrong with one is told at once.

seed: 7
phones:
  - {character: slow, share: 0.1, factor: 8}
  - {character: hanging, count: 1, at: {programs: [screencap], nth: 2}, lasts: 30}
timing:
  screencap: {low_ms: 300, usual_ms: 500, high_ms: 1500}
vendor: {late_share: 0.05}
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from muster.sim.characters import HEALTHY, AnyPhones, Entry, Part, Phones
from muster.sim.latency import MEASURED, Spread
from muster.sim.models import Identity
from muster.sim.vendor import VendorQuirks

PROFILE_BYTES_MAX: Final = 256 * 1024
ENTRIES_MAX: Final = 200


class ProfileInvalid(Exception):
    """A profile that cannot be used; `problems` has one line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Timing(Part):
    """How long a program takes, in ms."""

    low_ms: float = Field(ge=0, le=3_600_000)
    usual_ms: float = Field(ge=0, le=3_600_000)
    high_ms: float = Field(ge=0, le=3_600_000)

    @model_validator(mode="after")
    def _in_order(self) -> "Timing":
        if not self.low_ms <= self.usual_ms <= self.high_ms:
            raise ValueError("low_ms, usual_ms, high_ms have to rise")
        return self


class Profile(Part):
    """The whole file. `seed` wins over the rack's own; shares that leave room leave healthy phones."""

    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    phones: tuple[Entry, ...] = Field(default=(), max_length=ENTRIES_MAX)
    timing: dict[str, Timing] = Field(default_factory=dict, max_length=200)
    vendor: dict[str, Any] = Field(default_factory=dict)

    @field_validator("vendor")
    @classmethod
    def _known_quirks(cls, quirks: dict[str, Any]) -> dict[str, Any]:
        try:
            _quirks(quirks, seed=0)
        except (TypeError, ValueError) as error:
            raise ValueError(str(error).removeprefix("VendorQuirks.__init__() ")) from error
        return quirks

    @model_validator(mode="after")
    def _shares_fit(self) -> "Profile":
        total = sum(entry.share or 0 for entry in self.phones)
        if total > 1 + 1e-9:
            raise ValueError(f"phones: the shares are together {total:g}, above 1")
        numbers = [number for entry in self.phones for number in entry.numbers or ()]
        if len(set(numbers)) != len(numbers):
            raise ValueError("phones: one phone is named by two entries")
        return self

    def spreads(self) -> dict[str, Spread]:
        """The measured spreads, with the profile's own in their place."""
        own = {name: Spread(t.low_ms, t.usual_ms, t.high_ms) for name, t in self.timing.items()}
        return {**MEASURED, **own}

    def quirks(self, seed: int) -> VendorQuirks:
        """How the vendor tool misbehaves."""
        return _quirks(self.vendor, seed=seed)


def _quirks(values: dict[str, Any], *, seed: int) -> VendorQuirks:
    plain = {**values, "refused_actions": frozenset(values.get("refused_actions", ()))}
    return VendorQuirks(**{"seed": seed, **plain})


def load_profile(path: Path) -> Profile:
    """Reads a profile. Raises ProfileInvalid with everything that is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ProfileInvalid([f"{path}: {error.strerror or error}"]) from error
    if len(data) > PROFILE_BYTES_MAX:
        raise ProfileInvalid([f"{path}: more than {PROFILE_BYTES_MAX} bytes"])
    return parse_profile(data.decode("utf-8", "replace"))


def parse_profile(text: str) -> Profile:
    """The same from text."""
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ProfileInvalid([f"not YAML: {' '.join(str(error).split())[:500]}"]) from error
    if document is None:
        return Profile()
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        problems = [f"{_path(item['loc'])}: {item['msg'].removeprefix('Value error, ')}" for item in error.errors()]
        raise ProfileInvalid(problems) from error


def _path(loc: tuple[int | str, ...]) -> str:
    """`phones[2].factor`; pydantic puts the character's name between, which no one wrote there."""
    if len(loc) > 2 and loc[0] == "phones":
        loc = (*loc[:2], *loc[3:])
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return text.removeprefix(".") or "profile"


def assign(profile: Profile, identities: Sequence[Identity], seed: int) -> dict[str, AnyPhones]:
    """Each phone's entry by `device_id`. Raises ProfileInvalid when the entries want more phones than there are."""
    taken: dict[int, AnyPhones] = {}
    total = len(identities)
    problems = [
        f"phones[{index}].numbers: there is no phone {number}, the rack has {total}"
        for index, entry in enumerate(profile.phones)
        for number in entry.numbers or ()
        if number > total
    ]
    for entry in profile.phones:
        taken.update({number: entry for number in entry.numbers or () if number <= total})
    free = [number for number in range(1, total + 1) if number not in taken]
    random.Random(f"characters/{seed}").shuffle(free)
    wanted = _amounts(profile.phones, total)
    if sum(wanted) > len(free):
        problems.append(f"phones: {sum(wanted) + len(taken)} phones are wanted, the rack has {total}")
    if problems:
        raise ProfileInvalid(problems)
    for entry, amount in zip(profile.phones, wanted, strict=True):
        taken.update({free.pop(): entry for _ in range(amount)})
    return {identity.device_id: taken.get(identity.number, HEALTHY) for identity in identities}


def _amounts(entries: Sequence[Phones], total: int) -> list[int]:
    """How many phones each entry gets; shares are rounded so that their sum is rounded too (largest remainders)."""
    exact = [entry.count or (entry.share or 0) * total for entry in entries]
    amounts = [int(value + 1e-9) for value in exact]
    shares = [index for index, entry in enumerate(entries) if entry.share is not None]
    missing = round(sum(exact[index] for index in shares)) - sum(amounts[index] for index in shares)
    for index in sorted(shares, key=lambda index: amounts[index] - exact[index])[: max(0, missing)]:
        amounts[index] += 1
    return amounts
