"""A real agent works with a secret: the phone gets it, and nothing that is kept or said anywhere holds it."""

import asyncio
import base64
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from tests.support.log_lines import wrong_lines
from tests.support.processes import SECRET, muster, run_muster

from muster.client.http import MusterClient
from muster.contracts.api import CreateRun, RunDetail

pytestmark = [pytest.mark.system, pytest.mark.timeout(300), pytest.mark.xdist_group("processes")]

CANARY = "canary's pass word/7f3a"
# Of the proxy in front of a backend, and of one in front of a vendor tool.
OF_ADDRESSES = "canary-in-an-address-9c1e"
LEAKY = {
    "workflow_id": "leaky",
    "defaultOnFailure": "continue",
    "steps": [
        {"id": "echo", "kind": "adb", "command": "echo {{secret.PASSWORD}}; echo {{secret.PASSWORD}} >&2"},
        {"id": "typed", "kind": "adb", "command": "input text {{secret.PASSWORD|input}}"},
        {"id": "fails", "kind": "adb", "command": "echo {{secret.PASSWORD}} >&2; exit 3"},
        {"id": "not-found", "kind": "adb", "command": "cat /sdcard/{{secret.PASSWORD}}"},
        {"id": "said", "kind": "adb", "command": "echo nothing"},
        {
            "id": "compared",
            "kind": "assert",
            "assert": {"step": "said", "output": {"equals": "{{secret.PASSWORD}} and more"}},
        },
        {"id": "stored", "kind": "adb", "command": "echo {{secret.PASSWORD}} > /sdcard/arrived"},
        {"id": "arrived", "kind": "adb", "command": "wc -c < /sdcard/arrived"},
        {
            "id": "told",
            "kind": "assert",
            "assert": {"step": "arrived", "output": {"matches": rf"^\s*{len(CANARY) + 1}$"}},
        },
    ],
}


def forms() -> list[bytes]:
    texts = {CANARY, CANARY.replace("'", "'\\''"), CANARY.replace(" ", "%s"), quote(CANARY), quote_plus(CANARY)}
    texts |= {shlex.quote(CANARY)[1:-1], json.dumps(CANARY)[1:-1], "pass word/7f3a", "pass%sword", "pass%20word"}
    texts |= {SECRET, OF_ADDRESSES, base64.b64encode(f"muster:{OF_ADDRESSES}".encode()).decode()}
    return [text.encode() for text in texts]


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_socket())


def leaks(path: Path) -> list[bytes]:
    """The lines of the file that hold a secret."""
    content = path.read_bytes()
    if not any(form in content for form in forms()):
        return []
    return [line[:2000] for line in content.split(b"\n") if any(form in line for form in forms())]


async def ended(client: MusterClient, run_id: str) -> RunDetail:
    async with asyncio.timeout(120):
        while True:
            run = await client.run(run_id)
            if run.status.is_terminal:
                return run
            await asyncio.sleep(0.05)


async def test_no_file_and_no_line_of_log_holds_a_secret_that_a_run_has_used(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    secrets = tmp_path / "mine.yaml"
    # The agent's own lines would name the recipe: only the mask over all of the log is between.
    named = {"PASSWORD": CANARY, "NAME": LEAKY["workflow_id"]}
    secrets.write_text(json.dumps({"node": named, "devices": {}}), encoding="utf-8")
    secrets.chmod(0o600)
    rack = ["--devices", "1", "--latency", "none", "--adb-server", "127.0.0.1:0", "--vendor-port", "0"]
    async with (
        muster("sim", *rack, "--control-port", "0", "--data", str(kept / "sim"), cwd=kept) as sim,
        muster("backend", "--port", "0", "--data", str(kept / "backend"), "--log-json", cwd=kept) as backend,
    ):
        adb = (await sim.wait_for_line(r"muster sim ready: .*adb server ([^,\s]+)"))[1]
        url = (await backend.wait_for_line(r"muster backend ready on (\S+)"))[1]
        options = ["--node-id", "PC-01", "--data", str(kept / "node"), "--adb-server", adb]
        options += ["--secrets", str(secrets), "--log-json"]
        places = {
            "BACKEND_URL": url.replace("//", f"//muster:{OF_ADDRESSES}@"),
            "MUSTER_URL": url.replace("//", f"//muster:{OF_ADDRESSES}@"),
            "VENDOR_WS_URL": f"ws://muster:{OF_ADDRESSES}@127.0.0.1:1",
        }

        async def said_by(*command: str) -> str:
            ran = await run_muster(*command, cwd=kept, environment=places)
            return f"muster {command[0]} ended with {ran.status}\n{ran.stdout}\n{ran.stderr}"

        async with (
            MusterClient(url, secret=SECRET) as client,
            muster("agent", *options, cwd=kept, environment=places) as agent,
        ):
            await agent.wait_for_line("muster agent PC-01 ready")
            await client.put_workflow("leaky", LEAKY)
            run = await ended(client, (await client.create_run(CreateRun(workflow_id="leaky"))).run_id)
            (task,) = run.tasks
            assert (task.status, task.failed_steps) == ("succeeded", ["fails", "not-found", "compared"])
            told = [run.model_dump_json(), (await client.nodes()).model_dump_json()]
            told += await asyncio.gather(
                said_by("run", "show", run.run_id, "--json"),
                said_by("devices", "--json"),
                said_by("nodes"),
                said_by("doctor", "--data", str(kept / "node"), "--adb-server", adb),
                said_by("agent", *options),
            )
            backend.process.kill()
            await agent.wait_for_line("Cannot take commands")
            told += await asyncio.gather(
                said_by("nodes"),
                said_by("doctor", "--data", str(kept / "node"), "--adb-server", adb),
                said_by("nodes", "--url", f"http://muster:{OF_ADDRESSES}@127.0.0.1:99999"),
                said_by("sim", "list", "--control", f"ftp://muster:{OF_ADDRESSES}@127.0.0.1"),
            )
            agent.process.kill()  # no tidying up: the journal keeps its write-ahead log
            await agent.ended()
        assert '"workflow_id": "***"' in agent.output and "leaky" not in agent.output
        speaks_of = {"run_ids": [run.run_id], "phones": [task.device_id]}
        wrong = wrong_lines(agent.lines, ready="muster agent PC-01 ready", of_every_line=["node_id"], **speaks_of)
        wrong += wrong_lines(backend.lines, ready="muster backend ready", of_every_line=[], **speaks_of)
        assert not wrong, "\n".join(wrong)
        (kept / "said.log").write_text("\n".join([agent.output, backend.output, sim.output]), encoding="utf-8")
        (kept / "told.txt").write_text("\n".join(told), encoding="utf-8")
    found = {path.name: leaks(path) for path in files_below(kept)}
    assert {name: lines for name, lines in found.items() if lines} == {}
    names = {path.name for path in files_below(kept)}
    assert {"journal.sqlite3", "muster.db", "said.log"} <= names, "it looked where it should"
    assert "***" in (kept / "said.log").read_text(encoding="utf-8"), "there was something to hide"
