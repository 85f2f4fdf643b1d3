"""`muster devices`, `muster device show | reboot | reconnect | quarantine | reserve | release`."""

import getpass
import time
from typing import Annotated

import typer

from muster.cli.asking import JsonOption, UrlOption, ask
from muster.cli.failing import CommandFailed
from muster.cli.output import ago, as_document, local_time, say, tell, tell_json, tell_table
from muster.client.http import MusterClient
from muster.contracts.api import AuditEntry, DevicePage, DeviceView
from muster.contracts.commands import DeviceActionKind
from muster.domain import limits

app = typer.Typer(add_completion=False)
device_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="One phone: look at it, reboot, reconnect, quarantine, reserve, release it.",
)

DEVICES_SHOWN_MAX = 10_000
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Why; told with the phone while it is kept, and in its history.")
]
DeviceArgument = Annotated[str, typer.Argument(help="Device id, as `muster devices` shows it.")]


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
    page = ask(url, lambda client: _listed(client, node, online_only=online))
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


@device_app.command()
def show(device: DeviceArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Shows one phone.

    Example: muster device show R58M123ABC
    """
    found = ask(url, lambda client: client.device(device))
    if json:
        tell_json(as_document(found))
        return
    now_ms = time.time_ns() // 1_000_000
    names = ["device", "node", "state", "handle", "battery", "seen", "last error"]
    for name, value in zip(names, _row(found, now_ms), strict=True):
        tell(f"{name:<11}{'-' if value is None else value}")
    if found.actions:
        tell("")
        columns = ["ASKED", "ACTION", "ANSWER", "REASON", "BY"]
        tell_table(columns, [_action_row(entry) for entry in found.actions], flexible="BY")


@device_app.command()
def reboot(
    device: DeviceArgument, reason: ReasonOption = None, url: UrlOption = None, json: JsonOption = False
) -> None:
    """Asks the phone's node to reboot it.

    Example: muster device reboot R58M123ABC
    """
    _act(device, DeviceActionKind.REBOOT, reason, url, json=json)


@device_app.command()
def reconnect(
    device: DeviceArgument, reason: ReasonOption = None, url: UrlOption = None, json: JsonOption = False
) -> None:
    """Asks the phone's node to connect to it anew."""
    _act(device, DeviceActionKind.RECONNECT, reason, url, json=json)


@device_app.command()
def quarantine(
    device: DeviceArgument, reason: ReasonOption = None, url: UrlOption = None, json: JsonOption = False
) -> None:
    """Takes the phone out of service: it gets no tasks until it is released."""
    _act(device, DeviceActionKind.QUARANTINE, reason, url, json=json)


@device_app.command()
def reserve(
    device: DeviceArgument,
    owner: Annotated[str | None, typer.Option("--for", help="For whom. (default: whoever is logged in here)")] = None,
    minutes: Annotated[
        int, typer.Option("--minutes", min=1, max=limits.RESERVATION_MINUTES_MAX, help="For how long.")
    ] = limits.RESERVATION_MINUTES_DEFAULT,
    reason: ReasonOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Keeps a phone for a person: its tasks fail at once as `device_reserved`. One that runs there goes on to its end.

    Example: muster device reserve R58M123ABC --minutes 30 --reason "debugging the login"
    """
    who = owner or getpass.getuser()
    _act(device, DeviceActionKind.RESERVE, reason, url, json=json, owner=who, minutes=minutes)


@device_app.command()
def release(
    device: DeviceArgument, reason: ReasonOption = None, url: UrlOption = None, json: JsonOption = False
) -> None:
    """Lets a phone back into service that is in quarantine or reserved."""
    _act(device, DeviceActionKind.RELEASE, reason, url, json=json)


def _act(
    device_id: str,
    action: DeviceActionKind,
    reason: str | None,
    url: str | None,
    *,
    json: bool,
    owner: str | None = None,
    minutes: int | None = None,
) -> None:
    accepted = ask(
        url, lambda client: client.act_on_device(device_id, action, reason=reason, owner=owner, minutes=minutes)
    )
    if json:
        tell_json(as_document(accepted))
        return
    tell(f"{accepted.node_id} is asked to {action.value} {accepted.device_id} (command {accepted.command_id})")
    say(f"what comes of it: muster device show {accepted.device_id}")


async def _listed(client: MusterClient, node_id: str | None, *, online_only: bool) -> DevicePage:
    """Raises CommandFailed for a node that nobody ever heard of: a misspelt one would look like one without phones."""
    page = await all_devices(client, node_id=node_id, online_only=online_only)
    if node_id is not None and not sum(page.counts.values()):
        known = [node.node_id for node in (await client.nodes()).nodes]
        if node_id not in known:
            raise CommandFailed(f"no node {node_id} has ever reported; `muster nodes` shows them")
    return page


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


def _action_row(entry: AuditEntry) -> list[object]:
    """The node's answer: it took the command, it refused, or it has not answered yet."""
    answer = entry.error_message or ("taken" if entry.answered_at is not None else "waiting")
    action = entry.action.removeprefix("device.")
    return [local_time(entry.at), action, answer, entry.detail.get("reason"), entry.actor]
