"""`muster doctor`: what this PC needs, checked one by one, each with what to do when it is not there."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from muster.adb.binary import AdbBinaryMissing, find_adb
from muster.adb.client import AdbClient
from muster.adb.errors import AdbError, AdbServerGone
from muster.agent.journal_tables import dead_letters
from muster.cli.asking import JsonOption, UrlOption, settings_with
from muster.cli.failing import DONE
from muster.cli.output import clean, console, tell_json
from muster.client.http import ApiError, BackendError, BackendUnreachable, MusterClient
from muster.runtime.settings import Settings
from muster.vendor.errors import VendorError
from muster.vendor.pool import VendorPool
from muster.vendor.tool import VendorTool

app = typer.Typer(add_completion=False)

DISK_BAD_BYTES: Final = 200 * 1024 * 1024
DISK_LOW_BYTES: Final = 2 * 1024 * 1024 * 1024
CHECK_SEC_MAX: Final = 15.0
DEAD_LETTERS_SHOWN: Final = 1
EXIT_UNWELL: Final = 1

Verdict = Literal["ok", "warning", "bad"]
_STYLES: Final = {"ok": "green", "warning": "yellow", "bad": "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check. `advice`: what to do about it; empty when all is well."""

    check: str
    verdict: Verdict
    detail: str
    advice: str = ""


@app.command()
def doctor(
    backend: Annotated[bool, typer.Option("--backend", help="Only what the backend needs.")] = False,
    node: Annotated[bool, typer.Option("--node", help="Only what the agent of this PC needs.")] = False,
    data: Annotated[Path | None, typer.Option("--data", help="Data folder to look at. (default: .muster)")] = None,
    adb_server: Annotated[str | None, typer.Option("--adb-server", help="HOST:PORT.")] = None,
    vendor_url: Annotated[str | None, typer.Option("--vendor-url", help="Address of the vendor tool, or none.")] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Checks adb, vendor tool, backend and disk, and says what to do. Exit status 0: all is well enough; 1: it is not.

    Example: muster doctor --node --vendor-url none
    """
    settings = settings_with(MUSTER_DATA=data, ADB_SERVER=adb_server, VENDOR_WS_URL=vendor_url, MUSTER_URL=url)
    both = backend == node
    findings = asyncio.run(_examine(settings, node=node or both, backend=backend or both))
    if json:
        tell_json([asdict(finding) for finding in findings])
    else:
        _tell(findings)
    raise typer.Exit(EXIT_UNWELL if any(finding.verdict == "bad" for finding in findings) else DONE)


async def _examine(settings: Settings, *, node: bool, backend: bool) -> list[Finding]:
    checks: list[tuple[str, Callable[[Settings], Awaitable[Finding]]]] = []
    if node:
        checks += [("adb program", _adb_program), ("adb server", _adb_server), ("vendor tool", _vendor_tool)]
        checks += [("secrets", _secrets)]
        checks += [("outbox", _outbox)]
    checks += [("backend", _backend), ("node", _node)] if backend or settings.node_id else [("backend", _backend)]
    checks += [("disk", _disk)]
    return list(await asyncio.gather(*(_one(name, check, settings) for name, check in checks)))


async def _one(name: str, check: Callable[[Settings], Awaitable[Finding]], settings: Settings) -> Finding:
    try:
        async with asyncio.timeout(CHECK_SEC_MAX):
            return await check(settings)
    except TimeoutError:
        return Finding(name, "bad", f"gave no answer within {CHECK_SEC_MAX:g} s", "see whether it hangs; restart it")


async def _adb_program(_settings: Settings) -> Finding:
    try:
        return Finding("adb program", "ok", str(find_adb()))
    except AdbBinaryMissing as error:
        return Finding("adb program", "bad", str(error), "install Android's platform-tools, or pip install adbutils")


async def _adb_server(settings: Settings) -> Finding:
    address = settings.adb_server
    client = AdbClient(address.host, address.port)
    try:
        version = await client.version()
        states = Counter(str(phone.state) for phone in await client.devices())
    except AdbServerGone as error:
        return Finding("adb server", "warning", str(error), "nothing to do if it is on this PC: the agent starts it")
    except AdbError as error:
        return Finding("adb server", "bad", f"{address}: {error}", "another program has this port; see ADB_SERVER")
    phones = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "no phones"
    detail = f"version {version} at {address}: {phones}"
    if states["unauthorized"]:
        return Finding("adb server", "warning", detail, "accept the USB debugging prompt on the unauthorized phones")
    if states["offline"]:
        return Finding("adb server", "warning", detail, "reconnect the offline phones")
    if not states:
        return Finding("adb server", "warning", detail, "connect phones and switch on USB debugging")
    return Finding("adb server", "ok", detail)


async def _vendor_tool(settings: Settings) -> Finding:
    if settings.vendor_url is None:
        return Finding("vendor tool", "ok", "turned off: devices by adb, pictures by screencap")
    try:
        async with VendorPool(settings.vendor_url, size=1) as pool:
            listed = await VendorTool(pool).list()
    except VendorError as error:
        advice = "start the vendor tool, or turn it off with --vendor-url none (adb alone then)"
        return Finding("vendor tool", "warning", str(error), advice)
    return Finding("vendor tool", "ok", f"{len(listed.devices)} phones at {settings.vendor_url}")


async def _outbox(settings: Settings) -> Finding:
    return await asyncio.to_thread(look_at_outbox, settings.data / "agent" / "journal.sqlite3")


def look_at_outbox(path: Path) -> Finding:
    """What the backend refused for good is kept, and told here alone (spec/03)."""
    if not path.exists():
        return Finding("outbox", "ok", "no agent has worked here yet")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as journal:
            (waiting,) = journal.execute("SELECT COUNT(*) FROM outbox").fetchone()
            refused = dead_letters(journal, DEAD_LETTERS_SHOWN)
    except sqlite3.Error as error:
        return Finding("outbox", "warning", f"{path} cannot be read: {error}", "see who else holds it")
    if refused:
        last = refused[0]
        detail = f"events were refused for good, the last with {last.status}: {last.message}"
        return Finding("outbox", "warning", detail, "compare the versions of agent and backend; report it")
    return Finding("outbox", "ok", f"{waiting} events on their way, none refused")


async def _secrets(settings: Settings) -> Finding:
    from muster.agent.secrets import FILE_NAME, SecretsError, load_secrets

    given = settings.secrets_file
    path = given or settings.data / FILE_NAME
    try:
        known = await asyncio.to_thread(load_secrets, path, must_exist=given is not None)
    except SecretsError as error:
        return Finding("secrets", "bad", str(error), "the agent does not start like this; mend the file")
    count = len(known.values())
    return Finding("secrets", "ok", f"{count} in {path}" if count else "none; a recipe's {{secret.NAME}} would fail")


async def _backend(settings: Settings) -> Finding:
    try:
        async with MusterClient(settings.url, secret=settings.token) as client:
            await client.healthz()
            await client.readyz()
    except BackendUnreachable as error:
        advice = "start it with `muster up` or `muster backend`, or name it with --url or MUSTER_URL"
        return Finding("backend", "bad", str(error), advice)
    except ApiError as error:
        return Finding("backend", "bad", f"{settings.url}: {error}", "see to its database and object store")
    return Finding("backend", "ok", f"{settings.url} is ready")


async def _node(settings: Settings) -> Finding:
    try:
        async with MusterClient(settings.url, secret=settings.token) as client:
            nodes = (await client.nodes()).nodes
    except BackendError as error:
        return Finding("nodes", "warning", f"not known: {error}", "see to the backend first")
    wanted = [node for node in nodes if settings.node_id in (None, node.node_id)]
    if not wanted:
        return Finding("nodes", "warning", "no node has reported yet", "start one with `muster agent` or `muster up`")
    detail = ", ".join(f"{node.node_id} {node.status}" for node in wanted)
    if all(node.status == "online" for node in wanted):
        return Finding("nodes", "ok", detail)
    return Finding("nodes", "warning", detail, "look at the agent's log on that PC")


async def _disk(settings: Settings) -> Finding:
    return await asyncio.to_thread(_look_at_disk, settings.data)


def _look_at_disk(folder: Path) -> Finding:
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"muster")
    except OSError as error:
        return Finding("disk", "bad", f"cannot write in {place}: {error.strerror}", "give another folder with --data")
    free = shutil.disk_usage(place).free
    detail = f"{free / 1024**3:.1f} GB free for {folder}"
    if free < DISK_BAD_BYTES:
        return Finding("disk", "bad", detail, "make room: the agent takes no run when the disk is full")
    if free < DISK_LOW_BYTES:
        return Finding("disk", "warning", detail, "make room soon: pictures wait here while the store is away")
    return Finding("disk", "ok", detail)


def _tell(findings: list[Finding]) -> None:
    from rich.text import Text

    out = console()
    for finding in findings:
        head = Text(f"{finding.verdict:<8}", style=_STYLES[finding.verdict])
        out.print(head, Text(f"{finding.check:<12} {clean(finding.detail)}"), soft_wrap=True)
        if finding.advice:
            out.print(Text(f"{'':<9}{'':<12} → {finding.advice}"), soft_wrap=True)
