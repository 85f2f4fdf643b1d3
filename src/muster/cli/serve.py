"""`muster backend` and `muster agent`: the parts of Muster as processes of their own."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from muster.cli.asking import settings_with
from muster.cli.failing import CommandFailed
from muster.cli.parts import held_folder, known_secret, own_secret
from muster.cli.service import StopOnEofOption, run_service
from muster.runtime.logs import configure_logs
from muster.runtime.settings import require

backend_app = typer.Typer(add_completion=False)
agent_app = typer.Typer(add_completion=False)

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder for all that is kept. (default: .muster)")]
LogJsonOption = Annotated[bool, typer.Option("--log-json", help="Log lines as JSON, one object a line.")]


@backend_app.command()
def backend(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on. (default: 127.0.0.1)")] = None,
    port: Annotated[int | None, typer.Option("--port", help="0 takes a free one. (default: 8700)")] = None,
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
            node_lost_after_sec=settings.node_lost_after_sec,
            task_timeout_ms=settings.task_timeout_ms,
        )
        try:
            run_service(lambda: serve(told, on_ready=announce), stop_on_eof=stop_on_eof)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise CommandFailed(f"cannot listen on {where}: {error.strerror}; give another --port") from error


@agent_app.command()
def agent(
    backend: Annotated[str | None, typer.Option("--backend", help="Address of the backend. ($BACKEND_URL)")] = None,
    node_id: Annotated[str | None, typer.Option("--node-id", help="Name of this PC, e.g. PC-01. ($NODE_ID)")] = None,
    data: DataOption = None,
    adb_server: Annotated[
        str | None, typer.Option("--adb-server", help="HOST:PORT, started there if nothing answers.")
    ] = None,
    vendor_url: Annotated[str | None, typer.Option("--vendor-url", help="Address of the vendor tool, or none.")] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Phones at once. (default: 20)")] = None,
    secrets: Annotated[
        Path | None, typer.Option("--secrets", help="File of this node's own secrets. (default: DATA/secrets.yaml)")
    ] = None,
    http_port: Annotated[
        str | None, typer.Option("--http-port", help="Port of /metrics and /healthz, or none. (default: a free one)")
    ] = None,
    log_json: LogJsonOption = False,
    stop_on_eof: StopOnEofOption = False,
) -> None:
    """Runs the node agent of this PC until SIGTERM or Ctrl-C; running tasks are let end, nothing recorded is lost.

    The secret is NODE_AGENT_SHARED_SECRET, else the one that a backend on this PC keeps in DATA/secret.

    Example: muster agent --backend http://10.0.0.5:8700 --node-id PC-07 --vendor-url none
    """
    from muster.agent.main import AgentCannotStart, AgentSettings, run_agent

    settings = settings_with(
        BACKEND_URL=backend,
        NODE_ID=node_id,
        MUSTER_DATA=data,
        ADB_SERVER=adb_server,
        VENDOR_WS_URL=vendor_url,
        MAX_CONCURRENCY_PER_NODE=concurrency,
        SECRETS_FILE=secrets,
        AGENT_HTTP_PORT=http_port,
    )
    configure_logs(json_lines=log_json)
    told = AgentSettings(
        backend_url=require(settings.backend_url, "BACKEND_URL", "--backend"),
        node_id=require(settings.node_id, "NODE_ID", "--node-id"),
        data_dir=settings.data,
        secret=known_secret(settings),
        adb_server=(settings.adb_server.host, settings.adb_server.port),
        vendor_url=settings.vendor_url,
        concurrency=settings.concurrency,
        upload_timeout_ms=settings.upload_timeout_ms,
        device_grace_wait_ms=settings.device_grace_wait_ms,
        online_window_sec=settings.online_window_sec,
        secrets_file=settings.secrets_file,
        allow_raw_shell=settings.allow_raw_shell,
        allow_reboot=settings.allow_reboot,
        emulator_avd=settings.emulator_avd,
        emulator_program=settings.emulator_program,
        emulator_gate_wait_ms=settings.emulator_gate_wait_ms,
        http_port=settings.agent_http_port,
    )
    try:
        run_service(lambda: run_agent(told, on_ready=announce), stop_on_eof=stop_on_eof)
    except AgentCannotStart as error:
        raise CommandFailed(f"the agent cannot start: {error}") from error


def announce(line: str) -> None:
    """Says on stderr that a part is ready; supervisors and scripts wait for this line."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
