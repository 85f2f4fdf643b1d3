"""The ASGI application over the backend's parts."""

import ipaddress
from importlib.metadata import version

from fastapi import FastAPI

from muster.backend.api import artifacts, devices, health, nodes, runs, workflows
from muster.backend.api.guard import LOOPBACK_NAMES, Guard
from muster.backend.api.problems import install_problem_handlers
from muster.backend.api.stream import stream_router
from muster.backend.parts import Parts


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
    app.add_middleware(Guard, hosts=known_hosts(parts.settings.host))
    return app


def known_hosts(bound_to: str) -> tuple[str, ...] | None:
    """The names by which a backend bound to this address may be called; None = any (it is meant to be reached)."""
    if bound_to in LOOPBACK_NAMES:
        return LOOPBACK_NAMES
    try:
        is_loopback = ipaddress.ip_address(bound_to).is_loopback
    except ValueError:
        return None
    return (*LOOPBACK_NAMES, bound_to) if is_loopback else None
