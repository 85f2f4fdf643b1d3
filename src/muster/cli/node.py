"""`muster nodes`."""

import time
from typing import Final

import typer

from muster.cli.asking import JsonOption, UrlOption, ask
from muster.cli.output import ago, as_document, say, tell, tell_json, tell_table
from muster.contracts.api import NodeCondition, NodeView
from muster.domain.limits import CLOCK_SKEW_MS_MAX

app = typer.Typer(add_completion=False)
_COLUMNS: Final = (
    "NODE", "STATUS", "PHONES", "QUARANTINED", "RESERVED", "RUNNING", "QUEUED", "SLOTS",
    "VENDOR", "OUTBOX", "REFUSED", "CLOCK", "HEARTBEAT",
)  # fmt: skip


@app.command()
def nodes(url: UrlOption = None, json: JsonOption = False) -> None:
    """Lists the nodes (PCs) that have reported to the backend, and below them what is wrong with each.

    PHONES: ready ones. QUARANTINED, RESERVED: those that get no task. OUTBOX: events that wait to be told; REFUSED:
    those that the backend refused for good (`muster doctor --node` on that PC tells more).

    Example: muster nodes --json
    """
    listed = ask(url, lambda client: client.nodes())
    if json:
        tell_json(as_document(listed))
        return
    if not listed.nodes:
        say("no node has reported yet; start one with `muster up` or `muster agent`")
    now_ms = time.time_ns() // 1_000_000
    tell_table(_COLUMNS, [_row(node, now_ms) for node in listed.nodes])
    for line in (line for node in listed.nodes for line in trouble_lines(node)):
        tell(line)


def _row(node: NodeView, now_ms: int) -> list[object]:
    return [
        node.node_id,
        node.status,
        node.connected_devices_count,
        node.quarantined_devices_count,
        node.reserved_devices_count,
        node.running_devices_count,
        node.queue_devices_count,
        node.max_concurrency,
        "ok" if node.vendor_ws_ok else "no",
        node.outbox_depth,
        node.dead_letters,
        clock_text(node.clock_skew_ms),
        ago(node.last_heartbeat_at, now_ms),
    ]


def trouble_lines(node: NodeCondition) -> list[str]:
    """What is wrong with a node, by its own word; a silent one's last words may be over."""
    then = "when last heard: " if node.status == "offline" else ""
    told = [trouble.message for trouble in node.troubles]
    if node.last_error_message and node.last_error_message not in told:
        told.insert(0, node.last_error_message)
    if node.status == "degraded" and not told:
        told = ["what it reports does not get through"]
    return [f"{node.node_id}: {then}{message}" for message in told]


def clock_text(skew_ms: int | None) -> str | None:
    """`ok`, or how far the node's clock is off: `+95 s`."""
    if skew_ms is None:
        return None
    return "ok" if abs(skew_ms) <= CLOCK_SKEW_MS_MAX else f"{skew_ms / 1000:+.0f} s"
