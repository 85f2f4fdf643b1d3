"""`/api/workflows`: list, read, save, validate."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from muster.backend.api.access import PartsDep
from muster.backend.api.bodies import StrictRoute
from muster.backend.api.problems import ProblemError, answer_refusal, documented
from muster.backend.refusal import ProblemSlug, Refusal
from muster.backend.save_workflow import field_errors, validate, workflow_version
from muster.contracts.api import ValidationAnswer, WorkflowItem, WorkflowList, WorkflowVersion
from muster.recipe.parse import DocumentError, load_document, parse_recipe
from muster.store import workflows

router = APIRouter(prefix="/api/workflows", tags=["workflows"], route_class=StrictRoute)
_S = ProblemSlug
_JSON_TYPES: Final = frozenset({"", "application/json"})
_YAML_TYPES: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
_RECIPE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "object"}} for kind in ("application/json", "application/yaml")},
    }
}


@router.get("", summary="List workflows at their newest version")
async def list_workflows(parts: PartsDep) -> WorkflowList:
    """Without their definitions."""
    async with parts.database.reading() as tx:
        rows = await workflows.newest(tx)
    return WorkflowList(
        workflows=[
            WorkflowItem(
                workflow_id=row.workflow_id,
                version=row.version,
                name=row.name,
                steps_count=row.steps_count,
                updated_at=row.created_at,
            )
            for row in rows
        ]
    )


@router.post(
    "/validate",
    summary="All that is wrong with a recipe",
    responses=documented(_S.MALFORMED_JSON, _S.BODY_TOO_LARGE, _S.NOT_ACCEPTED),
    openapi_extra=_RECIPE_BODY,
)
async def validate_workflow(request: Request) -> ValidationAnswer:
    """Stores nothing."""
    return validate(await _document(request))


@router.get("/{workflow_id}", response_model=WorkflowVersion, summary="A workflow", responses=documented(_S.NOT_FOUND))
async def read_workflow(
    workflow_id: str, parts: PartsDep, version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> WorkflowVersion | Response:
    """One version, the newest when none is named."""
    async with parts.database.reading() as tx:
        row = await workflows.find(tx, workflow_id, version)
        versions = await workflows.versions(tx, workflow_id)
    if row is None:
        known = f"; its versions are {', '.join(map(str, versions))}" if versions else ""
        return answer_refusal(Refusal(_S.NOT_FOUND, f"there is no such workflow or version{known}"))
    return workflow_version(row, versions, field_errors(parse_recipe(row.definition).warnings))


@router.put(
    "/{workflow_id}",
    status_code=201,
    response_model=WorkflowVersion,
    summary="Add a version of a workflow",
    responses=documented(
        _S.MALFORMED_JSON,
        _S.BODY_TOO_LARGE,
        _S.NOT_ACCEPTED,
        _S.INVALID_RECIPE,
        also={200: {"model": WorkflowVersion, "description": "The newest version has this very content"}},
    ),
    openapi_extra=_RECIPE_BODY,
)
async def save_workflow(
    workflow_id: str, request: Request, parts: PartsDep, response: Response
) -> WorkflowVersion | Response:
    """JSON, or YAML by its content type. Never overwrites; all errors at once, each with its path."""
    saved = await parts.workflows.save(workflow_id, await _document(request))
    if isinstance(saved, Refusal):
        return answer_refusal(saved)
    response.status_code = 201 if saved.is_new else 200
    return saved.workflow


async def _document(request: Request) -> object:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES | _YAML_TYPES:
        raise ProblemError(Refusal(_S.NOT_ACCEPTED, "send application/json or application/yaml"))
    try:
        return load_document((await request.body()).decode(), yaml=kind in _YAML_TYPES)
    except UnicodeDecodeError as error:
        raise ProblemError(Refusal(_S.MALFORMED_JSON, "the body is not UTF-8")) from error
    except DocumentError as error:
        raise ProblemError(Refusal(_S.MALFORMED_JSON, str(error))) from error
