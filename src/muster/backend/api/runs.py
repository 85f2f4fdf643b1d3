"""`/api/runs`: create, list, read."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Header, Query, Response

from muster.backend.api.access import ActorDep, PartsDep
from muster.backend.api.bodies import StrictRoute
from muster.backend.api.problems import answer_refusal, documented
from muster.backend.refusal import ProblemSlug, Refusal
from muster.contracts.api import CreateRun, RunCreated, RunDetail, RunPage, RunStopped, StepPage
from muster.contracts.base import DeviceIdField, WorkflowIdField
from muster.domain.limits import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX
from muster.domain.run import RunState

router = APIRouter(prefix="/api/runs", tags=["runs"], route_class=StrictRoute)

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)]
_S = ProblemSlug
_UNITS = {"m": 60, "h": 3_600, "d": 86_400}


@router.post(
    "",
    status_code=201,
    response_model=RunCreated,
    summary="Start a workflow on the phones of a target",
    responses=documented(
        _S.MALFORMED_JSON,
        _S.IDEMPOTENCY_KEY_REUSED,
        _S.BODY_TOO_LARGE,
        _S.INVALID_FIELD,
        _S.UNKNOWN_WORKFLOW,
        _S.NO_MATCHING_DEVICE,
        also={200: {"model": RunCreated, "description": "The run that was made under this key before"}},
    ),
)
async def create_run(
    body: CreateRun,
    parts: PartsDep,
    response: Response,
    actor: ActorDep,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> RunCreated | Response:
    """Makes one task for each known phone of the target; those offline at this moment are skipped and say so."""
    result = await parts.create_run.create(body, actor, idempotency_key)
    if isinstance(result, Refusal):
        return answer_refusal(result)
    response.status_code = 201 if result.is_new else 200
    response.headers["Location"] = f"/api/runs/{result.run.run_id}"
    return result.run


@router.get("", summary="List runs: failed and running first", responses=documented(_S.INVALID_FIELD))
async def list_runs(
    parts: PartsDep,
    status: Annotated[list[RunState], Query(description="Given several times: any of them")] = [],  # noqa: B006 - FastAPI makes a new one
    window: Annotated[
        str | None, Query(pattern=r"^[1-9][0-9]{0,3}[mhd]$", description="How far back: `30m`, `24h`, `7d`")
    ] = None,
    workflow_id: Annotated[WorkflowIdField | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE_DEFAULT,
) -> RunPage:
    """`counts` is of all runs that match, by state."""
    span = timedelta(seconds=int(window[:-1]) * _UNITS[window[-1]]) if window else None
    return await parts.queries.page(status, span, workflow_id, cursor, limit)


@router.get("/{run_id}", response_model=RunDetail, summary="A run with its tasks", responses=documented(_S.UNKNOWN_RUN))
async def read_run(run_id: str, parts: PartsDep) -> RunDetail | Response:
    """The run, each node's part of it, totals, and a task for each phone."""
    return await parts.queries.detail(run_id) or _unknown(run_id)


@router.post(
    "/{run_id}/stop",
    response_model=RunStopped,
    summary="Stop a run",
    responses=documented(_S.UNKNOWN_RUN),
)
async def stop_run(run_id: str, parts: PartsDep, actor: ActorDep) -> RunStopped | Response:
    """Phones that no node was told of are cancelled at once, the others by their nodes. Asking twice is asking once."""
    return await parts.stop_run.stop(run_id, actor) or _unknown(run_id)


@router.get(
    "/{run_id}/steps",
    response_model=StepPage,
    summary="Steps of a run, by phone",
    responses=documented(_S.UNKNOWN_RUN, _S.INVALID_FIELD),
)
async def read_steps(
    run_id: str,
    parts: PartsDep,
    device_id: Annotated[DeviceIdField | None, Query()] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_SIZE_DEFAULT,
) -> StepPage | Response:
    """The last try of each step of each phone's last attempt, in the recipe's order."""
    return await parts.queries.steps(run_id, device_id, cursor, limit) or _unknown(run_id)


def _unknown(run_id: str) -> Response:
    return answer_refusal(Refusal(ProblemSlug.UNKNOWN_RUN, f"no run has the id {run_id[:64]}"))
