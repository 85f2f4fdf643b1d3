"""The kinds of phones that a profile can ask for, and what can be said of each. Durations are seconds unless said."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from muster.sim.latency import Spread
from muster.sim.screen import PASSWORD_DEFAULT, DialogKind, SignInPolicy

DURATION_SEC_MAX: Final = 86_400.0
PATTERNS_MAX: Final = 50


class Part(BaseModel):
    """A piece of a profile; a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Delay(Part):
    """`{low: 1, usual: 2, high: 5}` in seconds, or just a number."""

    low: float = Field(ge=0, le=DURATION_SEC_MAX)
    usual: float = Field(ge=0, le=DURATION_SEC_MAX)
    high: float = Field(ge=0, le=DURATION_SEC_MAX)

    @model_validator(mode="after")
    def _in_order(self) -> "Delay":
        if not self.low <= self.usual <= self.high:
            raise ValueError("low, usual, high have to rise")
        return self

    @property
    def spread(self) -> Spread:
        """For drawing from."""
        return Spread(self.low * 1000, self.usual * 1000, self.high * 1000)


def _number_as_delay(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"low": value, "usual": value, "high": value}
    return value


DelayField = Annotated[Delay, BeforeValidator(_number_as_delay)]


def delay(low: float, usual: float, high: float) -> Delay:
    """A default."""
    return Delay(low=low, usual=usual, high=high)


class SignIn(Part):
    """How the example app's server answers this phone."""

    password: str = Field(default=PASSWORD_DEFAULT, min_length=1, max_length=200)
    delay: float = Field(default=0.0, ge=0, le=DURATION_SEC_MAX)
    always_fails: bool = False
    never_answers: bool = False

    @property
    def policy(self) -> SignInPolicy:
        """As the screen takes it."""
        seconds = float("inf") if self.never_answers else self.delay
        return SignInPolicy(password=self.password, delay_sec=seconds, always_fails=self.always_fails)


class Trigger(Part):
    """When something happens in the middle of a command: at the `nth` program that one of the patterns fits."""

    programs: tuple[str, ...] = Field(
        default=("*",), min_length=1, max_length=PATTERNS_MAX,
        description="shell patterns on a program's name (`screencap`) or its whole line (`input tap *`)",
    )  # fmt: skip
    nth: int = Field(default=1, ge=1, le=1_000_000)
    times: int = Field(default=1, ge=1, le=1_000_000, description="how often; each time after `nth` more")


class Accident(Part):
    """What happens at a trigger: the phone `hang`s for `lasts`, the `phone`, `adbd` or the `app` in front dies."""

    what: Literal["hang", "phone", "adbd", "app"]
    at: Trigger = Trigger()
    lasts: DelayField | None = None


class Phones(Part):
    """Which phones an entry is about (exactly one of `share`, `count`, `numbers`), and their circumstances."""

    share: float | None = Field(default=None, gt=0, le=1)
    count: int | None = Field(default=None, ge=1, le=1_000)
    numbers: tuple[int, ...] | None = Field(default=None, min_length=1, max_length=1_000)
    battery: int | None = Field(default=None, ge=0, le=100)
    temperature: float | None = Field(default=None, ge=-40, le=120)
    powered: bool | None = None
    clock_offset: int | None = Field(default=None, ge=-86_400, le=86_400)
    serial_number: str | None = Field(
        default=None, min_length=1, max_length=64, description="`ro.serialno`, if it differs"
    )
    dialogs: tuple[DialogKind, ...] = Field(default=(), max_length=5)
    sign_in: SignIn | None = None
    asleep: bool = False

    @model_validator(mode="after")
    def _one_choice(self) -> "Phones":
        if sum(choice is not None for choice in (self.share, self.count, self.numbers)) != 1:
            raise ValueError("exactly one of share, count and numbers says which phones")
        if self.numbers is not None and (len(set(self.numbers)) != len(self.numbers) or min(self.numbers) < 1):
            raise ValueError("numbers: phones count from 1, each once")
        return self


class Healthy(Phones):
    """Answers as it should; also what every phone is that no entry speaks of."""

    character: Literal["healthy"]


class Slow(Phones):
    """Everything takes `factor` times as long."""

    character: Literal["slow"]
    factor: float = Field(default=5.0, ge=1, le=1_000)


class Unauthorized(Phones):
    """Nobody has pressed "Allow"; somebody does after `allowed_after`, or never."""

    character: Literal["unauthorized"]
    allowed_after: DelayField | None = None


class Offline(Phones):
    """Attached, but its adbd never answers; it does after `recovers_after`, or never."""

    character: Literal["offline"]
    recovers_after: DelayField | None = None


class Missing(Phones):
    """Not plugged in; it is after `arrives_after`, or never."""

    character: Literal["missing"]
    arrives_after: DelayField | None = None


class NotBooted(Phones):
    """adbd is up, the system is not; it is after `boots_after`, or never."""

    character: Literal["not_booted"]
    boots_after: DelayField | None = None


class Hanging(Phones):
    """Stops answering in the middle of a command; goes on after `lasts`, or never. What was sent runs then."""

    character: Literal["hanging"]
    at: Trigger = Trigger()
    lasts: DelayField | None = None


class Flapping(Phones):
    """Loses its connection again and again: up for a while, gone for a while."""

    character: Literal["flapping"]
    up: DelayField = delay(5, 20, 60)
    down: DelayField = delay(0.5, 3, 20)


class Crashing(Phones):
    """Something dies at a command: the `phone` reboots, `adbd` drops the transport, or the `app` in front crashes."""

    character: Literal["crashing"]
    at: Trigger = Trigger()
    what: Literal["phone", "adbd", "app"] = "phone"


class FullDisk(Phones):
    """Takes only `free_bytes` more."""

    character: Literal["full_disk"]
    free_bytes: int = Field(default=0, ge=0, le=4 * 1024**3)


class Moving(Phones):
    """Changes from USB to Wi-Fi after a while: a new serial under the same `onlySerial`."""

    character: Literal["moving"]
    after: DelayField = delay(5, 20, 60)
    away: DelayField = delay(0.2, 1, 5)


class NoAdb(Phones):
    """Mode 3: reached by the vendor's own app only, adb does not know it."""

    character: Literal["no_adb"]


AnyPhones = (
    Healthy
    | Slow
    | Unauthorized
    | Offline
    | Missing
    | NotBooted
    | Hanging
    | Flapping
    | Crashing
    | FullDisk
    | Moving
    | NoAdb
)
Entry = Annotated[AnyPhones, Field(discriminator="character")]
HEALTHY: Final = Healthy(character="healthy", share=1)
