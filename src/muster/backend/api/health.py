"""`/healthz`, `/readyz`, `/metrics`: is the process alive, can it do its work, and how does it do it."""

import asyncio
from collections.abc import Awaitable
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from muster.backend.api.access import PartsDep
from muster.backend.api.problems import answer_refusal, documented
from muster.backend.refusal import ProblemSlug, Refusal
from muster.contracts.api import FieldError, HealthAnswer
from muster.store.database import StoreUnavailableError
from muster.store.objects import ObjectsUnavailableError

router = APIRouter(tags=["health"])
CHECK_TIMEOUT_SEC: Final = 3.0


@router.get("/healthz", summary="The process answers")
async def healthz(parts: PartsDep) -> HealthAnswer:
    """Nothing else is asked. `now` is what nodes and operators compare their clocks with."""
    return HealthAnswer(version=version("muster"), now=parts.clock.now_ms())


@router.get("/metrics", response_class=Response, summary="For Prometheus")
async def metrics(parts: PartsDep) -> Response:
    """In its text format; computed at the moment of the scrape."""
    return Response(await parts.metrics.page(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/readyz",
    response_class=JSONResponse,
    summary="Database and object store are reached",
    responses=documented(ProblemSlug.UNAVAILABLE),
)
async def readyz(parts: PartsDep) -> Response:
    """Both are really asked, for 3 s at most."""
    checks = {"database": parts.database.check(), "objects": parts.objects.check()}
    found = await asyncio.gather(*(_failure(name, check) for name, check in checks.items()))
    errors = tuple(error for error in found if error is not None)
    if errors:
        return answer_refusal(Refusal(ProblemSlug.UNAVAILABLE, errors[0].message, errors))
    return JSONResponse({"status": "ready"})


async def _failure(name: str, check: Awaitable[None]) -> FieldError | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SEC):
            await check
    except (StoreUnavailableError, ObjectsUnavailableError) as error:
        return FieldError(field=name, message=str(error))
    except TimeoutError:
        return FieldError(field=name, message=f"no answer within {CHECK_TIMEOUT_SEC:g} s")
    return None
