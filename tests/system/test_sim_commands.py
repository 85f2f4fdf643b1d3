"""`muster sim set` changes a phone of a running rack in every way its control API knows."""

import json
import re
from pathlib import Path

import pytest
from tests.support.processes import muster, run_muster

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("processes")]


async def test_a_running_rack_is_changed_from_the_command_line(tmp_path: Path) -> None:
    options = ["--devices", "2", "--latency", "none", "--speed", "2", "--adb-server", "127.0.0.1:0"]
    ports = ["--vendor-port", "0", "--control-port", "0"]
    async with muster("sim", *options, *ports, cwd=tmp_path) as rack:
        ready = await rack.wait_for_line(r"muster sim ready: .*control (?P<control>\S+)")
        control = ["--control", ready["control"], "--json"]
        phones = json.loads((await run_muster("sim", "list", *control, cwd=tmp_path)).stdout)["phones"]
        name = phones[0]["device_id"]
        changes = ["--battery", "9", "--unplugged", "--free-bytes", "0", "--awake", "--dialog", "update"]
        stories = ["--sign-in", '{"always_fails": true}', "--accident", '{"what": "hang"}']
        changed = await run_muster("sim", "set", name, *changes, *stories, *control, cwd=tmp_path)
        assert changed.status == 0, changed.stderr
        assert json.loads(changed.stdout)["battery"] == 9
        wrong = await run_muster("sim", "set", name, "--dialog", "party", *control, cwd=tmp_path)
        assert wrong.status == 2
        assert re.search("dialog.*low_battery", wrong.stderr)
        broken = await run_muster("sim", "set", name, "--sign-in", "{", *control, cwd=tmp_path)
        assert broken.status == 2
        assert "--sign-in" in broken.stderr
