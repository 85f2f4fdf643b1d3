"""`/api/artifacts/{id}`: a picture's bytes."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from muster.backend.api.access import PartsDep
from muster.backend.api.problems import answer_refusal, documented
from muster.backend.refusal import ProblemSlug, Refusal

router = APIRouter(prefix="/api/artifacts", tags=["artifacts"])


@router.get(
    "/{artifact_id}",
    response_class=Response,
    summary="A picture",
    responses=documented(
        ProblemSlug.NOT_FOUND,
        ProblemSlug.UNAVAILABLE,
        also={200: {"content": {"image/png": {}}}, 304: {"description": "You have it"}},
    ),
)
async def read_artifact(artifact_id: str, request: Request, parts: PartsDep) -> Response:
    """An artifact never changes: it may be kept for ever."""
    row = await parts.uploads.find(artifact_id)
    if row is None:
        return answer_refusal(Refusal(ProblemSlug.NOT_FOUND, "there is no such picture, or it is still on its way"))
    headers = {
        "ETag": f'"{row.sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    chunks = await parts.uploads.open(row)
    if chunks is None:
        return answer_refusal(Refusal(ProblemSlug.NOT_FOUND, "the picture was deleted from the store"))
    return StreamingResponse(chunks, media_type="image/png", headers=headers | {"Content-Length": str(row.size)})
