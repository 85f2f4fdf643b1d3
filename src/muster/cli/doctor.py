"""`muster doctor`: what this PC needs, checked one by one, each with what to do when it is not there."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Final

import typer

from muster.cli.asking import JsonOption, UrlOption, settings_with
from muster.cli.check_backend import check_backend, check_nodes, check_secret
from muster.cli.check_node import check_agent, check_disk, check_outbox, check_permissions, check_secrets
from muster.cli.check_phones import check_adb_program, check_adb_server, check_vendor_tool
from muster.cli.failing import DONE
from muster.cli.finding import Check, Finding, counted
from muster.cli.output import clean, console, tell_json
from muster.runtime.logs import configure_logs
from muster.runtime.masking import hide_passwords
from muster.runtime.settings import Settings

app = typer.Typer(add_completion=False)

CHECK_SEC_MAX: Final = 20.0
EXIT_UNWELL: Final = 1
_REFUSED: Final = re.compile(r"\[(?:Errno|WinError) \d+\] Connect call failed \([^)]*\)|All connection attempts failed")
_STYLES: Final = {"ok": "green", "warning": "yellow", "bad": "bold red"}
_ON_NODE: Final[tuple[tuple[str, Check], ...]] = (
    ("agent", check_agent),
    ("adb program", check_adb_program),
    ("adb server", check_adb_server),
    ("vendor tool", check_vendor_tool),
    ("secrets", check_secrets),
    ("outbox", check_outbox),
)
_EVERYWHERE: Final[tuple[tuple[str, Check], ...]] = (
    ("permissions", check_permissions),
    ("disk", check_disk),
    ("backend", check_backend),
)


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
    """Checks adb, phones, vendor tool, backend, clocks, disk, secrets and permissions, and says what to do.

    It changes nothing and may be run at any time, beside a working agent too. Exit status 0: nothing is bad
    (there may be warnings); 1: something is.

    Example: muster doctor --node --vendor-url none
    """
    settings = settings_with(MUSTER_DATA=data, ADB_SERVER=adb_server, VENDOR_WS_URL=vendor_url, MUSTER_URL=url)
    # What the parts log of their troubles, the findings tell; stdout is the answer's alone.
    configure_logs(level="error")
    # As it is from everywhere: whoever reads it may stand elsewhere.
    settings = replace(settings, data=settings.data.absolute())
    both = backend == node
    findings = asyncio.run(examine(settings, node=node or both, backend=backend or both))
    if json:
        tell_json([asdict(finding) for finding in findings])
    else:
        _tell(findings)
    raise typer.Exit(EXIT_UNWELL if any(finding.verdict == "bad" for finding in findings) else DONE)


async def examine(settings: Settings, *, node: bool, backend: bool) -> list[Finding]:
    """Everything at the same time, told in a fixed order."""
    checks = [*(_ON_NODE if node else ()), *_EVERYWHERE, *((("node secret", check_secret),) if node else ())]
    if backend or settings.node_id:
        checks.append(("nodes", check_nodes))
    found = await asyncio.gather(*(_one(name, check, settings) for name, check in checks))
    return [replace(finding, detail=plain(finding.detail)) for findings in found for finding in findings]


def plain(text: str) -> str:
    """Without asyncio's way of saying that nobody listens, and without the password of an address."""
    return _REFUSED.sub("nothing listens there", hide_passwords(text))


async def _one(name: str, check: Check, settings: Settings) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(CHECK_SEC_MAX):
            return await check(settings)
    except TimeoutError:
        return [Finding(name, "bad", f"gave no answer within {CHECK_SEC_MAX:g} s", "see whether it hangs; restart it")]


def _tell(findings: list[Finding]) -> None:
    from rich.text import Text

    out = console()
    width = max(len(finding.check) for finding in findings) + 2
    for finding in findings:
        head = Text(f"{finding.verdict:<8}", style=_STYLES[finding.verdict])
        out.print(head, Text(f"{finding.check:<{width}}{clean(finding.detail)}"), soft_wrap=True)
        if finding.advice:
            out.print(Text(f"{'':<9}{'':<{width}}→ {clean(finding.advice)}", style="bold"), soft_wrap=True)
    out.print()
    out.print(Text(_summary(findings), style=_STYLES[_worst(findings)]), soft_wrap=True)


def _worst(findings: Sequence[Finding]) -> str:
    verdicts = {finding.verdict for finding in findings}
    return next(verdict for verdict in ("bad", "warning", "ok") if verdict in verdicts)


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.verdict for finding in findings)
    warnings = counted(counts["warning"], "warning")
    if counts["bad"]:
        first = next(finding for finding in findings if finding.verdict == "bad")
        return f"{counts['bad']} bad, {warnings}. Begin with: {first.check}"
    return f"Nothing is bad; {warnings}." if counts["warning"] else "All is well."
