"""One question to the backend: settings, client, answer."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar

import typer

from muster.cli.failing import CommandFailed
from muster.client.http import ApiError, BackendUnreachable, MusterClient
from muster.contracts.api import PROBLEM_TYPE_PREFIX
from muster.runtime.settings import Raw, Settings, load_settings

AnswerT = TypeVar("AnswerT")
# Where what was meant can be found, by the slug of the problem.
_SEE: Final = {
    "unknown-run": "`muster run list` shows them",
    "unknown-workflow": "`muster workflow list` shows them",
    "no-matching-device": "`muster devices` and `muster nodes` show what there is",
}
_LISTS: Final = {"no device ": "muster devices", "no such workflow": "muster workflow list"}

UrlOption = Annotated[
    str | None, typer.Option("--url", help="Backend to talk to. (default: $MUSTER_URL, else http://127.0.0.1:8700)")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout instead of a table.")]


def settings_with(**command_line: Raw | None) -> Settings:
    """What is in force, with these options of the command line (by variable name). Raises SettingsError."""
    return load_settings(command_line, os.environ)


def ask(url: str | None, question: Callable[[MusterClient], Awaitable[AnswerT]]) -> AnswerT:
    """Puts `question` to the backend. Raises CommandFailed with what to do when it cannot be answered."""
    settings = settings_with(MUSTER_URL=url)

    async def main() -> AnswerT:
        async with MusterClient(settings.url, secret=settings.token) as client:
            return await question(client)

    try:
        return asyncio.run(main())
    except BackendUnreachable as error:
        raise CommandFailed(
            f"{error}. Start a backend with `muster up`, or name it with --url or MUSTER_URL"
        ) from error
    except ApiError as error:
        raise CommandFailed(_advise(error)) from error


def _advise(error: ApiError) -> str:
    if error.status in (401, 403):
        return f"{error}. Set MUSTER_TOKEN to a token that may do this"
    slug = error.problem.type.removeprefix(PROBLEM_TYPE_PREFIX)
    if slug == "not-found" and error.problem.detail:
        # The title speaks of an address, which whoever typed a name never saw.
        see = [f"; `{command}` shows them" for word, command in _LISTS.items() if word in error.problem.detail]
        return error.problem.detail + "".join(see[:1])
    return f"{error}; {_SEE[slug]}" if slug in _SEE else str(error)
