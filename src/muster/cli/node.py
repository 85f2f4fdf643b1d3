"""`muster nodes`."""

import time

import typer

from muster.cli.asking import JsonOption, UrlOption, ask
from muster.cli.output import ago, as_document, tell_json, tell_table
from muster.contracts.api import NodeView

app = typer.Typer(add_completion=False)


@app.command()
def nodes(url: UrlOption = None, json: JsonOption = False) -> None:
    """Lists the nodes (PCs) that have reported to the backend.

    Example: muster nodes --json
    """
    listed = ask(url, lambda client: client.nodes())
    if json:
        tell_json(as_document(listed))
        return
    now_ms = time.time_ns() // 1_000_000
    tell_table(
        ["NODE", "STATUS", "PHONES", "RUNNING", "QUEUED", "SLOTS", "VENDOR", "OUTBOX", "HEARTBEAT", "LAST ERROR"],
        [_row(node, now_ms) for node in listed.nodes],
    )


def _row(node: NodeView, now_ms: int) -> list[object]:
    return [
        node.node_id,
        node.status,
        node.connected_devices_count,
        node.running_devices_count,
        node.queue_devices_count,
        node.max_concurrency,
        "ok" if node.vendor_ws_ok else "no",
        node.outbox_depth,
        ago(node.last_heartbeat_at, now_ms),
        node.last_error_message,
    ]
