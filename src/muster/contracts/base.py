"""Shared field types of all messages."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from muster.domain import ids, limits


class Message(BaseModel):
    """Immutable. Unknown fields from a newer peer are ignored, so that nodes and backend can be upgraded apart."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Body(BaseModel):
    """What a person or a program asks for. Unknown fields are errors: a misspelt option must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _tidy(limit: int) -> BeforeValidator:
    def tidy(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        # Half a surrogate pair is no UTF-8, and PostgreSQL stores no NUL; both come from phones' output.
        text = value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        return text[: limit - 1] + "…" if len(text) > limit else text

    return BeforeValidator(tidy)


NodeIdField = Annotated[str, Field(pattern=ids.NODE_ID_PATTERN)]
DeviceIdField = Annotated[str, Field(pattern=ids.DEVICE_ID_PATTERN)]
RuntimeHandleField = Annotated[str, Field(min_length=1, max_length=256)]
UuidField = Annotated[str, Field(pattern=ids.UUID_PATTERN)]
WorkflowIdField = Annotated[str, Field(pattern=ids.WORKFLOW_ID_PATTERN)]
StepIdField = Annotated[str, Field(pattern=ids.STEP_ID_PATTERN)]
EpochMs = Annotated[int, Field(ge=0, le=253_402_300_799_999)]
# Every number has a size that a database's column has too: an integer beyond 64 bits would end a transaction.
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Ordinal = Annotated[int, Field(ge=1, le=2**31 - 1)]
DurationMs = Annotated[int, Field(ge=0, le=2**53)]
ExitCode = Annotated[int, Field(ge=-(2**31), le=2**32 - 1)]
Sha256Field = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Clipped and mended, not refused: a long or broken message from a phone must never cost a fact.
ErrorMessage = Annotated[str, _tidy(limits.ERROR_MESSAGE_CHARS_MAX)]
LogSnippet = Annotated[str, _tidy(limits.LOG_SNIPPET_CHARS_MAX)]
