"""`muster up`: backend and agent for the phones of this PC, in one process tree."""

from pathlib import Path
from typing import Annotated

import typer

from muster.cli.asking import settings_with
from muster.cli.family import Family, Write
from muster.cli.output import say
from muster.cli.parts import agent_plan, backend_plan, held_folder, own_secret
from muster.cli.service import StopOnEofOption, run_service
from muster.runtime.settings import Settings

app = typer.Typer(add_completion=False)

NODE_ID_DEFAULT = "PC-01"


@app.command()
def up(
    data: Annotated[Path | None, typer.Option("--data", help="Folder for everything. (default: .muster)")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Port of API and console; 0: a free one.")] = None,
    node_id: Annotated[str | None, typer.Option("--node-id", help="Name of this PC. (default: PC-01)")] = None,
    adb_server: Annotated[str | None, typer.Option("--adb-server", help="HOST:PORT.")] = None,
    vendor_url: Annotated[str | None, typer.Option("--vendor-url", help="Address of the vendor tool, or none.")] = None,
    stop_on_eof: StopOnEofOption = False,
) -> None:
    """Runs backend, console and agent for the phones of this PC. Ctrl-C stops all of it.

    Example: muster up --node-id PC-07 --vendor-url none
    """
    settings = settings_with(
        MUSTER_DATA=data, MUSTER_PORT=port, NODE_ID=node_id, ADB_SERVER=adb_server, VENDOR_WS_URL=vendor_url
    )
    with held_folder(settings.data, "up.lock"):
        run_service(lambda: _run(settings), stop_on_eof=stop_on_eof)


async def _run(settings: Settings) -> None:
    secret = own_secret(settings)
    async with Family() as family:
        backend = await family.start(backend_plan(settings, secret, port=settings.port), _prefixed("backend"))
        url = (await backend.ready())["url"]
        plan = agent_plan(
            settings,
            secret,
            node_id=settings.node_id or NODE_ID_DEFAULT,
            backend_url=url,
            adb_server=str(settings.adb_server),
            vendor_url=settings.vendor_url,
        )
        agent = await family.start(plan, _prefixed("agent"))
        await agent.ready()
        say(f"muster up ready on {url}")
        raise await family.first_to_end()


def _prefixed(name: str) -> Write:
    return lambda line: say(f"{name:<7} | {line}")
