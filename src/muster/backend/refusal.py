"""A use case's *no*, as a value. `backend/api/problems.py` turns it into an answer."""

from dataclasses import dataclass, field
from enum import StrEnum

from muster.contracts.api import FieldError


class ProblemSlug(StrEnum):
    """The closed list of problems; each becomes `urn:muster:problem:<slug>`."""

    MALFORMED_JSON = "malformed-json"
    INVALID_FIELD = "invalid-field"
    INVALID_RECIPE = "invalid-recipe"
    UNKNOWN_WORKFLOW = "unknown-workflow"
    UNKNOWN_RUN = "unknown-run"
    NO_MATCHING_DEVICE = "no-matching-device"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    UNAUTHORIZED = "unauthorized"
    CROSS_SITE = "cross-site"
    UNKNOWN_HOST = "unknown-host"
    WRONG_NODE = "wrong-node"
    BAD_UPLOAD_TOKEN = "bad-upload-token"  # noqa: S105  # the name of a problem
    UPLOAD_EXPIRED = "upload-expired"
    UPLOAD_MISMATCH = "upload-mismatch"
    STALE_ATTEMPT = "stale-attempt"
    NODE_ALREADY_CONNECTED = "node-already-connected"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    BODY_TOO_SLOW = "body-too-slow"
    NOT_ACCEPTED = "not-accepted"
    BODY_TOO_LARGE = "body-too-large"
    TOO_MANY_VIEWERS = "too-many-viewers"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and at which field."""

    slug: ProblemSlug
    detail: str = ""
    errors: tuple[FieldError, ...] = field(default=())

    @classmethod
    def of_field(cls, slug: ProblemSlug, name: str, message: str) -> "Refusal":
        """One field is wrong."""
        return cls(slug, message, (FieldError(field=name, message=message),))
