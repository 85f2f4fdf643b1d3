import asyncio
import json
import re
from pathlib import Path

import pytest
from tests.support.backend_thread import SECRET
from tests.support.commands import Command

from muster.client.http import MusterClient
from muster.contracts.events import NodeHeartbeat, NodeTrouble, envelope
from muster.domain.failure import FailureReason
from muster.runtime.clock import SystemClock
from muster.runtime.ids import id_source

RECIPE = {"workflow_id": "mine", "name": "Mine", "steps": [{"id": "look", "kind": "adb", "command": "getprop"}]}


def recipe_file(folder: Path, document: object) -> str:
    path = folder / "recipe.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_phones_are_listed_as_online_or_offline_with_their_cause(
    muster: Command, backend: str, phones: list[str]
) -> None:
    ran = muster("devices", "--url", backend)
    assert ran.status == 0
    assert [line.split()[:3] for line in ran.stdout.splitlines()[1:4]] == [
        ["PHONE1", "PC-01", "online"],
        ["PHONE2", "PC-01", "online"],
        ["PHONE3", "PC-01", "offline"],
    ]
    assert "2 online, 1 offline" in ran.stdout


def test_what_a_phone_says_cannot_move_the_cursor(muster: Command, backend: str, phones: list[str]) -> None:
    assert "\x1b" not in muster("devices", "--url", backend).stdout


def test_only_online_phones_of_a_node_on_request(muster: Command, backend: str, phones: list[str]) -> None:
    ran = muster("devices", "--url", backend, "--online", "--node", "PC-01", "--json")
    assert [device["device_id"] for device in ran.document["devices"]] == ["PHONE1", "PHONE2"]


def test_a_misspelt_node_is_no_node_without_phones(muster: Command, backend: str, phones: list[str]) -> None:
    ran = muster("devices", "--url", backend, "--node", "PC-99", "--json")
    assert (ran.status, ran.stdout) == (2, "")
    assert ran.stderr == "muster: no node PC-99 has ever reported; `muster nodes` shows them\n"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["device", "show", "GHOST"], "no device GHOST was ever seen; `muster devices` shows them"),
        (["device", "reboot", "GHOST"], "no device GHOST was ever seen; `muster devices` shows them"),
        (["workflow", "show", "ghost"], "there is no such workflow or version; `muster workflow list` shows them"),
        (
            ["run", "start", "ghost"],
            "There is no such workflow (workflow_id: there is no workflow ghost); `muster workflow list` shows them",
        ),
        (["run", "start", "not one"], "workflow 'not one': letters, digits, dots, dashes; `muster workflow list` "),
        (["run", "start", "tour", "--param", "a b=c"], "--param 'a b': a key is a letter or _, then letters, "),
        (["run", "start", "tour", "--node", "a b"], "--node 'a b': `muster nodes` shows what there is"),
        (["run", "start", "tour", "--max-attempts", "99"], "Invalid value for '--max-attempts'"),
        (["run", "start", "bootstrap_only_v1", "--device", "GHOST"], "No device matches the target ("),
    ],
)
def test_what_is_not_there_is_named_with_what_shows_it(
    muster: Command, backend: str, phones: list[str], command: list[str], told: str
) -> None:
    ran = muster(*command, "--url", backend)
    assert (ran.status, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"muster: {told}")
    assert len(ran.stderr.splitlines()) == 1


def test_one_phone_is_shown_and_its_node_asked_to_act(muster: Command, backend: str, phones: list[str]) -> None:
    shown = muster("device", "show", "PHONE3", "--url", backend)
    assert (shown.status, "offline" in shown.stdout, "\x1b" in shown.stdout) == (0, True, False)
    for action in ("reboot", "reconnect", "quarantine", "release"):
        ran = muster("device", action, "PHONE1", "--url", backend, "--json")
        assert (ran.status, ran.document["node_id"], ran.document["action"]) == (0, "PC-01", action)
    told = muster("device", "reboot", "PHONE1", "--url", backend)
    assert told.stdout.startswith("PC-01 is asked to reboot PHONE1 (command ")
    muster("device", "quarantine", "PHONE2", "--reason", "screen is broken", "--url", backend)
    history = muster("device", "show", "PHONE2", "--url", backend).stdout.splitlines()[-1].split()
    assert history[2:7] == ["quarantine", "waiting", "screen", "is", "broken"]
    terms = ("--for", "kim", "--minutes", "30", "--reason", "debugging")
    reserved = muster("device", "reserve", "PHONE2", *terms, "--url", backend, "--json")
    assert (reserved.status, reserved.document["action"]) == (0, "reserve")
    (newest, _) = muster("device", "show", "PHONE2", "--url", backend, "--json").document["actions"]
    assert newest["detail"] == {"owner": "kim", "minutes": 30, "reason": "debugging"}
    missing = muster("device", "reboot", "GHOST", "--url", backend)
    assert (missing.status, "GHOST" in missing.stderr) == (2, True)


def test_nodes_are_listed(muster: Command, backend: str, phones: list[str]) -> None:
    assert [node["node_id"] for node in muster("nodes", "--url", backend, "--json").document["nodes"]] == ["PC-01"]
    columns, row = muster("nodes", "--url", backend).stdout.splitlines()
    cells = dict(zip(columns.split(), row.split(), strict=False))
    assert cells | {"NODE": "PC-01", "STATUS": "online", "PHONES": "2", "QUARANTINED": "0", "RESERVED": "0"} == cells


def test_what_is_wrong_with_a_node_stands_below_the_table(muster: Command, backend: str) -> None:
    assert "no node has reported yet" in muster("nodes", "--url", backend).stderr
    full = NodeTrouble(reason="disk_full", message="12 MB are free", stops_work=True)
    slow = NodeTrouble(reason="vendor_gone", message="the vendor tool does not answer")
    heartbeat = NodeHeartbeat(
        node_id="PC-01", timestamp=1, connected_devices_count=5, running_devices_count=0, queue_devices_count=0,
        vendor_ws_ok=False, agent_version="test", outbox_depth=0, devices=[], degraded=True,
        troubles=[full, slow], quarantined_devices_count=2, reserved_devices_count=1, dead_letters=3,
    )  # fmt: skip

    async def report() -> None:
        async with MusterClient(backend, secret=SECRET) as client:
            await client.callback([envelope(id_source(SystemClock())(), heartbeat)])

    asyncio.run(report())
    columns, row, *troubles = muster("nodes", "--url", backend).stdout.splitlines()
    cells = dict(zip(columns.split(), row.split(), strict=False))
    assert (cells["STATUS"], cells["QUARANTINED"], cells["RESERVED"], cells["REFUSED"]) == ("degraded", "2", "1", "3")
    assert troubles == ["PC-01: 12 MB are free", "PC-01: the vendor tool does not answer"]


def test_a_run_is_started_listed_and_shown_by_the_beginning_of_its_id(
    muster: Command, backend: str, phones: list[str]
) -> None:
    started = muster("run", "start", "bootstrap_only_v1", "--url", backend, "--device", "PHONE1", "--json")
    assert started.status == 0
    run_id = started.document["run_id"]
    listed = muster("run", "list", "--url", backend)
    assert run_id[:13] in listed.stdout
    shown = muster("run", "show", run_id[:13], "--url", backend, "--json")
    assert (shown.status, shown.document["run_id"]) == (0, run_id)
    assert [task["device_id"] for task in shown.document["tasks"]] == ["PHONE1"]
    assert "PHONE1" in muster("run", "show", run_id, "--url", backend).stdout


def test_a_run_is_stopped_by_the_beginning_of_its_id_and_once(muster: Command, backend: str, phones: list[str]) -> None:
    started = muster("run", "start", "bootstrap_only_v1", "--url", backend, "--device", "PHONE1", "--json")
    run_id = started.document["run_id"]
    ran = muster("run", "stop", run_id[:20], "--url", backend)
    assert (ran.status, ran.stdout) == (0, f"run {run_id} stopped: 1 cancelled at once\n")
    told = muster("run", "stop", run_id, "--url", backend)
    assert (told.status, told.stdout) == (0, f"run {run_id} has ended already: stopped\n")
    again = muster("run", "stop", run_id, "--url", backend, "--json").document
    assert (again["status"], again["cancelled"], again["nodes"]) == ("stopped", 0, [])
    assert muster("run", "stop", "0", "--url", backend + "1").status == 2


def test_watching_a_run_that_could_only_skip_ends_with_1_and_tells_why(
    muster: Command, backend: str, phones: list[str]
) -> None:
    ran = muster("run", "start", "bootstrap_only_v1", "--url", backend, "--device", "PHONE3", "--watch")
    assert ran.status == 1
    assert "skipped_offline" in ran.stdout
    assert "PHONE3" in ran.stderr


def test_a_watched_runs_document_is_alone_on_stdout(muster: Command, backend: str, phones: list[str]) -> None:
    ran = muster("run", "start", "bootstrap_only_v1", "--url", backend, "--device", "PHONE3", "--watch", "--json")
    assert (ran.status, ran.document["status"]) == (1, "completed_with_errors")
    again = muster("run", "watch", ran.document["run_id"][:20], "--url", backend, "--json")
    assert (again.status, again.document["run_id"]) == (1, ran.document["run_id"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "start", "no_such_workflow"], "workflow_id"),
        (["run", "start", "bootstrap_only_v1", "--device", "NOBODY"], "target"),
        (["run", "start", "bootstrap_only_v1", "--timeout", "adb=1"], "timeoutOverrides"),
        (["run", "start", "bootstrap_only_v1", "--timeout", "adb=soon"], "whole number"),
        (["run", "start", "bootstrap_only_v1", "--param", "novalue"], "KEY=VALUE"),
        (["run", "start", "bootstrap_only_v1", "--param", "A=1", "--param", "A=2"], "twice"),
        (["run", "start", "bootstrap_only_v1", "--max-attempts", "99"], "--max-attempts"),
        (["run", "start", "../etc"], "workflow .\\.\\./etc.: "),
        (["run", "show", "ffffffff"], "no run begins with"),
        (["run", "show", "ffffffff-ffff-7fff-bfff-ffffffffffff"], "run"),
        (["run", "show", "not-an-id!"], "no run id"),
        (["workflow", "show", "no_such_workflow"], "workflow"),
        (["workflow", "apply", "no-such-file.json"], "cannot read"),
    ],
)
def test_bad_input_ends_with_2_and_one_line_that_says_why(
    muster: Command, backend: str, phones: list[str], arguments: list[str], says: str
) -> None:
    ran = muster(*arguments, "--url", backend)
    assert (ran.status, ran.stdout) == (2, "")
    assert ran.stderr.startswith("muster: ")
    assert len(ran.stderr.splitlines()) == 1
    assert re.search(says, ran.stderr), ran.stderr


def test_a_beginning_that_several_runs_share_is_refused(muster: Command, backend: str, phones: list[str]) -> None:
    for _ in range(2):
        muster("run", "start", "bootstrap_only_v1", "--url", backend)
    ran = muster("run", "show", "0", "--url", backend)
    assert ran.status == 2
    assert "several runs" in ran.stderr


def test_seed_workflows_are_listed_and_shown_step_by_step(muster: Command, backend: str) -> None:
    listed = muster("workflow", "list", "--url", backend, "--json").document["workflows"]
    assert {"bootstrap_only_v1", "login_settings_screenshot_v1", "demo_20steps_v1"} <= {
        w["workflow_id"] for w in listed
    }
    shown = muster("workflow", "show", "demo_20steps_v1", "--url", backend)
    assert (shown.status, "version 1" in shown.stdout) == (0, True)


def test_a_recipe_is_validated_applied_and_given_the_next_version(
    muster: Command, backend: str, tmp_path: Path
) -> None:
    file = recipe_file(tmp_path, RECIPE)
    assert muster("workflow", "validate", file, "--url", backend).status == 0
    assert muster("workflow", "apply", file, "--url", backend, "--json").document["version"] == 1
    file = recipe_file(tmp_path, RECIPE | {"name": "Mine, better"})
    assert muster("workflow", "apply", file, "--url", backend, "--json").document["version"] == 2
    assert muster("workflow", "show", "mine", "--url", backend, "--json").document["versions"] == [1, 2]


def test_every_error_of_a_recipe_is_told_at_once(muster: Command, backend: str, tmp_path: Path) -> None:
    steps = [{"id": "a", "kind": "adb"}, {"id": "a", "kind": "dance"}, {"id": "c", "kind": "upload", "source": "x"}]
    ran = muster("workflow", "validate", recipe_file(tmp_path, RECIPE | {"steps": steps}), "--url", backend)
    assert ran.status == 2
    assert len([line for line in ran.stdout.splitlines() if line.startswith("error: steps[")]) >= 3


def test_a_yaml_recipe_is_as_good_as_json(muster: Command, backend: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("workflow_id: mine\nsteps:\n  - {id: look, kind: adb, command: getprop}\n")
    assert muster("workflow", "apply", str(path), "--url", backend).status == 0


def test_the_doctor_finds_a_backend_that_is_well(muster: Command, backend: str, phones: list[str]) -> None:
    ran = muster("doctor", "--backend", "--url", backend, "--json")
    assert ran.status == 0
    assert {finding["check"]: finding["verdict"] for finding in ran.document}["backend"] == "ok"


def test_tables_fit_80_columns(
    muster: Command, backend: str, phones: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    muster("run", "start", "login_settings_screenshot_v1", "--url", backend)
    for command in (["devices"], ["nodes"], ["run", "list"], ["workflow", "list"]):
        ran = muster(*command, "--url", backend)
        assert max(len(line) for line in ran.stdout.splitlines()) <= 80, command


def test_every_reason_of_failure_has_room_in_one_line() -> None:
    assert max(len(reason) for reason in FailureReason) <= 30


def test_yaml_under_another_name_is_told_why_it_was_read_as_json(muster: Command, backend: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.txt"
    path.write_text("workflow_id: mine\n")
    ran = muster("workflow", "validate", str(path), "--url", backend)
    assert ran.status == 2
    assert "read as JSON, for only a name in .yaml or .yml says YAML" in ran.stderr
