"""How large a request's body may be, and how long it may take to come: a picture more than anything else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from muster.backend.uploads import UPLOAD_PATH
from muster.domain.limits import ARTIFACT_BODY_SEC, ARTIFACT_BYTES_MAX, REQUEST_BODY_BYTES_MAX, REQUEST_BODY_SEC


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Of one request."""

    bytes_max: int
    sec_max: float


BodyLimitsOf = Callable[[Scope], BodyLimits]
_USUAL: Final = BodyLimits(REQUEST_BODY_BYTES_MAX, REQUEST_BODY_SEC)
_PICTURE: Final = BodyLimits(ARTIFACT_BYTES_MAX, ARTIFACT_BODY_SEC)


def body_limits(scope: Scope) -> BodyLimits:
    """By its method and path alone."""
    is_upload = scope["method"] == "PUT" and scope["path"].startswith(UPLOAD_PATH)
    return _PICTURE if is_upload else _USUAL
