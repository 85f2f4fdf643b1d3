"""`muster devices`."""

import time
from typing import Annotated

import typer

from muster.cli.asking import JsonOption, UrlOption, ask
from muster.cli.output import ago, as_document, tell, tell_json, tell_table
from muster.client.http import MusterClient
from muster.contracts.api import DevicePage, DeviceView
from muster.domain import limits

app = typer.Typer(add_completion=False)

DEVICES_SHOWN_MAX = 10_000


@app.command()
def devices(
    online: Annotated[bool, typer.Option("--online", help="Only phones that are Online.")] = False,
    node: Annotated[str | None, typer.Option("--node", help="Only phones of this node.")] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Lists the phones that the backend knows.

    Example: muster devices --online --node PC-01
    """
    page = ask(url, lambda client: all_devices(client, node_id=node, online_only=online))
    if json:
        tell_json(as_document(page))
        return
    now_ms = time.time_ns() // 1_000_000
    tell_table(
        ["DEVICE", "NODE", "STATE", "HANDLE", "BATTERY", "SEEN", "LAST ERROR"],
        [_row(device, now_ms) for device in page.devices],
        flexible="LAST ERROR",
    )
    tell(f"{page.counts.get('online', 0)} online, {page.counts.get('offline', 0)} offline")


async def all_devices(client: MusterClient, *, node_id: str | None = None, online_only: bool = False) -> DevicePage:
    """Every page as one, up to `DEVICES_SHOWN_MAX` phones."""
    page = await client.devices(node_id=node_id, online_only=online_only, limit=limits.PAGE_SIZE_MAX)
    found = list(page.devices)
    while page.next_cursor and len(found) < DEVICES_SHOWN_MAX:
        page = await client.devices(
            node_id=node_id, online_only=online_only, cursor=page.next_cursor, limit=limits.PAGE_SIZE_MAX
        )
        found += page.devices
    return page.model_copy(update={"devices": found})


def _row(device: DeviceView, now_ms: int) -> list[object]:
    return [
        device.device_id,
        device.node_id,
        "online" if device.online else "offline",
        device.runtime_handle,
        None if device.battery is None else f"{device.battery} %",
        ago(device.last_seen_at, now_ms),
        device.last_error_message,
    ]
