"""`muster sim`: a virtual rack, and changes to a running one. Imports `muster.sim` only to run it."""

import asyncio
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from muster.cli.asking import JsonOption, settings_with
from muster.cli.failing import CommandFailed
from muster.cli.output import tell, tell_json, tell_table
from muster.cli.serve import announce
from muster.cli.service import StopOnEofOption, run_service
from muster.runtime.masking import without_user_info
from muster.runtime.settings import host_port

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    help="Runs a virtual rack of phones behind a real adb server; the commands below change a running one.",
)

CONTROL_DEFAULT: Final = "http://127.0.0.1:22280"
CONTROL_PORT_DEFAULT: Final = 22280
VENDOR_PORT_DEFAULT: Final = 22222
ADB_SERVER_DEFAULT: Final = "127.0.0.1:5137"
ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024

ControlOption = Annotated[str, typer.Option("--control", help="Control address, as the rack's ready line tells it.")]
DeviceArgument = Annotated[str, typer.Argument(help="device_id of the phone; `muster sim list` shows them.")]


class Latency(StrEnum):
    """How quickly virtual phones answer."""

    MEASURED = "measured"
    NONE = "none"


@app.callback()
def sim(
    ctx: typer.Context,
    devices: Annotated[int, typer.Option("--devices", min=1, max=1_000, help="Number of phones.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same rack.")] = 1,
    profile: Annotated[
        Path | None, typer.Option("--profile", exists=True, dir_okay=False, help="YAML: the characters of the phones.")
    ] = None,
    adb_server: Annotated[
        str, typer.Option("--adb-server", help="HOST:PORT; a private one is started if nothing answers. Port 0: free.")
    ] = ADB_SERVER_DEFAULT,
    vendor_port: Annotated[int, typer.Option("--vendor-port", min=0, max=65_535)] = VENDOR_PORT_DEFAULT,
    control_port: Annotated[int, typer.Option("--control-port", min=0, max=65_535)] = CONTROL_PORT_DEFAULT,
    latency: Annotated[
        Latency, typer.Option("--latency", help="As measured on real phones, or none.")
    ] = Latency.MEASURED,
    speed: Annotated[
        float, typer.Option("--speed", min=0.01, max=1_000, help="2 makes every latency half as long.")
    ] = 1.0,
    data: Annotated[Path | None, typer.Option("--data", help="Folder for the private adb server's keys.")] = None,
    stop_on_eof: StopOnEofOption = False,
) -> None:
    """Runs a virtual rack of phones behind a real adb server; the commands below change a running one.

    Example: muster sim --devices 20 --seed 7
    """
    if ctx.invoked_subcommand is not None:
        return
    from muster.adb.errors import AdbError
    from muster.runtime.logs import configure_logs
    from muster.sim.main import RackNotReady, RackSettings, run_rack

    settings_with(ADB_SERVER=adb_server)  # refuses a bad address by its name
    address = host_port(adb_server)
    configure_logs()
    settings = RackSettings(
        devices=devices,
        seed=seed,
        adb_server=(address.host, address.port),
        vendor_port=vendor_port,
        control_port=control_port,
        latency=latency.value,
        speed=speed,
        profile=profile,
        data_dir=data,
    )
    try:
        run_service(lambda: run_rack(settings, on_ready=announce), stop_on_eof=stop_on_eof)
    except (AdbError, RackNotReady) as error:
        raise CommandFailed(f"the rack cannot start: {error}") from error
    except OSError as error:
        raise CommandFailed(f"the rack cannot start: {error.strerror}; give other ports, or 0 for free ones") from error


@app.command("list")
def list_(control: ControlOption = CONTROL_DEFAULT, json: JsonOption = False) -> None:
    """Lists the phones of a running rack."""
    answer = _ask(control, "GET", "/phones")
    if json:
        tell_json(answer)
        return
    tell_table(
        ["DEVICE", "SERIAL", "STATE", "ADB", "MODEL", "ANDROID", "BATTERY"],
        [
            [p["device_id"], p["serial"], p["state"], p["adb_state"], p["model"], p["android"], f"{p['battery']} %"]
            for p in answer["phones"]
        ],
        flexible="MODEL",
    )


@app.command("set")
def set_(
    device: DeviceArgument,
    state: Annotated[
        str | None, typer.Option("--state", help="device, unauthorized, offline, missing, hung, booting or no_adb.")
    ] = None,
    battery: Annotated[int | None, typer.Option("--battery", min=0, max=100, help="Per cent.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Degrees.")] = None,
    powered: Annotated[bool | None, typer.Option("--powered/--unplugged", help="Whether it charges.")] = None,
    free_bytes: Annotated[int | None, typer.Option("--free-bytes", min=0, help="Room left on its disk.")] = None,
    asleep: Annotated[bool | None, typer.Option("--asleep/--awake", help="Whether its screen is dark.")] = None,
    dialog: Annotated[
        str | None, typer.Option("--dialog", help="Shows update, permission, low_battery, anr or crash.")
    ] = None,
    sign_in: Annotated[
        str | None, typer.Option("--sign-in", help='JSON: how signing in goes, such as {"always_fails": true}.')
    ] = None,
    accident: Annotated[
        str | None, typer.Option("--accident", help='JSON: what will happen, such as {"what": "hang"}.')
    ] = None,
    property_: Annotated[list[str] | None, typer.Option("--property", help="NAME=VALUE; may be repeated.")] = None,
    control: ControlOption = CONTROL_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Changes a phone of a running rack.

    Example: muster sim set ABC123 --state offline
    """
    asked: dict[str, Any] = {
        "state": state,
        "battery": battery,
        "temperature": temperature,
        "powered": powered,
        "free_bytes": free_bytes,
        "asleep": asleep,
        "dialog": dialog,
        "sign_in": _document("--sign-in", sign_in),
        "accident": _document("--accident", accident),
        "properties": dict(_pair(text) for text in property_) if property_ else None,
    }
    change = {name: value for name, value in asked.items() if value is not None}
    if not change:
        raise CommandFailed("nothing to change; `muster sim set --help` tells what can be")
    _tell_phone(_ask(control, "POST", f"/phones/{quote(device, safe='')}", change), json=json)


@app.command()
def kick(device: DeviceArgument, control: ControlOption = CONTROL_DEFAULT, json: JsonOption = False) -> None:
    """Breaks a phone's connection once, as a loose cable does."""
    _act("kick", device, control, json=json)


@app.command()
def authorize(device: DeviceArgument, control: ControlOption = CONTROL_DEFAULT, json: JsonOption = False) -> None:
    """Presses "Always allow" on a phone that asks for it."""
    _act("authorize", device, control, json=json)


@app.command()
def reboot(device: DeviceArgument, control: ControlOption = CONTROL_DEFAULT, json: JsonOption = False) -> None:
    """Reboots a phone."""
    _act("reboot", device, control, json=json)


def _act(verb: str, device: str, control: str, *, json: bool) -> None:
    _tell_phone(_ask(control, "POST", f"/phones/{quote(device, safe='')}/{verb}", {}), json=json)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not re.fullmatch(r"[\w.-]+", name) or not equals:
        raise CommandFailed(f"--property {text!r} is not NAME=VALUE")
    return name, value


def _document(option: str, text: str | None) -> Any:
    """The option's JSON; what it may hold is checked by the rack."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise CommandFailed(f"{option} {text!r} is not JSON: {error}") from error


def _tell_phone(phone: dict[str, Any], *, json: bool) -> None:
    if json:
        tell_json(phone)
    else:
        in_adb = phone["adb_state"] or "shows nothing"
        tell(f"{phone['device_id']} {phone['state']}, adb {in_adb}, battery {phone['battery']} %")


def _ask(control: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    return asyncio.run(ask_rack(control, method, path, body))


async def ask_rack(control: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The control API's answer as JSON. Raises CommandFailed with what it said or why it cannot be reached."""
    from muster.client.wire import ApiError, BackendUnreachable, Wire

    try:
        wire = Wire(control, None, None)
    except ValueError as error:
        raise CommandFailed(
            f"--control: {without_user_info(control)!r} is not an address such as {CONTROL_DEFAULT}; "
            "the rack's ready line tells it"
        ) from error
    content = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        answer = await wire.fetch(method, path, content=content, headers=headers, bytes_max=ANSWER_BYTES_MAX)
        return json.loads(answer.body)
    except BackendUnreachable as error:
        raise CommandFailed(f"no rack: {error}. Start one with `muster sim`, or name it with --control") from error
    except ApiError as error:
        raise CommandFailed(f"the rack refused: {_reason(error.problem.detail)}") from error
    finally:
        await wire.close()


def _reason(detail: str) -> str:
    """The control API says `{"error": "…"}`, no problem document."""
    try:
        document = json.loads(detail)
    except ValueError:
        return detail
    return str(document.get("error", detail)) if isinstance(document, dict) else detail
