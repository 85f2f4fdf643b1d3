"""Who may speak as a node (R4.1), and who asked for something."""

import hmac
from typing import Annotated

from fastapi import Depends, Header, Request

from muster.backend.api.problems import ProblemError
from muster.backend.parts import Parts
from muster.backend.refusal import ProblemSlug, Refusal


def parts_of(request: Request) -> Parts:
    """The backend's parts, as `create_app` put them there."""
    parts: Parts = request.app.state.parts
    return parts


PartsDep = Annotated[Parts, Depends(parts_of)]


def actor_of(request: Request) -> str:
    """For the audit log: the address and the program, as long as nobody signs in. At most 128 printable characters."""
    host = request.client.host if request.client else "?"
    program = request.headers.get("user-agent", "?")
    return "".join(letter for letter in f"{host} {program}" if letter.isprintable())[:128]


ActorDep = Annotated[str, Depends(actor_of)]


def require_node_secret(
    parts: PartsDep,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    x_node_auth: Annotated[str | None, Header(description="The shared secret, or `Authorization: Bearer`")] = None,
) -> None:
    """`Authorization: Bearer <secret>` or `X-Node-Auth: <secret>`, compared in constant time."""
    scheme, _, bearer = (authorization or "").partition(" ")
    given = bearer.strip() if scheme.lower() == "bearer" else x_node_auth or ""
    if not parts.settings.secret or not hmac.compare_digest(given.encode(), parts.settings.secret.encode()):
        raise ProblemError(Refusal(ProblemSlug.UNAUTHORIZED))


NodeOnly = Depends(require_node_secret)
