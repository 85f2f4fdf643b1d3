"""Every error as an RFC 9457 problem document, from one table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from muster.backend.cursors import MalformedCursorError
from muster.backend.fields import field_name
from muster.backend.refusal import ProblemSlug, Refusal
from muster.contracts.api import PROBLEM_TYPE_PREFIX, FieldError, Problem
from muster.runtime.logs import get_logger
from muster.store.database import StoreUnavailableError
from muster.store.objects import ObjectsUnavailableError

_log = get_logger()
_ERRORS_MAX: Final = 100
_S = ProblemSlug
PROBLEMS: Final[Mapping[ProblemSlug, tuple[int, str]]] = MappingProxyType(
    {
        _S.MALFORMED_JSON: (400, "The body is not what its content type says"),
        _S.UNAUTHORIZED: (401, "The node's secret is missing or wrong"),
        _S.CROSS_SITE: (403, "A page of another site may not change anything here"),
        _S.WRONG_NODE: (403, "That belongs to another node"),
        _S.BAD_UPLOAD_TOKEN: (403, "This upload address was not given out here"),
        _S.NOT_FOUND: (404, "There is nothing at this address"),
        _S.UNKNOWN_RUN: (404, "There is no such run"),
        _S.METHOD_NOT_ALLOWED: (405, "This address does not know that method"),
        _S.BODY_TOO_SLOW: (408, "The body did not come to its end in time"),
        _S.IDEMPOTENCY_KEY_REUSED: (409, "The idempotency key was used for another request"),
        _S.STALE_ATTEMPT: (409, "That attempt of the task is over"),
        _S.NODE_ALREADY_CONNECTED: (409, "Another agent is connected as this node"),
        _S.UPLOAD_EXPIRED: (410, "This upload address has expired"),
        _S.BODY_TOO_LARGE: (413, "The body is too large"),
        _S.NOT_ACCEPTED: (415, "That content type is not accepted here"),
        _S.UNKNOWN_HOST: (421, "This backend is not known by that host name"),
        _S.INVALID_FIELD: (422, "A field is wrong"),
        _S.INVALID_RECIPE: (422, "The recipe is not valid"),
        _S.UNKNOWN_WORKFLOW: (422, "There is no such workflow"),
        _S.NO_MATCHING_DEVICE: (422, "No device matches the target"),
        _S.UPLOAD_MISMATCH: (422, "The bytes are not the ones that were announced"),
        _S.INTERNAL: (500, "The backend made a mistake"),
        _S.TOO_MANY_VIEWERS: (503, "Too many live views are open"),
        _S.UNAVAILABLE: (503, "The database or the object store cannot be reached"),
    }
)
assert set(PROBLEMS) == set(ProblemSlug), "every problem has its line"
_HEADERS: Final[Mapping[ProblemSlug, dict[str, str]]] = {
    _S.UNAUTHORIZED: {"WWW-Authenticate": 'Bearer realm="muster node"'},
    _S.TOO_MANY_VIEWERS: {"Retry-After": "2"},
    _S.UNAVAILABLE: {"Retry-After": "2"},
}
_BY_STATUS: Final = {
    400: _S.MALFORMED_JSON,
    404: _S.NOT_FOUND,
    405: _S.METHOD_NOT_ALLOWED,
    408: _S.BODY_TOO_SLOW,
    413: _S.BODY_TOO_LARGE,
    415: _S.NOT_ACCEPTED,
}


class ProblemError(Exception):
    """Ends a request with a refusal, where no value can be returned (dependencies)."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def answer_refusal(refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The problem document of a refusal."""
    status, title = PROBLEMS[refusal.slug]
    problem = Problem(
        type=PROBLEM_TYPE_PREFIX + refusal.slug,
        title=title,
        status=status,
        detail=refusal.detail,
        errors=list(refusal.errors),
    )
    return JSONResponse(
        problem.model_dump(mode="json"),
        status,
        headers=dict(_HEADERS.get(refusal.slug, {})) | dict(headers or {}),
        media_type="application/problem+json",
    )


def documented(
    *slugs: ProblemSlug, also: Mapping[int, dict[str, Any]] | None = None
) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint for OpenAPI: which problems it may answer with, and what `also`."""
    by_status: dict[int | str, dict[str, Any]] = dict((also or {}).items())
    for slug in sorted(slugs, key=lambda slug: PROBLEMS[slug][0]):
        status, title = PROBLEMS[slug]
        known = by_status.setdefault(status, {"model": Problem, "description": ""})
        known["description"] = " · ".join(filter(None, [known["description"], f"`{slug}`: {title}"]))
    return by_status


def install_problem_handlers(app: FastAPI) -> None:
    """Maps everything that can go wrong in a request to a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(MalformedCursorError, _on_bad_cursor)
    app.add_exception_handler(StoreUnavailableError, _on_unavailable)
    app.add_exception_handler(ObjectsUnavailableError, _on_unavailable)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_bug)


def refusal_of_errors(errors: list[Any]) -> Refusal:
    """FastAPI's validation errors as one refusal, each at its field."""
    broken = [error for error in errors if error["type"] == "json_invalid"]
    if broken:
        return Refusal(_S.MALFORMED_JSON, str(broken[0].get("ctx", {}).get("error", "")))
    wrong = tuple(FieldError(field=_field(error["loc"]), message=_words(error)) for error in errors[:_ERRORS_MAX])
    return Refusal(_S.INVALID_FIELD, f"{len(errors)} field(s) are wrong", wrong)


def _words(error: dict[str, Any]) -> str:
    """What is wrong, for a person; our own validators' words without Pydantic's before them."""
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here"
    return str(error["msg"]).removeprefix("Value error, ")


def _field(loc: tuple[int | str, ...]) -> str:
    """The place without FastAPI's own word for where the value came from; the body as a whole is `body`."""
    where, *rest = loc
    if where == "header":
        return "-".join(word.capitalize() for word in str(rest[0]).split("-"))
    return field_name(rest) if rest and where in ("body", "query", "path") else field_name(loc)


async def _on_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return answer_refusal(error.refusal)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    is_json = request.headers.get("content-type", "").partition(";")[0].strip().endswith("json")
    if not is_json and any(item["loc"] == ("body",) and item["type"] != "missing" for item in error.errors()):
        # FastAPI hands such a body over as text, and its errors would speak of that (`curl -d` without a header).
        return answer_refusal(Refusal(_S.NOT_ACCEPTED, "send Content-Type: application/json"))
    return answer_refusal(refusal_of_errors(list(error.errors())))


async def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    slug = _BY_STATUS.get(error.status_code, _S.INTERNAL)
    # Starlette's own words (`Not Found`) say less than the title; but an `Allow` header must stay.
    return answer_refusal(Refusal(slug), error.headers)


async def _on_bad_cursor(_request: Request, error: Exception) -> JSONResponse:
    return answer_refusal(Refusal.of_field(_S.INVALID_FIELD, "cursor", str(error)))


async def _on_unavailable(request: Request, error: Exception) -> JSONResponse:
    _log.warning("Store unavailable", path=request.url.path, reason=str(error))
    return answer_refusal(Refusal(_S.UNAVAILABLE))


async def _on_disconnect(_request: Request, _error: Exception) -> JSONResponse:
    """A client that hung up in the middle of its body: nobody reads the answer, and it is no error of ours."""
    return answer_refusal(Refusal(_S.MALFORMED_JSON, "the body broke off"))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    """What went wrong is for the log; a client learns only that it did."""
    _log.error("Unexpected error", path=request.url.path, exc_info=error)
    return answer_refusal(Refusal(_S.INTERNAL, "the log of the backend says more"))
