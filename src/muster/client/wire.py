"""One HTTP exchange with a time-out on the whole of it and a limit on every answer. Knows no endpoint.

Errors, split by what the caller does next:

    BackendError
    ├── ApiError             it answered no: `status` and `problem` say why; the same again gives the same
    └── BackendUnreachable   no answer, or none that Muster would give: try again later
"""

import asyncio
import importlib.metadata
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, ValidationError

from muster.contracts.api import Problem
from muster.runtime.masking import check_user_info, hide_passwords, without_user_info

CONNECT_TIMEOUT_SEC: Final = 5.0
WRITE_TIMEOUT_SEC: Final = 30.0
ANSWER_TIMEOUT_SEC: Final = 30.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
ERROR_BYTES_MAX: Final = 256 * 1024
# Uvicorn closes a connection after 5 idle seconds; ours must go first, or a request may meet a closing socket.
KEEPALIVE_SEC: Final = 4.0
CONNECTIONS_MAX: Final = 64

QueryValue = str | int | bool
ModelT = TypeVar("ModelT", bound=BaseModel)


class BackendError(Exception):
    """Anything that keeps a request from its answer; its text is fit for an operator."""


class ApiError(BackendError):
    """The backend refused. `problem` is what it said (RFC 9457), or what can be made of it."""

    def __init__(self, status: int, problem: Problem) -> None:
        super().__init__(describe(problem))
        self.status = status
        self.problem = problem


class BackendUnreachable(BackendError):
    """No connection, no answer in time, or an answer that is not Muster's."""


def describe(problem: Problem) -> str:
    """A problem on one line: title, detail, and each wrong field with what is wrong."""
    is_said_twice = problem.detail in [error.message for error in problem.errors]
    text = problem.title if not problem.detail or is_said_twice else f"{problem.title}: {problem.detail}"
    fields = "; ".join(f"{error.field}: {error.message}" for error in problem.errors)
    return f"{text} ({fields})" if fields else text


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer with a status below 400."""

    status: int
    content_type: str
    location: str | None
    body: bytes


class Wire:
    """The connections to one backend, and to the object store that it names. Use as `async with`."""

    def __init__(self, base_url: str, secret: str | None, transport: httpx2.AsyncBaseTransport | None) -> None:
        self.base_url = _checked_url(base_url)
        self._transport = transport
        headers = _shown_by(secret, self.base_url) if secret else {}
        plain = self.base_url.scheme == "http"
        self._api = httpx2.AsyncClient(
            base_url=self.base_url,
            headers=_DEFAULT_HEADERS | headers,
            # Reading the machine's certificates takes a tenth of a second: not for a command that needs none.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            trust_env=not _is_loopback(self.base_url.host),
            limits=_LIMITS,
            transport=transport,
        )
        self._elsewhere: httpx2.AsyncClient | None = None

    async def close(self) -> None:
        """Closes every connection."""
        await self._api.aclose()
        if self._elsewhere is not None:
            await self._elsewhere.aclose()

    @property
    def place(self) -> str:
        """The backend's address as anybody may see it."""
        return hide_passwords(str(self.base_url)).rstrip("/")

    def resolve(self, url: str) -> str:
        """An absolute url from one that may be relative to the backend."""
        return str(self.base_url.join(url))

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, QueryValue | list[str]] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_sec: float = ANSWER_TIMEOUT_SEC,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """One exchange, over within `timeout_sec`. Raises BackendError."""
        async with (
            self._exchange_limit(timeout_sec),
            self._send(
                method, url, params=params, content=content, headers=headers, read_timeout_sec=timeout_sec
            ) as response,
        ):
            body = await _read(response, bytes_max)
            return Answer(
                response.status_code,
                response.headers.get("content-type", ""),
                response.headers.get("location"),
                body,
            )

    @asynccontextmanager
    async def stream(
        self, url: str, *, headers: Mapping[str, str], content_type: str, read_timeout_sec: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer without end, in pieces; `read_timeout_sec` is the longest silence. Raises BackendError."""
        async with self._send("GET", url, headers=headers, read_timeout_sec=read_timeout_sec) as response:
            if not response.headers.get("content-type", "").startswith(content_type):
                raise BackendUnreachable(f"{self.place} did not answer with {content_type}: is it a Muster backend?")
            yield response.aiter_raw()

    @asynccontextmanager
    async def _exchange_limit(self, timeout_sec: float) -> AsyncIterator[None]:
        # httpx2's own limits are for each read; a peer that sends a byte a second would pass them for ever.
        limit = asyncio.timeout(timeout_sec)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise BackendUnreachable(f"{self.place} did not answer within {timeout_sec:g} s") from None

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, QueryValue | list[str]] | None = None,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_sec: float,
    ) -> AsyncIterator[httpx2.Response]:
        timeout = httpx2.Timeout(
            connect=CONNECT_TIMEOUT_SEC, read=read_timeout_sec, write=WRITE_TIMEOUT_SEC, pool=read_timeout_sec
        )
        client = self._client_for(url)
        try:
            async with client.stream(
                method, url, params=params, content=content, headers=headers, timeout=timeout
            ) as response:
                if response.status_code >= 400:
                    raise ApiError(response.status_code, await _problem(response))
                yield response
        except httpx2.TimeoutException as error:
            raise BackendUnreachable(f"{_origin(client, url)} did not answer in time ({_kind(error)})") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise BackendUnreachable(f"cannot reach {_origin(client, url)}: {str(error) or _kind(error)}") from error
        except AttributeError as error:
            # anyio asks a connection for its peer that was lost in the instant in which it was made.
            if "getpeername" not in str(error):
                raise
            raise BackendUnreachable(f"{_origin(client, url)} closed the connection at once") from error

    def _client_for(self, url: str) -> httpx2.AsyncClient:
        """The secret goes to the backend alone, never to the object store that a ticket or a redirect names."""
        if _same_origin(self.base_url, self.base_url.join(url)):
            return self._api
        if self._elsewhere is None:
            self._elsewhere = httpx2.AsyncClient(headers=_DEFAULT_HEADERS, limits=_LIMITS, transport=self._transport)
        return self._elsewhere


def decode(model: type[ModelT], answer: Answer) -> ModelT:
    """The answer's body as `model`. Raises BackendUnreachable: what is not Muster's answer is no answer."""
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise BackendUnreachable(f"the answer is not a {model.__name__} of Muster ({where}: {first['msg']})") from error


# No compression: on a loopback it only costs, and a small body cannot swell into a large one.
_DEFAULT_HEADERS: Final = {
    "User-Agent": f"muster/{importlib.metadata.version('muster')}",
    "Accept-Encoding": "identity",
}
_LIMITS: Final = httpx2.Limits(
    max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX, keepalive_expiry=KEEPALIVE_SEC
)


def _checked_url(text: str) -> httpx2.URL:
    try:
        _ = urlsplit(text).port  # the standard library checks brackets and the port's range, httpx2 does not
        url = httpx2.URL(text)
        known = url.scheme in ("http", "https") and bool(url.host)
    except (ValueError, httpx2.InvalidURL):
        known = False  # their words may hold a piece of a password
    if known:
        check_user_info(text)
        return url
    raise ValueError(f"not a backend's address: {without_user_info(text)!r}; it looks like http://127.0.0.1:8700")


def _shown_by(secret: str, base_url: httpx2.URL) -> dict[str, str]:
    """How the secret is shown (R4.1): the usual header is a proxy's where the address holds a name and a password."""
    return {"X-Node-Auth": secret} if base_url.userinfo else {"Authorization": f"Bearer {secret}"}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _same_origin(one: httpx2.URL, other: httpx2.URL) -> bool:
    return (one.scheme, one.host, _port(one)) == (other.scheme, other.host, _port(other))


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _origin(client: httpx2.AsyncClient, url: str) -> str:
    target = client.base_url.join(url)
    return f"{target.scheme}://{target.netloc.decode('ascii')}"


def _kind(error: Exception) -> str:
    return type(error).__name__


async def _read(response: httpx2.Response, bytes_max: int) -> bytes:
    """The whole body as sent. Raises BackendUnreachable past `bytes_max`, before it is in memory."""
    announced = response.headers.get("content-length", "")
    chunks: list[bytes] = []
    size = int(announced) if announced.isdecimal() else 0
    if size <= bytes_max:
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > bytes_max:
                break
            chunks.append(chunk)
    if size > bytes_max:
        raise BackendUnreachable(f"{response.url.host} answered with more than {bytes_max} bytes")
    return b"".join(chunks)


async def _problem(response: httpx2.Response) -> Problem:
    """What the peer said of its refusal; a proxy's page or a store's XML becomes a problem of no special type."""
    status = response.status_code
    try:
        body = await _read(response, ERROR_BYTES_MAX)
    except BackendUnreachable:
        body = b""
    try:
        return Problem.model_validate_json(body)
    except ValidationError:
        detail = " ".join(body[:2_000].decode("utf-8", "replace").split())[:300]
        return Problem(
            type="about:blank", title=response.reason_phrase or f"HTTP {status}", status=status, detail=detail
        )
