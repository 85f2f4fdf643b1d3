"""`/api/nodes`: what nodes call (pull, callback, uploads, leave), and what is known of them."""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from muster.backend.api.access import NodeOnly, PartsDep
from muster.backend.api.bodies import StrictRoute, lenient_json
from muster.backend.api.problems import answer_refusal, documented
from muster.backend.parts import Parts
from muster.backend.refusal import ProblemSlug, Refusal
from muster.contracts.api import FieldError, NodeList, NodeView, UploadRequest, UploadTicket
from muster.contracts.base import NodeIdField
from muster.contracts.commands import PullAnswer
from muster.contracts.events import STALE_ATTEMPT_STATUS, CallbackAnswer, EventVerdict
from muster.domain.limits import EVENT_BATCH_MAX, PULL_WAIT_MS_DEFAULT, PULL_WAIT_MS_MAX

router = APIRouter(prefix="/api/nodes", tags=["nodes"], route_class=StrictRoute)
_S = ProblemSlug
_VERDICT_SLUGS: Final = {403: _S.WRONG_NODE, STALE_ATTEMPT_STATUS: _S.STALE_ATTEMPT, 422: _S.INVALID_FIELD}


@router.get("", summary="List nodes")
async def list_nodes(parts: PartsDep) -> NodeList:
    """Online: a heartbeat came within the online window; degraded: it says that it cannot send or takes no run."""
    return NodeList(nodes=parts.presence.node_views())


_PULL: Final[dict[str, Any]] = {
    "response_model": PullAnswer,
    "dependencies": [NodeOnly],
    "responses": documented(_S.UNAUTHORIZED, _S.NODE_ALREADY_CONNECTED, _S.INVALID_FIELD),
}


@router.get("/pull", summary="Long poll for commands", **_PULL)
@router.get("/pending-runs", summary="The same as /api/nodes/pull", **_PULL)
async def pull(
    request: Request,
    parts: PartsDep,
    node_id: Annotated[NodeIdField, Query()],
    instance_id: Annotated[
        str, Query(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Made anew at each start of an agent")
    ],
    wait_ms: Annotated[int, Query(ge=0, le=PULL_WAIT_MS_MAX)] = PULL_WAIT_MS_DEFAULT,
    replaces: Annotated[
        str | None,
        Query(
            pattern=r"^[A-Za-z0-9._-]{1,64}$",
            description="Who last spoke from this agent's data folder; none: nobody",
        ),
    ] = None,
    leaving: Annotated[bool, Query(description="The agent stops: another may take its place at once")] = False,
) -> PullAnswer | Response:
    """Answers the moment there is work, or empty when `wait_ms` has passed."""
    if leaving:
        parts.hand_out.leave(node_id, instance_id)
        return PullAnswer()

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    found = await parts.hand_out.pull(node_id, instance_id, wait_ms, until_gone, replaces=replaces)
    return answer_refusal(found) if isinstance(found, Refusal) else PullAnswer(commands=found, now=parts.clock.now_ms())


@router.post(
    "/callback",
    response_model=CallbackAnswer,
    response_model_exclude_none=True,
    dependencies=[NodeOnly],
    summary="Events of a node, one or a batch",
    responses=documented(
        _S.MALFORMED_JSON,
        _S.UNAUTHORIZED,
        _S.WRONG_NODE,
        _S.STALE_ATTEMPT,
        _S.BODY_TOO_LARGE,
        _S.INVALID_FIELD,
        _S.UNAVAILABLE,
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "examples": {
                        "one": {"value": {"event_id": "…", "type": "command_ack", "payload": {}}},
                        "batch": {"value": {"events": [{"event_id": "…", "type": "task_started", "payload": {}}]}},
                    },
                }
            },
        }
    },
)
async def callback(request: Request, parts: PartsDep) -> CallbackAnswer | Response:
    """`{"event_id", "type", "payload"}`, or `{"events": […]}` for a verdict on each. Idempotent by `event_id`."""
    try:
        body = lenient_json(await request.body())
    except json.JSONDecodeError as error:
        return answer_refusal(Refusal(_S.MALFORMED_JSON, error.msg))
    if isinstance(body, dict) and "events" in body:
        return await _batch(parts, body["events"])
    verdict = (await _ingested(parts, [body]))[0]
    return CallbackAnswer(ok=True) if verdict.ok else _refused(verdict)


async def _batch(parts: Parts, events: object) -> CallbackAnswer | Response:
    if not isinstance(events, list):
        return answer_refusal(Refusal.of_field(_S.INVALID_FIELD, "events", "is not a list"))
    if len(events) > EVENT_BATCH_MAX:
        message = f"{len(events)} events in one batch; at most {EVENT_BATCH_MAX} are taken"
        return answer_refusal(Refusal.of_field(_S.INVALID_FIELD, "events", message))
    verdicts = await _ingested(parts, events)
    return CallbackAnswer(ok=all(verdict.ok for verdict in verdicts), results=verdicts)


async def _ingested(parts: Parts, events: Sequence[object]) -> list[EventVerdict]:
    verdicts = await parts.ingest.ingest(events)
    parts.metrics.told(events, verdicts)
    return verdicts


def _refused(verdict: EventVerdict) -> Response:
    message = verdict.message or ""
    error = FieldError(field=verdict.field or "body", message=message)
    return answer_refusal(Refusal(_VERDICT_SLUGS[verdict.status], message, (error,)))


@router.post(
    "/uploads",
    response_model=UploadTicket,
    dependencies=[NodeOnly],
    summary="Ask where to put a picture",
    responses=documented(_S.MALFORMED_JSON, _S.UNAUTHORIZED, _S.INVALID_FIELD),
)
async def request_upload(body: UploadRequest, parts: PartsDep) -> UploadTicket | Response:
    """A short-lived address for one key, size and hash. The same picture of the same step has the same key again."""
    ticket = await parts.uploads.allow(body)
    return answer_refusal(ticket) if isinstance(ticket, Refusal) else ticket


@router.put(
    "/uploads/{token}",
    status_code=204,
    response_class=Response,
    summary="Put a picture's bytes",
    responses=documented(_S.BAD_UPLOAD_TOKEN, _S.UPLOAD_EXPIRED, _S.BODY_TOO_LARGE, _S.UPLOAD_MISMATCH, _S.UNAVAILABLE),
)
async def put_upload(token: str, request: Request, parts: PartsDep) -> Response:
    """The token is the permission. Stored whole and checked, or not at all; once stored, the same again is 204."""
    refusal = await parts.uploads.receive(token, request.stream())
    return answer_refusal(refusal) if refusal else Response(status_code=204)


@router.get("/{node_id}", response_model=NodeView, summary="A node", responses=documented(_S.NOT_FOUND))
async def read_node(node_id: str, parts: PartsDep) -> NodeView | Response:
    """Status by the backend's own clock at the last heartbeat's receipt."""
    view = parts.presence.node_view(node_id)
    return view or answer_refusal(Refusal(_S.NOT_FOUND, f"no node {node_id[:64]} was ever heard of"))
