"""How a request's JSON is read, in one place for every endpoint: no NaN, no half characters, no endless nesting."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json


class StrictRequest(Request):
    """A request whose `json()` is JSON as the RFC has it: what is let in here can be stored and told again."""

    async def json(self) -> Any:
        """The body. Raises JSONDecodeError."""
        return strict_json(await self.body())


class StrictRoute(APIRoute):
    """Endpoints of the API read their bodies by `StrictRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, given a StrictRequest."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return handle


def strict_json(body: bytes) -> Any:
    """Raises json.JSONDecodeError, which FastAPI turns into an error of the body as a whole."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from error


def lenient_json(body: bytes) -> Any:
    """As `strict_json`, but lets half surrogate pairs through: a phone's broken output must not cost a whole batch."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except json.JSONDecodeError:
        raise
    except RecursionError as error:
        raise json.JSONDecodeError("nested too deeply", "", 0) from error
    except ValueError as error:  # not UTF-8; a number of thousands of digits
        raise json.JSONDecodeError(str(error), "", 0) from error


def _refuse_constant(name: str) -> object:
    raise json.JSONDecodeError(f"{name} is not JSON", "", 0)
