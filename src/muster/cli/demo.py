"""`muster demo`: a virtual rack, backend, agent and console; one workflow on every phone of the rack."""

import asyncio
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from muster.cli.asking import JsonOption, settings_with
from muster.cli.device import all_devices
from muster.cli.failing import COULD_NOT, CommandFailed
from muster.cli.family import ChildPlan, Family, LogFile
from muster.cli.output import as_document, clean, console, say, tell, tell_json
from muster.cli.parts import agent_plan, backend_plan, held_folder, is_free, own_secret, place_of, rack_plan
from muster.cli.rack import ask_rack
from muster.cli.run import start_run, tell_tasks
from muster.cli.service import StopOnEofOption, run_service
from muster.cli.up import NODE_ID_DEFAULT
from muster.cli.watching import counts_text, exit_status, watch_run
from muster.client.http import BackendError, MusterClient
from muster.contracts.api import CreateRun, RunDetail, Target
from muster.domain.artifact_key import BUCKET, NO_VIDEO, encode_part
from muster.domain.run import RunTrigger
from muster.runtime.private_folder import make_private
from muster.runtime.settings import Settings

app = typer.Typer(add_completion=False)

DATA_DEFAULT: Final = Path(".muster/demo")
WORKFLOW_DEFAULT: Final = "login_settings_screenshot_v1"
VIDEO_DEFAULT: Final = "dQw4w9WgXcQ"
DEVICES_MAX: Final = 1_000
ONLINE_SEC_MAX: Final = 180.0
# With a profile some phones may never come: the rest is there when none has joined for this long.
SETTLE_SEC: Final = 3.0
_LOOK_SEC: Final = 0.1


@dataclass(frozen=True, slots=True)
class Site:
    """Where backend and console answer, and the rack's control API."""

    url: str
    control: str


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What the command line asked for."""

    settings: Settings
    port: int
    devices: int
    seed: int
    profile: Path | None
    workflow: str
    video: str
    exit_when_done: bool
    json: bool


@app.command()
def demo(
    devices: Annotated[int, typer.Option("--devices", min=1, max=DEVICES_MAX, help="Virtual phones.")] = 20,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same rack.")] = 1,
    profile: Annotated[
        Path | None, typer.Option("--profile", exists=True, dir_okay=False, help="YAML: the characters of the phones.")
    ] = None,
    workflow: Annotated[str, typer.Option("--workflow", help="Workflow to run.")] = WORKFLOW_DEFAULT,
    video: Annotated[str, typer.Option("--video", help="YouTube video id.")] = VIDEO_DEFAULT,
    exit_: Annotated[bool, typer.Option("--exit", help="End with the run's result as exit status.")] = False,
    data: Annotated[Path, typer.Option("--data", help="Folder for everything.")] = DATA_DEFAULT,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65_535, help="(default: 8700, a free one if that is taken)")
    ] = None,
    stop_on_eof: StopOnEofOption = False,
    json: JsonOption = False,
) -> None:
    """Shows all of Muster without a phone: a virtual rack, backend, agent, console, and one run on every phone.

    Stays up until Ctrl-C, so that the console can be looked at; with --exit the exit status is the run's:
    0 all succeeded, 1 some did not, 2 could not be run.

    Example: muster demo --devices 20 --exit
    """
    settings = settings_with(MUSTER_DATA=data, MUSTER_PORT=port)
    plan = DemoPlan(settings, _port(settings, port), devices, seed, profile, workflow, video, exit_, json)
    statuses: list[int] = []

    async def work() -> None:
        statuses.append(await _run(plan))

    try:
        with held_folder(settings.data, "up.lock"):
            run_service(work, stop_on_eof=stop_on_eof)
    except BackendError as error:
        raise CommandFailed(f"{error}; the logs are in {settings.data / 'logs'}") from error
    raise typer.Exit(statuses[0] if statuses else COULD_NOT if exit_ else 0)


def _port(settings: Settings, given: int | None) -> int:
    if given is not None or is_free(settings.host, settings.port):
        return settings.port
    say(f"port {settings.port} is taken: the console gets a free one")
    return 0


async def _run(plan: DemoPlan) -> int:
    with ExitStack() as logs:  # closed last: the children write until they have ended
        async with Family() as family:
            site = await _start_parts(plan, family, logs)
            work = asyncio.create_task(_show(plan, site))
            watch = asyncio.create_task(family.first_to_end())
            try:
                await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    return work.result()
                raise watch.result()
            finally:
                work.cancel()
                watch.cancel()
                await asyncio.wait({work, watch})


async def _start_parts(plan: DemoPlan, family: Family, logs: ExitStack) -> Site:
    """Starts rack, backend and agent, and waits until each is ready."""
    folder = make_private(plan.settings.data / "logs")

    def log_of(child: ChildPlan) -> LogFile:
        file = LogFile(folder / f"{child.name}.log")
        logs.callback(file.close)
        return file

    secret = own_secret(plan.settings)
    rack_child = rack_plan(
        devices=plan.devices, seed=plan.seed, profile=plan.profile, data=make_private(plan.settings.data / "rack")
    )
    backend_child = backend_plan(plan.settings, secret, port=plan.port)
    say(f"starting a virtual rack of {plan.devices} phones and the backend (logs: {folder})")
    rack = await family.start(rack_child, log_of(rack_child).write)
    backend = await family.start(backend_child, log_of(backend_child).write)
    places, address = await asyncio.gather(rack.ready(), backend.ready())
    agent_child = agent_plan(
        plan.settings,
        secret,
        node_id=NODE_ID_DEFAULT,
        backend_url=address["url"],
        adb_server=places["adb"],
        vendor_url=place_of("vendor", places),
    )
    agent = await family.start(agent_child, log_of(agent_child).write)
    await agent.ready()
    site = Site(address["url"], place_of("control", places) or "")
    say(f"console: {site.url}")
    if not plan.exit_when_done:
        say(f"its phones: muster sim list --control {site.control}")
    return site


async def _show(plan: DemoPlan, site: Site) -> int:
    async with MusterClient(site.url) as client:
        device_ids = await _phones_when_online(client, plan, site.control)
        target = Target(node_ids=[NODE_ID_DEFAULT], device_ids=device_ids)
        request = CreateRun(workflow_id=plan.workflow, video_id=plan.video, trigger=RunTrigger.MANUAL, target=target)
        started = time.monotonic()
        created = await start_run(client, request)
        for warning in created.warnings:
            say(f"warning: {warning.field}: {warning.message}")
        detail = await watch_run(client, created.run_id)
        _tell_result(plan, site.url, detail, time.monotonic() - started)
    if not plan.exit_when_done:
        say("staying up; Ctrl-C stops everything")
        await asyncio.Event().wait()
    return exit_status(detail.status)


async def _phones_when_online(client: MusterClient, plan: DemoPlan, control: str) -> list[str]:
    """The rack's own phones (a folder may know those of an earlier demo), when those that are to come are Online."""
    of_rack = {str(phone["device_id"]) for phone in (await ask_rack(control, "GET", "/phones"))["phones"]}
    began = changed = time.monotonic()
    count = 0
    with console(stderr=True).status("waiting for the phones") as status:
        while True:
            listed = await all_devices(client, node_id=NODE_ID_DEFAULT, online_only=True)
            online, now = len(of_rack & {device.device_id for device in listed.devices}), time.monotonic()
            count, changed = (online, now) if online != count else (count, changed)
            if count == len(of_rack) or (plan.profile is not None and now - changed > SETTLE_SEC):
                say(f"{count} of {plan.devices} phones online")
                return sorted(of_rack)
            if now - began > ONLINE_SEC_MAX:
                raise CommandFailed(f"only {count} of {plan.devices} phones came online within {ONLINE_SEC_MAX:g} s")
            status.update(f"{count} of {plan.devices} phones online")
            await asyncio.sleep(_LOOK_SEC)


def _tell_result(plan: DemoPlan, url: str, run: RunDetail, took_sec: float) -> None:
    if plan.json:
        tell_json(as_document(run))
    else:
        tell_tasks(run.tasks)
        tell(f"{run.status}: {counts_text(run.counts)} in {took_sec:.1f} s")
    say(f"pictures: {_pictures(plan)}")
    say(f"console:  {url}/runs/{clean(run.run_id)}")


def _pictures(plan: DemoPlan) -> Path:
    return plan.settings.data / "objects" / BUCKET / encode_part(plan.video or NO_VIDEO) / NODE_ID_DEFAULT
