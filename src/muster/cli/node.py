"""`muster nodes`."""

import time
from typing import Final

import typer

from muster.cli.asking import JsonOption, UrlOption, ask
from muster.cli.output import ago, as_document, tell_json, tell_table
from muster.contracts.api import NodeView
from muster.domain.limits import CLOCK_SKEW_MS_MAX

app = typer.Typer(add_completion=False)
_COLUMNS: Final = (
    "NODE", "STATUS", "PHONES", "RUNNING", "QUEUED", "SLOTS", "VENDOR", "OUTBOX", "CLOCK", "HEARTBEAT", "LAST ERROR",
)  # fmt: skip


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
        _COLUMNS,
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
        clock_text(node.clock_skew_ms),
        ago(node.last_heartbeat_at, now_ms),
        node.last_error_message,
    ]


def clock_text(skew_ms: int | None) -> str | None:
    """`ok`, or how far the node's clock is off: `+95 s`."""
    if skew_ms is None:
        return None
    return "ok" if abs(skew_ms) <= CLOCK_SKEW_MS_MAX else f"{skew_ms / 1000:+.0f} s"
