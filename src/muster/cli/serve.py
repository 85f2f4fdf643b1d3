"""`muster backend` and `muster agent`: the parts of Muster as processes of their own."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from muster.cli.asking import settings_with
from muster.cli.failing import CommandFailed
from muster.cli.parts import held_folder, own_secret
from muster.cli.service import StopOnEofOption, run_service
from muster.runtime.logs import configure_logs

backend_app = typer.Typer(add_completion=False)
agent_app = typer.Typer(add_completion=False)

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder for all that is kept. [default: .muster]")]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log lines as JSON, one object a line.")]


@backend_app.command()
def backend(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on. [default: 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0 takes a free one. [default: 8700]")] = None,
    data: DataOption = None,
    log_json: LogJsonOption = False,
    stop_on_eof: StopOnEofOption = False,
) -> None:
    """Runs the backend, API and console, until SIGTERM or Ctrl-C.

    The secret that nodes must show is NODE_AGENT_SHARED_SECRET; without it one is made and kept in DATA/secret.

    Example: muster backend --port 8700 --data .muster
    """
    from muster.backend.main import BackendSettings, serve

    settings = settings_with(MUSTER_HOST=host, MUSTER_PORT=port, MUSTER_DATA=data)
    configure_logs(json_lines=log_json)
    with held_folder(settings.data, "backend.lock"):
        told = BackendSettings(
            host=settings.host,
            port=settings.port,
            data_dir=settings.data,
            secret=own_secret(settings),
            online_window_sec=settings.online_window_sec,
        )
        try:
            run_service(lambda: serve(told, on_ready=announce), stop_on_eof=stop_on_eof)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise CommandFailed(f"cannot listen on {where}: {error.strerror}; give another --port") from error


def announce(line: str) -> None:
    """Says on stderr that a part is ready; supervisors and scripts wait for this line."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
