"""`muster demo` as a person runs it: one command, twenty phones, one picture of each."""

import io
import json
import os
import re
import stat
from pathlib import Path

import pytest
from PIL import Image
from tests.support.processes import Finished, muster, run_muster

pytestmark = [pytest.mark.system, pytest.mark.timeout(400), pytest.mark.xdist_group("processes")]

VIDEO = "dQw4w9WgXcQ"


def pictures(data: Path, run_id: str, video: str = VIDEO) -> dict[str, Path]:
    """The pictures of a run by device, at the place of R5."""
    root = data / "objects" / "artifacts" / video / "PC-01"
    found = {path.parent.parent.name: path for path in root.glob(f"*/{run_id}/*.png")}
    assert all(re.fullmatch(r"\d{10}", path.stem) for path in found.values()), "named by epoch seconds"
    return found


def assert_run_succeeded_with_a_picture_of_each(finished: Finished, data: Path, devices: int) -> None:
    assert finished.status == 0, finished.stderr
    run = json.loads(finished.stdout)
    assert (run["status"], run["counts"]["succeeded"]) == ("completed", devices)
    shots = pictures(data, run["run_id"])
    assert sorted(shots) == sorted(task["device_id"] for task in run["tasks"])
    contents = [path.read_bytes() for path in shots.values()]
    for content in contents:
        Image.open(io.BytesIO(content)).load()
    assert len(set(contents)) == devices, "every phone's picture is its own"


async def test_the_demo_runs_twenty_phones_and_a_second_time_on_the_same_data(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    arguments = ["demo", "--exit", "--json", "--data", str(data), "--port", "0"]
    first = await run_muster(*arguments, cwd=tmp_path)
    assert_run_succeeded_with_a_picture_of_each(first, data, 20)
    assert str(data / "objects" / "artifacts" / VIDEO / "PC-01") in first.stderr
    if os.name == "posix":
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
    second = await run_muster(*arguments, cwd=tmp_path)
    assert_run_succeeded_with_a_picture_of_each(second, data, 20)


async def test_two_demos_with_data_of_their_own_do_not_disturb_each_other(tmp_path: Path) -> None:
    waiting = ["demo", "--devices", "2", "--port", "0", "--data"]
    async with muster(*waiting, str(tmp_path / "one"), cwd=tmp_path) as one:
        await one.wait_for_line("staying up", limit_sec=170)
        ran = await run_muster(
            "demo", "--devices", "3", "--exit", "--json", "--port", "0", "--data", str(tmp_path / "two"), cwd=tmp_path
        )
        assert_run_succeeded_with_a_picture_of_each(ran, tmp_path / "two", 3)
        refused = await run_muster(*waiting, str(tmp_path / "one"), cwd=tmp_path)
        assert refused.status == 2
        assert re.fullmatch(r"muster: .* is in use by .*--data\n", refused.stderr)
        one.interrupt()
        assert await one.ended() == 0
    assert "Traceback" not in one.output


async def test_an_unknown_workflow_ends_the_demo_with_2(tmp_path: Path) -> None:
    ran = await run_muster(
        "demo",
        "--devices",
        "1",
        "--workflow",
        "no_such",
        "--exit",
        "--port",
        "0",
        "--data",
        str(tmp_path / "d"),
        cwd=tmp_path,
    )
    assert ran.status == 2
    assert "workflow_id" in ran.stderr.splitlines()[-1]
