"""What every request passes before any endpoint: host name, origin, size. Plain ASGI, so that streams stay streams."""

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from muster.backend.api.problems import answer_refusal
from muster.backend.body_limits import BodyLimits, BodyLimitsOf, body_limits
from muster.backend.refusal import ProblemSlug, Refusal

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")


class Guard:
    """Refuses a request by its head alone, and cuts off a body that grows too large or does not end.

    `hosts` are the names by which this backend may be called; None = any. With a loopback address a foreign name
    means that a web page has bound its own name to it (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str] | None, limits: BodyLimitsOf = body_limits) -> None:
        self._app = app
        self._limits = limits
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the request through, or answers it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, limits = Headers(scope=scope), self._limits(scope)
        refusal = self._wrong_host(headers) or _cross_site(scope, headers) or _too_large(headers, limits.bytes_max)
        if refusal is not None:
            await answer_refusal(refusal)(scope, receive, send)
            return
        await self._app(scope, _limited(receive, limits), send)

    def _wrong_host(self, headers: Headers) -> Refusal | None:
        name = _host_name(headers.get("host", ""))
        if self._hosts is None or name in self._hosts:
            return None
        return Refusal.of_field(ProblemSlug.UNKNOWN_HOST, "Host", f"call it {' or '.join(sorted(self._hosts))}")


def _cross_site(scope: Scope, headers: Headers) -> Refusal | None:
    """A browser says where a request comes from; a page of another site may not change anything here."""
    if scope["method"] in _SAFE_METHODS:
        return None
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_foreign = site not in ("same-origin", "none") if site else origin is not None and not _is_own(origin, headers)
    return Refusal(ProblemSlug.CROSS_SITE, f"the request came from {origin or site}") if is_foreign else None


def _is_own(origin: str, headers: Headers) -> bool:
    return urlsplit(origin).netloc == headers.get("host", "")


def _host_name(host: str) -> str | None:
    """The name without its port: `[::1]:8700` → `::1`."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _too_large(headers: Headers, bytes_max: int) -> Refusal | None:
    length = headers.get("content-length", "0")
    is_larger = length.isascii() and length.isdigit() and (len(length) > 15 or int(length) > bytes_max)
    return Refusal(ProblemSlug.BODY_TOO_LARGE, f"at most {bytes_max} bytes are read") if is_larger else None


def _limited(receive: Receive, limits: BodyLimits) -> Receive:
    """A body may come in pieces without saying its length, and a byte at a time: count them, and the time."""
    seen, is_whole = 0, False
    deadline = asyncio.get_running_loop().time() + limits.sec_max

    async def counted() -> Message:
        nonlocal seen, is_whole
        try:
            async with asyncio.timeout_at(None if is_whole else deadline):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408) from error
        seen += len(message.get("body", b""))
        is_whole = is_whole or not message.get("more_body", False)
        if seen > limits.bytes_max:
            raise HTTPException(413)
        return message

    return counted
