"""The console's pages: `/runs` and the Run Monitor `/runs/{id}` (spec/08).

Adding a page: docs/checklists/new-console-page.md.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from markupsafe import Markup

from muster.backend.console import views, wording
from muster.backend.console.assets import Assets
from muster.backend.console.language import LANGUAGES, choose
from muster.backend.cursors import MalformedCursorError
from muster.contracts.api import NodeView, RunDetail, RunPage
from muster.domain import limits
from muster.domain.run import RunState

TEMPLATES: Final = Path(__file__).parent / "templates"
LANGUAGE_COOKIE: Final = "muster_language"
_YEAR_SEC: Final = 365 * 24 * 3600
# No inline script or style runs; the page opens connections to its own origin and nowhere else (spec/08).
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class RunReader(Protocol):
    """What the pages read; `RunQueries` is one."""

    async def page(self, status: Collection[RunState] = ..., *, cursor: str | None = ..., limit: int = ...) -> RunPage:
        """Failed and running first, then newest first; `counts` are of the states asked for."""
        ...

    async def detail(self, run_id: str) -> RunDetail | None:
        """The run with its nodes and tasks."""
        ...


def console_router(
    runs: RunReader, nodes: Callable[[], Iterable[NodeView]], *, stale_sec: float = limits.STREAM_STALE_SEC
) -> APIRouter:
    """The console's pages and their static files. `nodes`: those that are known, as they are now."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def home() -> Response:
        return RedirectResponse("/runs", 303)

    @router.get("/static/{version}/{name}")
    async def static(version: str, name: str, request: Request) -> Response:
        return _static(version, name) or not_found_page(request)

    @router.get("/runs")
    async def list_runs(request: Request) -> Response:
        asked = request.query_params.getlist("status")
        wanted = frozenset(state for state in RunState if state.value in asked)
        cursor = request.query_params.get("cursor")
        try:
            page = await runs.page(wanted, cursor=cursor)
        except MalformedCursorError:
            return RedirectResponse("/runs", 303)
        counts = (await runs.page(limit=1)).counts if wanted else page.counts
        older = _with(request, cursor=[page.next_cursor or ""])
        chips = _run_chips(counts, wanted)
        shown, more = views.shown_nodes(nodes())
        context = {"page": page, "chips": chips, "older": older, "filtered": wanted or cursor}
        return _page(request, "runs.html", context | {"nodes": shown, "nodes_more": more})

    @router.get("/runs/{run_id}")
    async def monitor_run(request: Request, run_id: str) -> Response:
        detail = await runs.detail(run_id)
        if detail is None:
            return not_found_page(request)
        return _page(request, "run.html", _monitor(detail, request) | {"stale_ms": round(stale_sec * 1000)})

    return router


def not_found_page(request: Request) -> Response:
    """What a person sees under an address that leads nowhere."""
    return _page(request, "not_found.html", {}, status=404)


def _page(request: Request, template: str, context: Mapping[str, Any], *, status: int = 200) -> Response:
    switch_to = request.query_params.get("lang")
    if switch_to is not None and switch_to in LANGUAGES:
        return _switch_language(request, switch_to)
    translate = choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language"))
    html = (
        _templates()
        .get_template(template)
        .render(
            context,
            _=translate,
            language=translate.code,
            languages=[(language, _with(request, lang=[language.code])) for language in LANGUAGES.values()],
            strings=wording.for_script(translate),
            duration=lambda ms: wording.duration(ms, translate),
            path=request.url.path,
        )
    )
    headers = SECURITY_HEADERS | {"Cache-Control": "no-store", "Vary": "Accept-Language, Cookie"}
    return HTMLResponse(html, status, headers=headers)


def _switch_language(request: Request, code: str) -> Response:
    answer = RedirectResponse(_with(request, lang=[]), 303)
    answer.set_cookie(LANGUAGE_COOKIE, code, max_age=_YEAR_SEC, samesite="lax", httponly=True)
    return answer


def _with(request: Request, **changes: list[str]) -> str:
    """The page's own address with some parameters replaced."""
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in changes]
    return _address(request.url.path, kept + [(key, value) for key, values in changes.items() for value in values])


def _address(path: str, parameters: list[tuple[str, str]]) -> str:
    query = urlencode([(key, value) for key, value in parameters if value])
    return f"{path}?{query}" if query else path


def _static(version: str, name: str) -> Response | None:
    asset = _assets().get(name)
    if asset is None:
        return None
    # A page made by another version of the backend gets this version's file, but does not keep it.
    keep = "public, max-age=31536000, immutable" if version == _assets().version else "no-cache"
    headers = {"Cache-Control": keep, "X-Content-Type-Options": "nosniff"}
    return Response(asset.body, media_type=asset.media_type, headers=headers)


def _run_chips(counts: Mapping[RunState, int], wanted: frozenset[RunState]) -> list[views.Chip]:
    on = [state.value for state in views.RUN_ORDER if state in wanted]
    return [
        views.Chip(state.value, counts.get(state, 0), state in wanted, _address("/runs", _statuses(on, state.value)))
        for state in views.RUN_ORDER
    ]


def _statuses(on: list[str], turned: str) -> list[tuple[str, str]]:
    """The filter with one state turned on or off."""
    return [("status", state) for state in on if state != turned] + [("status", turned)] * (turned not in on)


def _monitor(detail: RunDetail, request: Request) -> dict[str, Any]:
    query, path = request.query_params, f"/runs/{detail.run_id}"
    on, search, chosen = sorted(set(query.getlist("status"))), query.get("q", ""), query.get("sel", "")

    def phone_address(device_id: str) -> str:
        return _address(path, [*(("status", state) for state in on), ("q", search), ("sel", device_id)])

    return {
        "run": detail,
        "blocks": views.node_blocks(detail, statuses=frozenset(on), search=search),
        "chips": [
            views.Chip(
                state.value,
                views.count_of(detail.counts, state),
                state.value in on,
                _address(path, [*_statuses(on, state.value), ("q", search), ("sel", chosen)]),
            )
            for state in views.TASK_ORDER
        ],
        "search": search,
        "statuses": on,
        "selected": next((task for task in detail.tasks if task.device_id == chosen), None),
        "size": views.tile_size(len(detail.tasks)),
        "phone_address": phone_address,
    }


@cache
def _assets() -> Assets:
    return Assets()


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"utc": _utc, "iso": _iso, "json_block": _json_block}
    environment.globals |= {
        "asset": _assets().url,
        "segments": views.segments,
        "TASK_STATES": wording.TASK_STATES,
        "RUN_STATES": wording.RUN_STATES,
        "TRIGGERS": wording.TRIGGERS,
        "FAILURE_REASONS": wording.FAILURE_REASONS,
        "FAILURE_CLASSES": wording.FAILURE_CLASSES,
        "WAITING_REASONS": wording.WAITING_REASONS,
        "NODE_STATES": wording.NODE_STATES,
        "TROUBLES": wording.TROUBLES,
        "SCRIPT": wording.SCRIPT,
    }
    return environment


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _utc(milliseconds: int) -> str:
    """For pages without JavaScript; with it, the viewer's own zone replaces it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _json_block(value: object) -> Markup:
    """JSON for a `<script type="application/json">`: nothing in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped here
