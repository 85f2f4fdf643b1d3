"""A recipe as data (spec/02). Field names are the document's own; every limit is in `domain/limits.py`.

Adding a step kind: one model here with its `kind`, one file under `agent/executor/steps/`, one row in docs.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from muster.domain import ids, limits

StepTimeoutMs = Annotated[int, Field(ge=limits.STEP_TIMEOUT_MS_MIN, le=limits.STEP_TIMEOUT_MS_MAX, strict=True)]
TaskTimeoutMs = Annotated[int, Field(ge=limits.TASK_TIMEOUT_MS_MIN, le=limits.TASK_TIMEOUT_MS_MAX, strict=True)]
ParamKey = Annotated[str, Field(pattern=ids.PARAM_KEY_PATTERN)]
ParamValue = Annotated[str, Field(max_length=limits.PARAM_CHARS_MAX)]
Params = Annotated[dict[ParamKey, ParamValue], Field(max_length=limits.PARAM_COUNT_MAX)]
Phase = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9 _-]{0,63}$")]
StepIdField = Annotated[str, Field(pattern=ids.STEP_ID_PATTERN)]


PATTERN_CHARS_MAX = 256
# Marks the union's tags in the paths of errors, where they are no part of the document.
WHEN_TAG = "when:"


def _exactly_one(**choices: object) -> None:
    """Raises ValueError unless one of them is given."""
    if sum(value is not None for value in choices.values()) != 1:
        raise ValueError(f"needs exactly one of {', '.join(choices)}")


class Frozen(BaseModel):
    """Immutable, and an unknown field is an error: a misspelt `timeoutMS` must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OnFailure(StrEnum):
    """What a failed step does to its device's workflow."""

    STOP = "stop"
    CONTINUE = "continue"
    RETRY = "retry"


class StepOutcomeIs(StrEnum):
    """What a `when` may ask of an earlier step."""

    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class WhenStep(Frozen):
    """`{"step": "login", "is": "failed"}`."""

    step: StepIdField
    is_: StepOutcomeIs = Field(alias="is")


class WhenDevice(Frozen):
    """`{"device": "sdk", "atLeast": 29}` or `{"device": "model", "matches": "SM-.*"}`."""

    device: Literal["sdk", "model", "device_id", "manufacturer"]
    at_least: int | None = Field(default=None, alias="atLeast", strict=True)
    matches: str | None = Field(default=None, max_length=PATTERN_CHARS_MAX)
    equals: str | None = Field(default=None, max_length=256)

    @model_validator(mode="after")
    def _asks_one_thing(self) -> "WhenDevice":
        _exactly_one(atLeast=self.at_least, matches=self.matches, equals=self.equals)
        if self.at_least is not None and self.device != "sdk":
            raise ValueError(f"atLeast compares a number, and {self.device} is none; only sdk is")
        return self


class WhenAll(Frozen):
    """Every one of them holds."""

    all: Annotated[list["When"], Field(min_length=1, max_length=20)]


class WhenAny(Frozen):
    """At least one of them holds."""

    any: Annotated[list["When"], Field(min_length=1, max_length=20)]


class WhenNot(Frozen):
    """It does not hold."""

    not_: "When" = Field(alias="not")


_FORM_OF_MODEL: dict[type[BaseModel], str] = {
    WhenStep: "step",
    WhenDevice: "device",
    WhenAll: "all",
    WhenAny: "any",
    WhenNot: "not",
}
_WHEN_FORMS = tuple(_FORM_OF_MODEL.values())


def _form_of_when(value: Any) -> str | None:
    """Which of the five forms is meant, so that an error speaks of that form alone and not of all five."""
    if isinstance(value, dict):
        return next((WHEN_TAG + form for form in _WHEN_FORMS if form in value), None)
    # An instance, not a document: a model made in code, or one that is being written out.
    form = _FORM_OF_MODEL.get(type(value))
    return WHEN_TAG + form if form else None


When = Annotated[
    Annotated[WhenStep, Tag(WHEN_TAG + "step")]
    | Annotated[WhenDevice, Tag(WHEN_TAG + "device")]
    | Annotated[WhenAll, Tag(WHEN_TAG + "all")]
    | Annotated[WhenAny, Tag(WHEN_TAG + "any")]
    | Annotated[WhenNot, Tag(WHEN_TAG + "not")],
    Discriminator(_form_of_when),
]


class StepBase(Frozen):
    """What every kind of step has."""

    id: StepIdField
    phase: Phase = "LOGIN_FLOW"
    name: str | None = Field(default=None, max_length=200)
    timeout_ms: StepTimeoutMs | None = Field(default=None, alias="timeoutMs")
    on_failure: OnFailure | None = Field(default=None, alias="onFailure")
    retry_count: int = Field(default=0, ge=0, le=limits.RETRY_COUNT_MAX, alias="retryCount", strict=True)
    idempotent: bool | None = Field(default=None, strict=True)
    probability: float = Field(default=1.0, ge=0.0, le=1.0, allow_inf_nan=False, strict=True)
    when: When | None = None
    params: Params = Field(default_factory=dict)


class AdbStep(StepBase):
    """A command in the phone's shell; exit status ≠ 0 is a failure."""

    kind: Literal["adb"]
    command: str = Field(min_length=1, max_length=limits.COMMAND_CHARS_MAX)


class ScreenshotStep(StepBase):
    """A picture of the phone: by the vendor tool where it is up, else `screencap`."""

    kind: Literal["screenshot"]


class UploadStep(StepBase):
    """The artifact of step `source` to the object store."""

    kind: Literal["upload"]
    source: StepIdField


class OutputExpectation(Frozen):
    """Exactly one of the three; the text compared is the step's stdout without trailing white space."""

    equals: str | None = Field(default=None, max_length=4096)
    contains: str | None = Field(default=None, max_length=4096)
    matches: str | None = Field(default=None, max_length=PATTERN_CHARS_MAX)

    @model_validator(mode="after")
    def _expects_one_thing(self) -> "OutputExpectation":
        _exactly_one(equals=self.equals, contains=self.contains, matches=self.matches)
        return self


class Assertion(Frozen):
    """`{"step": "id", "output": {…}}`, `{"step": "id", "exitCode": 0}`, or both at once."""

    step: StepIdField
    output: OutputExpectation | None = None
    exit_code: int | None = Field(default=None, alias="exitCode", strict=True)

    @model_validator(mode="after")
    def _expects_something(self) -> "Assertion":
        if self.output is None and self.exit_code is None:
            raise ValueError("needs output or exitCode")
        return self


class AssertStep(StepBase):
    """Fails unless an earlier step's output or exit status is as expected."""

    kind: Literal["assert"]
    expect: Assertion = Field(alias="assert")


class WaitStep(StepBase):
    """A pause of `durationMs`, or until the command `until` ends with 0 on the phone, asked every `intervalMs`."""

    kind: Literal["wait"]
    duration_ms: int | None = Field(default=None, alias="durationMs", ge=1, le=limits.STEP_TIMEOUT_MS_MAX, strict=True)
    until: str | None = Field(default=None, min_length=1, max_length=limits.COMMAND_CHARS_MAX)
    interval_ms: int = Field(
        default=limits.WAIT_INTERVAL_MS_DEFAULT,
        alias="intervalMs",
        ge=limits.WAIT_INTERVAL_MS_MIN,
        le=limits.WAIT_INTERVAL_MS_MAX,
        strict=True,
    )

    @model_validator(mode="after")
    def _waits_for_one_thing(self) -> "WaitStep":
        _exactly_one(durationMs=self.duration_ms, until=self.until)
        return self


class VendorStep(StepBase):
    """An action of the vendor tool on this phone (`vendor_actions.py`); `params` are the action's data."""

    kind: Literal["vendor"]
    action: str = Field(min_length=1, max_length=64)


PhonePath = Annotated[str, Field(min_length=1, max_length=limits.PHONE_PATH_CHARS_MAX)]
LibraryName = Annotated[str, Field(min_length=1, max_length=256)]


class InstallStep(StepBase):
    """Installs the APK `source` of the node's file library, or updates it; its permissions are granted."""

    kind: Literal["install"]
    source: LibraryName


class PushStep(StepBase):
    """The file `source` of the node's file library to the path `target` on the phone."""

    kind: Literal["push"]
    source: LibraryName
    target: PhonePath


class PullStep(StepBase):
    """The file `source` of the phone into the node's file library, below `pulled/`."""

    kind: Literal["pull"]
    source: PhonePath


Step = Annotated[
    AdbStep | ScreenshotStep | UploadStep | AssertStep | WaitStep | VendorStep | InstallStep | PushStep | PullStep,
    Field(discriminator="kind"),
]
STEP_MODELS: dict[str, type[StepBase]] = {
    "adb": AdbStep,
    "screenshot": ScreenshotStep,
    "upload": UploadStep,
    "assert": AssertStep,
    "wait": WaitStep,
    "vendor": VendorStep,
    "install": InstallStep,
    "push": PushStep,
    "pull": PullStep,
}
STEP_KINDS: tuple[str, ...] = tuple(STEP_MODELS)


class Recipe(Frozen):
    """A whole workflow. `version` is given by the store when it is saved; a document may leave it out."""

    workflow_id: str = Field(pattern=ids.WORKFLOW_ID_PATTERN)
    version: int = Field(default=1, ge=1, strict=True)
    name: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2000)
    default_step_timeout_ms: StepTimeoutMs = Field(default=limits.STEP_TIMEOUT_MS_DEFAULT, alias="defaultStepTimeoutMs")
    default_on_failure: Literal[OnFailure.STOP, OnFailure.CONTINUE] = Field(
        default=OnFailure.STOP, alias="defaultOnFailure"
    )
    global_timeout_ms: TaskTimeoutMs = Field(default=limits.TASK_TIMEOUT_MS_DEFAULT, alias="globalTimeoutMs")
    params: Params = Field(default_factory=dict)
    steps: Annotated[list[Step], Field(min_length=1, max_length=limits.RECIPE_STEPS_MAX)]

    def document(self) -> dict[str, Any]:
        """The JSON document, as stored and as sent to nodes. A task limit that it does not have is each run's own."""
        unsaid = {"global_timeout_ms"} - self.model_fields_set
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=unsaid)

    def task_limit_ms(self, default_ms: int) -> int:
        """Of the whole task; `default_ms`: where the recipe has none."""
        return self.global_timeout_ms if "global_timeout_ms" in self.model_fields_set else default_ms
