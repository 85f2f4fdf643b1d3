"""The ASGI application over the backend's parts."""

import ipaddress
from importlib.metadata import version

from fastapi import FastAPI, Request
from starlette.responses import Response

from muster.backend.api import artifacts, devices, health, nodes, runs, workflows
from muster.backend.api.guard import LOOPBACK_NAMES, Guard
from muster.backend.api.measured import Measured
from muster.backend.api.problems import answer_refusal, install_problem_handlers
from muster.backend.api.stream import stream_router
from muster.backend.console.pages import console_router, not_found_page
from muster.backend.parts import Parts
from muster.backend.refusal import ProblemSlug, Refusal


def create_app(parts: Parts) -> FastAPI:
    """Every endpoint, wired to `parts`. Opens and closes nothing itself."""
    app = FastAPI(
        title="Muster",
        version=version("muster"),
        summary="Calls a rack of Android phones to order.",
        openapi_url="/api/openapi.json",
        docs_url=None,  # its page loads scripts from elsewhere; the console opens no foreign connection
        redoc_url=None,
    )
    app.state.parts = parts
    install_problem_handlers(app)
    for module in (runs, workflows, nodes, devices, artifacts, health):
        app.include_router(module.router)
    app.include_router(stream_router(parts.live))
    app.include_router(console_router(parts.queries, parts.presence.node_views))
    app.add_exception_handler(404, _on_nothing_there)
    app.add_middleware(Guard, hosts=known_hosts(parts.settings.host))
    app.add_middleware(Measured, metrics=parts.metrics)
    return app


async def _on_nothing_there(request: Request, error: Exception) -> Response:
    """A page for a person, a problem for a program."""
    is_person = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    return not_found_page(request) if is_person else answer_refusal(Refusal(ProblemSlug.NOT_FOUND))


def known_hosts(bound_to: str) -> tuple[str, ...] | None:
    """The names by which a backend bound to this address may be called; None = any (it is meant to be reached)."""
    if bound_to in LOOPBACK_NAMES:
        return LOOPBACK_NAMES
    try:
        is_loopback = ipaddress.ip_address(bound_to).is_loopback
    except ValueError:
        return None
    return (*LOOPBACK_NAMES, bound_to) if is_loopback else None
